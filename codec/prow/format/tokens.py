"""A picture as integers: what a stream says (SPEC sections 4 and 5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple, overload

import numpy as np

from ..arguments import whole
from ..errors import InputError
from . import sequence
from .config import Config
from .geometry import Level, passes


@dataclasses.dataclass(frozen=True)
class PassTokens:
    """Tokens of one pass.

    Attributes:
        counts: int16 [tiles], how many tokens each tile has.
        values: int16 [tiles, K], ranked integers, zero beyond each tile's tokens.
    """

    counts: np.ndarray
    values: np.ndarray

    @property
    def some(self) -> bool:
        """Whether there are any tokens."""
        return bool(self.counts.any())

    def same_as(self, other: PassTokens) -> bool:
        return np.array_equal(self.counts, other.counts) and np.array_equal(self.values, other.values)


class External(NamedTuple):
    """Whose tokens these are if they are those of an ordered tokenizer (`prow.ordered`): the 4 bytes that name the
    model, how many values an integer has, and whether the whole picture is one tile (else it is cut into tiles)."""

    id: bytes
    alphabet: int
    letterbox: bool


class Token(NamedTuple):
    """One token: its pass, its tile in raster order, which of the tile's tokens it is, all counted from 0, and its
    integers, int16, with zeros where a tile that is smaller than the others lacks some."""

    pass_index: int
    tile: int
    token_index: int
    integers: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Tokens:
    """A picture as integers: everything that a prow file says.

    Also a sequence of `Token`s in stream order (`prow.format.sequence`): `len(tokens)`, `tokens[0]`, and `tokens[:64]`
    is the picture after the first 64. Equal if all that they say is; do not change arrays of tokens that are hashed.

    Attributes:
        base: step index of the first pass at full resolution, 0 to 63; None if not even that was received.
        passes: tokens of each pass in stream order (`prow.format.geometry.passes`).
        grey: integers of channel 0 alone, here and in `alpha`; a picture without colour.
        alpha: tokens of each pass of the alpha plane, as a grey picture; None if the picture is opaque, or if none of
            them was received.
        token_dims: integers of each token of a tile, as in the model's config; where it is empty, tokens have a length
            but cannot be taken apart.
        external: what is to be known of an ordered tokenizer's tokens, which have one pass, one integer each (int32
            in `PassTokens.values`), and no base; None for those of a model with passes.
    """

    width: int
    height: int
    model_id: int
    base: int | None
    passes: tuple[PassTokens, ...]
    grey: bool = False
    alpha: tuple[PassTokens, ...] | None = None
    token_dims: tuple[int, ...] = dataclasses.field(default=(), repr=False)
    external: External | None = None

    @property
    def coded(self) -> list[int]:
        """Indices of the passes that have tokens."""
        return [index for index, part in enumerate(self.passes) if part.some]

    def same_as(self, other: Tokens) -> bool:
        """Whether the base, the planes and all integers are the same. An alpha without any token is none."""
        own, others = ((*tokens.passes, *tokens.shown_alpha) for tokens in (self, other))
        same = (self.base, self.grey, self.external, len(own)) == (other.base, other.grey, other.external, len(others))
        return same and all(a.same_as(b) for a, b in zip(own, others, strict=True))

    @property
    def mode(self) -> str:
        """That of the picture as Pillow calls it: L, LA, RGB or RGBA."""
        return ("L" if self.grey else "RGB") + "A" * bool(self.shown_alpha)

    @property
    def shown_alpha(self) -> tuple[PassTokens, ...]:
        """Passes of alpha; none if they have no tokens."""
        return self.alpha if self.alpha is not None and any(part.some for part in self.alpha) else ()

    # -- as a sequence

    def __len__(self) -> int:
        """How many tokens there are in all tiles of all passes."""
        return sum(int(part.counts.sum(dtype=int)) for _, part in self._planes())

    def __bool__(self) -> bool:
        """True, even without a token: that is a picture too."""
        return True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tokens):
            return NotImplemented
        mine, its = ((t.width, t.height, t.model_id, len(t.passes)) for t in (self, other))
        return mine == its and self.same_as(other)

    def __hash__(self) -> int:
        counts = (np.ascontiguousarray(part.counts, np.int16).tobytes() for part in self.passes)
        return hash((self.width, self.height, self.model_id, self.base, self.grey, *counts))

    def __iter__(self) -> Iterator[Token]:
        """All tokens in stream order."""
        ends = self._ends()
        for index, part in self._planes():
            for token, tile in zip(*sequence.order(part.counts), strict=True):
                start = ends[token - 1] if token else 0
                yield Token(index, int(tile), int(token), part.values[tile, start : ends[token]])

    @overload
    def __getitem__(self, key: int) -> Token: ...

    @overload
    def __getitem__(self, key: slice) -> Tokens: ...

    def __getitem__(self, key: int | slice) -> Token | Tokens:
        """One token, or the picture after the first few of them.

        Raises:
            IndexError: no such token. InputError: a slice that does not begin at the start, or has a step: later tokens
            mean nothing without those before.
        """
        length = len(self)
        if isinstance(key, slice):
            start, stop, step = key.indices(length)
            if start or step != 1:
                raise InputError(f"a slice from {start} by {step} came, wanted one from 0 by 1, such as tokens[:64]")
            return self._first(stop)
        place = range(length)[key]
        for index, part in self._planes():
            count = int(part.counts.sum(dtype=int))
            if place < count:
                token, tile = (int(some[place]) for some in sequence.order(part.counts))
                ends = self._ends()
                return Token(index, tile, token, part.values[tile, ends[token - 1] if token else 0 : ends[token]])
            place -= count
        raise AssertionError("a place below the length is in some pass")

    def _first(self, length: int) -> Tokens:
        """The first tokens in stream order."""
        kept, left, starts = [], length, np.append(0, self._ends())
        for _, part in self._planes():
            counts = sequence.first(part.counts, left)
            left -= int(counts.sum(dtype=int))
            sent = np.arange(part.values.shape[1]) < starts[counts][:, None]
            kept.append(PassTokens(counts, np.where(sent, part.values, 0).astype(part.values.dtype)))
        if self.alpha is None:
            return dataclasses.replace(self, passes=tuple(kept))
        return dataclasses.replace(self, passes=tuple(kept[::2]), alpha=tuple(kept[1::2]))

    def _planes(self) -> list[tuple[int, PassTokens]]:
        """Index and tokens of each pass in stream order: that of colour, then that of alpha if there is any."""
        if self.alpha is None:
            return list(enumerate(self.passes))
        return [(i, part) for i, both in enumerate(zip(self.passes, self.alpha, strict=True)) for part in both]

    def _ends(self) -> np.ndarray:
        """int64: rank after the last one of each token. Raises InputError."""
        if not self.token_dims:
            raise InputError("tokens without token_dims came, wanted those of the model's config")
        return np.cumsum(self.token_dims)

    # -- as one row of symbols

    @property
    def vocabulary(self) -> int:
        """How many symbols `to_array` has."""
        return sequence.VOCABULARY if self.external is None else sequence.VALUE + self.external.alphabet

    def to_array(self, length: int | None = None) -> np.ndarray:
        """Base and tokens as symbols 0 to 259, int16 [length], filled with 0; `prow.format.sequence` says what they
        mean. Nothing is lost but size and model. Of an ordered tokenizer: 0 to 3 + its alphabet, int32.

        Args:
            length: of the result; None: as many as there are.

        Raises:
            InputError: more symbols than `length` (of tokens[:n] there are fewer), or a picture that is grey or has
                alpha, of which rows know nothing.
        """
        if self.grey or self.alpha is not None:
            raise InputError("tokens of a picture that is grey or has alpha came, wanted those of opaque colour")
        if self.external is None:
            symbols = sequence.to_symbols(self.base, [(part.counts, part.values) for part in self.passes], self._ends())
        else:
            symbols = sequence.values_to_symbols(self.passes[0].counts, self.passes[0].values)
        if length is None:
            return symbols
        length = whole("length", length, 0, 1 << 28)
        if len(symbols) > length:
            raise InputError(
                f"length {length} came, wanted at least {len(symbols)}, which these {len(self)} tokens take"
            )
        return np.pad(symbols, (0, length - len(symbols)))

    @classmethod
    def from_array(cls, array: np.ndarray, width: int, height: int, config: Config) -> Tokens:
        """What `to_array` made of tokens of a picture of width x height px; `prow.tokens_from_array` finds the config.

        Args:
            array: symbols [n], integers 0 to 259.

        Raises:
            InputError: symbols that say nothing; names the place of the first of these.
        """
        tiles = [pass_.level.tiles for pass_ in passes(width, height, config)]
        base, parts = sequence.from_symbols(array, tiles, np.cumsum(config.token_dims))
        return cls(
            width,
            height,
            config.model_id,
            base,
            tuple(PassTokens(*part) for part in parts),
            token_dims=config.token_dims,
        )


def empty_tokens(level: Level, config: Config) -> PassTokens:
    """A pass of which nothing was received."""
    return PassTokens(np.zeros(level.tiles, np.int16), np.zeros((level.tiles, config.coefficients), np.int16))
