"""Models as ordered tokenizers (`prow.ordered`), for generative models: one interface for all of them."""

from __future__ import annotations

import numpy as np

from . import api
from .arguments import text, whole
from .coders.tiled import open_tokenizer
from .errors import InputError
from .external.model import ExternalModel
from .format.sequence import VOCABULARY
from .ordered import MAX_TILE, MAX_TOKENS, OrderedTokenizer
from .registry import find

_SIDE, _TOKENS = 64, 512
_HEADER = 32  # bytes of a file beside what its tokens take: enough for the smallest
_EFFORT = 1  # sequences of many pictures are wanted
_SYMBOLS_A_BYTE = 4  # fewer than this in nearly all files: the first guess at a size


def ordered_tokenizer(
    model: str = "default", *, side: int | None = None, tokens: int | None = None, device: str = "auto"
) -> OrderedTokenizer:
    """A model as an ordered tokenizer: squares of pixels to rows of integers, and any prefix of a row back to pixels.

    An ordered tokenizer that was imported or registered comes as it is. A model of the package has no tiles of one
    size: its rows are `Tokens.to_array` of a whole square picture, cut or filled with 0 to one length. Its `decode`
    takes sampled rows, too: what follows the first symbol that says nothing is left out.

    Args:
        side: px of a square, by default 64, or what the tokenizer has, which is then the only choice.
        tokens: length of a row, by default 512, or what the tokenizer has, of which fewer are its first ones.
        device: as in `encode`.

    Raises:
        InputError: sizes that the model does not have. ModelError: no such model.
    """
    found = find(text("model", model, "the name of one (see prow.models())"))
    if not isinstance(found, ExternalModel):
        return RowTokenizer(model, _SIDE if side is None else side, _TOKENS if tokens is None else tokens, device)
    if side is not None and whole("side", side, 1) != found.tile:
        raise InputError(f"side {side} came, model {model} has {found.tile}")
    tokenizer = open_tokenizer(found, device)
    return tokenizer if tokens in (None, tokenizer.tokens) else FirstTokens(tokenizer, tokens)


class FirstTokens:
    """The first few tokens of an ordered tokenizer."""

    def __init__(self, all_tokens: OrderedTokenizer, tokens: int) -> None:
        self.tile, self.alphabet = all_tokens.tile, all_tokens.alphabet
        self.tokens = whole("tokens", tokens, 1, all_tokens.tokens)
        self._all, self.decode = all_tokens, all_tokens.decode

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        """As `OrderedTokenizer.encode`."""
        return self._all.encode(tiles)[:, : self.tokens]


class RowTokenizer:
    """A model of the package at one size; see `ordered_tokenizer`."""

    alphabet = VOCABULARY

    def __init__(self, model: str, side: int, tokens: int, device: str) -> None:
        self.tile, self.tokens = whole("side", side, 1, MAX_TILE), whole("tokens", tokens, 1, MAX_TOKENS)
        self._model, self._device = model, device

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        """As `OrderedTokenizer.encode`."""
        rows, waiting = np.zeros((len(tiles), self.tokens), np.int64), list(range(len(tiles)))
        size = _HEADER + self.tokens // _SYMBOLS_A_BYTE
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
