"""Models as ordered tokenizers (`prow.ordered`), for generative models: one interface for all of them."""

from __future__ import annotations

import numpy as np

from . import api
from .coders.tiled import open_tokenizer
from .errors import InputError
from .external.model import ExternalModel
from .format.sequence import VOCABULARY
from .ordered import MAX_TILE, MAX_TOKENS, OrderedTokenizer
from .registry import find

_SIDE, _TOKENS = 64, 512
_EFFORT = 2  # sequences of many pictures are wanted
_SYMBOLS_A_BYTE = 4  # fewer than this in any file: the first guess at a size


def ordered_tokenizer(
    model: str = "default", *, side: int | None = None, tokens: int | None = None, device: str = "auto"
) -> OrderedTokenizer:
    """A model as an ordered tokenizer: squares of pixels to rows of integers, and any prefix of a row back to pixels.

    An ordered tokenizer that was imported or registered comes as it is. A model of the package has no tiles of one
    size: its rows are `Tokens.to_array` of a whole square picture, cut or filled with 0 to one length. Its `decode`
    takes sampled rows, too: what follows the first symbol that says nothing is left out.

    Args:
        side: px of a square, 64 by default. tokens: length of a row, 512 by default. Both for models of the package
            alone: others have their own. device: as in `encode`.

    Raises:
        InputError: sizes that the model does not have. ModelError: no such model.
    """
    found = find(model)
    if not isinstance(found, ExternalModel):
        return RowTokenizer(model, side or _SIDE, tokens or _TOKENS, device)
    for name, wanted, own in (("side", side, found.tile), ("tokens", tokens, found.tokens)):
        if wanted not in (None, own):
            raise InputError(f"{name} {wanted} came, model {model} has {own}")
    return open_tokenizer(found, device)


class RowTokenizer:
    """A model of the package at one size; see `ordered_tokenizer`."""

    alphabet = VOCABULARY

    def __init__(self, model: str, side: int, tokens: int, device: str) -> None:
        for name, value, most in (("side", side, MAX_TILE), ("tokens", tokens, MAX_TOKENS)):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise InputError(f"{name} {value!r} came, wanted a whole number from 1 to {most:,}")
        self.tile, self.tokens = side, tokens
        self._model, self._device = model, device

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        """As `OrderedTokenizer.encode`."""
        rows, waiting = np.zeros((len(tiles), self.tokens), np.int64), list(range(len(tiles)))
        size = max(32, self.tokens // _SYMBOLS_A_BYTE)
        while waiting:
            some = [np.ascontiguousarray(tiles[i]) for i in waiting]
            files = api.encode_many(some, bytes=size, model=self._model, effort=_EFFORT, device=self._device)
            short = []
            for i, data in zip(waiting, files, strict=True):
                row = api.read_tokens(data).to_array()[: self.tokens]
                rows[i, : len(row)] = row
                if len(row) < self.tokens and len(data) == size:  # there is more to say
                    short.append(i)
            waiting, size = short, 2 * size
        return rows

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """As `OrderedTokenizer.decode`, of any integers from 0 to 259."""
        pictures = []
        for row in np.asarray(tokens):
            said = api.tokens_from_array(row, width=self.tile, height=self.tile, model=self._model, strict=False)
            pictures.append(np.asarray(api.detokenize(said, device=self._device)))
        return np.stack(pictures)
