"""A picture as integers: what a stream says (SPEC sections 4 and 5)."""

from __future__ import annotations

import dataclasses

import numpy as np

from .config import Config
from .geometry import Level


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


@dataclasses.dataclass(frozen=True)
class Tokens:
    """A picture as integers: everything that a prow file says.

    Attributes:
        base: step index of the first pass at full resolution, 0 to 63; None if not even that was received.
        passes: tokens of each pass in stream order (`prow.format.geometry.passes`).
        grey: integers of channel 0 alone, here and in `alpha`; a picture without colour.
        alpha: tokens of each pass of the alpha plane, as a grey picture; None if the picture is opaque, or if none of
            them was received.
    """

    width: int
    height: int
    model_id: int
    base: int | None
    passes: tuple[PassTokens, ...]
    grey: bool = False
    alpha: tuple[PassTokens, ...] | None = None

    @property
    def coded(self) -> list[int]:
        """Indices of the passes that have tokens."""
        return [index for index, part in enumerate(self.passes) if part.some]

    def same_as(self, other: Tokens) -> bool:
        """Whether the base, the planes and all integers are the same. An alpha without any token is none."""
        own, others = ((*tokens.passes, *tokens.shown_alpha) for tokens in (self, other))
        same = (self.base, self.grey, len(own)) == (other.base, other.grey, len(others))
        return same and all(a.same_as(b) for a, b in zip(own, others, strict=True))

    @property
    def shown_alpha(self) -> tuple[PassTokens, ...]:
        """Passes of alpha; none if they have no tokens."""
        return self.alpha if self.alpha is not None and any(part.some for part in self.alpha) else ()


def empty_tokens(level: Level, config: Config) -> PassTokens:
    """A pass of which nothing was received."""
    return PassTokens(np.zeros(level.tiles, np.int16), np.zeros((level.tiles, config.coefficients), np.int16))
