"""Ordered tokenizers: a picture is cut into tiles, and each tile gets as many tokens as it is worth."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from ..backends.select import check_device
from ..coding.tiles import cut, join
from ..errors import InputError, ModelError, ProwWarning
from ..external.model import ExternalModel
from ..format.tiling import has_choice
from ..format.tokens import Tokens
from ..image import load_rgb
from ..options import Style
from ..ordered import OrderedTokenizer, decode_tiles, encode_tiles
from ..progress import tell
from ..search.allocate import in_order_of_gain
from ..search.rate import Stream
from .base import Aim

BATCH = 8  # tiles at once
GREY = 128  # of a tile without a token
MOST_EFFORT = 5  # beyond it models of the package follow gradients
_MEASURED = 3  # effort from which tiles are decoded to see what their tokens are worth


class TiledCoder:
    """See `Coder`. The tokenizer is opened when it is first needed."""

    def __init__(self, model: ExternalModel, device: str, style: Style) -> None:
        if style != "faithful":
            raise ModelError(f"style {style!r} came, model {model.name} has 'faithful' alone")
        check_device(device)
        self.model, self._device = model, device

    @property
    def tokenizer(self) -> OrderedTokenizer:
        return open_tokenizer(self.model, self._device)

    def encode(self, pictures: list[np.ndarray], aim: Aim) -> list[Stream]:
        if aim.effort > MOST_EFFORT:
            raise InputError(f"effort {aim.effort} came, model {self.model.name} wants 1 to {MOST_EFFORT}")
        if aim.focus is not None:
            raise InputError(f"focus came, model {self.model.name} has none")
        height, width = pictures[0].shape[:2]
        letterbox = aim.letterbox and has_choice(width, height, self.model.tile)
        tiles = [cut(self._opaque(pixels), self.model.tile, letterbox=letterbox) for pixels in pictures]
        values = np.split(self._tokens(np.concatenate(tiles)), len(pictures))
        size = {"width": width, "height": height, "letterbox": letterbox}
        return [
            self._stream(own, known, functools.partial(self._first, known, **size), aim)
            for own, known in zip(tiles, values, strict=True)
        ]

    def _first(self, values: np.ndarray, counts: np.ndarray, **size: Any) -> Tokens:
        """The first few tokens of each tile, by counts [tiles]."""
        known = np.where(np.arange(self.model.tokens) < counts[:, None], values, 0)
        return self.model.tokens_of(counts.astype(np.int16), known, **size)

    def _opaque(self, pixels: np.ndarray) -> np.ndarray:
        if pixels.shape[2] % 2 == 0 and pixels[:, :, -1].min() < 255:
            warnings.warn(f"model {self.model.name} keeps no alpha: put on white", ProwWarning, stacklevel=5)
        return load_rgb(pixels)

    def _stream(
        self, tiles: np.ndarray, values: np.ndarray, tokens_of: Callable[[np.ndarray], Tokens], aim: Aim
    ) -> Stream:
        """The stream of a picture, given its tiles, all of their tokens, and what makes tokens of counts."""
        model = self.model
        if aim.room is None:
            share = 1 + round((model.tokens - 1) * aim.quality / 100)
            tokens = tokens_of(np.full(len(tiles), share))
            return Stream(model.trimmed(tokens), tokens)
        even = self._filled(tokens_of(np.full(len(tiles), model.tokens)), aim.room)
        lengths = self._lengths(len(tiles), aim)
        if even.exhausted or not lengths:
            return even
        errors = self._errors(tiles, values, lengths)
        by_gain = self._by_gain([0, *lengths], errors, aim.room, tokens_of)
        return min(even, by_gain, key=lambda stream: _expected([0, *lengths], errors, stream.tokens))

    def _filled(self, tokens: Tokens, room: int) -> Stream:
        """As much of these tokens as fills the room."""
        content, came = self._cut(tokens, room)
        if came == tokens:
            return Stream(self.model.trimmed(tokens), came, exhausted=True)
        return Stream(content, came)

    def _cut(self, tokens: Tokens, room: int) -> tuple[bytes, Tokens]:
        """The first bytes of a stream of these tokens, and what a reader gets of them."""
        content = self.model.write(tokens)[:room]
        return content, self.model.read(content, tokens.width, tokens.height)

    def _by_gain(
        self, lengths: list[int], errors: np.ndarray, room: int, tokens_of: Callable[[np.ndarray], Tokens]
    ) -> Stream:
        """The stream of the tokens that take most error away, as many as fill the room."""
        order, tiles = in_order_of_gain(lengths, errors, self.model.tokens), len(errors)
        low, high = 1, len(order)
        while low < high:
            middle = (low + high) // 2
            tokens = tokens_of(np.bincount(order[:middle], minlength=tiles))
            low, high = (middle + 1, high) if self._cut(tokens, room)[1] == tokens else (low, middle)
        return self._filled(tokens_of(np.bincount(order[:high], minlength=tiles)), room)

    def _lengths(self, tiles: int, aim: Aim) -> list[int]:
        """Numbers of tokens for which it is worth while to see what a tile looks like, rising: powers of two, after
        which a tile can stop for few bits."""
        if tiles == 1 or aim.effort < _MEASURED:
            return []
        mean = 8 * (aim.room or 0) / (tiles * math.log2(self.model.alphabet))  # tokens a tile that there is room for
        middle = 2 ** round(math.log2(max(1, mean)))
        return [length for length in (middle // 2, middle, 2 * middle) if 1 <= length <= self.model.tokens]

    def _errors(self, tiles: np.ndarray, values: np.ndarray, lengths: list[int]) -> np.ndarray:
        """Square error of each tile without tokens and with so many, [tiles, 1 + lengths]."""
        shown = [np.full_like(tiles, GREY), *(self._pixels(values[:, :length]) for length in lengths)]
        return np.stack([((tiles.astype(np.float32) - one) ** 2).sum((1, 2, 3)) for one in shown], axis=1)

    def _tokens(self, tiles: np.ndarray) -> np.ndarray:
        """All tokens of tiles, int32 [tiles, tokens]."""
        parts = []
        for first in range(0, len(tiles), BATCH):
            parts.append(encode_tiles(self.tokenizer, tiles[first : first + BATCH]))
            tell("encoding", min(first + BATCH, len(tiles)), len(tiles))
        return np.concatenate(parts)

    def _pixels(self, values: np.ndarray) -> np.ndarray:
        """The first tokens of tiles [tiles, n], as pixels."""
        parts = []
        for first in range(0, len(values), BATCH):
            parts.append(decode_tiles(self.tokenizer, values[first : first + BATCH]))
            tell("decoding", min(first + BATCH, len(values)), len(values))
        return np.concatenate(parts)

    def alike(self, tokens: Tokens) -> Hashable:
        return tokens.width, tokens.height, tokens.external

    def decode(self, batch: list[Tokens], octaves: int = 0) -> list[np.ndarray]:
        counts = np.concatenate([tokens.passes[0].counts for tokens in batch])
        values = np.concatenate([tokens.passes[0].values for tokens in batch])
        tile = self.model.tile
        tiles = np.full((len(counts), tile, tile, 3), GREY, np.uint8)
        for count in np.unique(counts[counts > 0]):
            same = np.flatnonzero(counts == count)
            tiles[same] = self._pixels(values[same, :count])
        parts = np.split(tiles, np.cumsum([len(tokens.passes[0].counts) for tokens in batch])[:-1])
        return [
            join(part, tokens.width, tokens.height, letterbox=tokens.external is not None and tokens.external.letterbox)
            for part, tokens in zip(parts, batch, strict=True)
        ]


def _expected(lengths: list[int], errors: np.ndarray, tokens: Tokens) -> float:
    """Square error of all tiles, by interpolation."""
    counts = tokens.passes[0].counts
    return sum(float(np.interp(count, lengths, known)) for count, known in zip(counts, errors, strict=True))


@functools.lru_cache(maxsize=1)  # the largest known take some GB
def open_tokenizer(model: ExternalModel, device: str) -> OrderedTokenizer:
    """The tokenizer of a model on a device. Raises InputError and ModelError."""
    if model.source.tokenizer is not None:
        return model.source.tokenizer
    from ..backends.select import usable_device
    from ..published import open_kind

    return open_kind(model.source.kind, model.source.weights, usable_device(device, f"model {model.name}"))
