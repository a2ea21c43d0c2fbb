"""An image as integers, what a stream says, and which of them each tile has (SPEC sections 4 and 5)."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np

from .config import STEPS, STEPS_PER_OCTAVE, Config
from .geometry import Level, Pass, passes
from .tables import Tables

# px for each integer that is not 0: on a level behind the last token with more, a loop filter changes nothing that
# counts.
_WORTH = 200


@dataclasses.dataclass(frozen=True)
class PassTokens:
    """Tokens of one pass.

    Attributes:
        counts: int16 [tiles], how many tokens each tile has.
        values: int16 [tiles, K], ranked integers, zero beyond each tile's tokens.
    """

    counts: np.ndarray
    values: np.ndarray


@dataclasses.dataclass(frozen=True)
class Tokens:
    """An image as integers: everything that a prow file says.

    Attributes:
        base: grid index of the base quantiser step, 0 to 63; None if not even that was received.
        passes: tokens of each pass in stream order (`prow.geometry.passes`).
    """

    width: int
    height: int
    model_id: int
    base: int | None
    passes: tuple[PassTokens, ...]

    def depth(self, share: float = 0.98) -> int:
        """Index of the pass up to which this share of the integers that are not 0 was sent; 0 if there are none."""
        sent = np.cumsum([np.count_nonzero(part.values) for part in self.passes])
        return int(np.argmax(sent >= share * sent[-1]))

    def last_step(self, config: Config) -> int:
        """Grid index of the step of the last pass with tokens, in units of full resolution, where the same detail has
        twice the coefficient that it has a level below; that of the first pass if there are none."""
        spoken = [i for i, part in enumerate(self.passes) if part.counts.any()]
        step = passes(self.width, self.height, config)[spoken[-1] if spoken else 0]
        index = step.step_index(config.usual_base if self.base is None else self.base)
        return min(index + STEPS_PER_OCTAVE * step.depth, STEPS - 1)

    def filter_depths(self, config: Config) -> tuple[int, int]:
        """The least depth of levels with a light loop filter, and that of levels with a full one.

        Levels behind the last token have a light one up to 200 px for each integer that is not 0, and beyond that none:
        they are only made larger. There the networks have next to nothing to say, and most of the time of small files
        is spent. No token depends on it.
        """
        plan = passes(self.width, self.height, config)
        spoken = [i for i, part in enumerate(self.passes) if part.counts.any()]
        last = plan[spoken[-1]].depth if spoken else plan[0].depth + 1
        known = sum(np.count_nonzero(self.passes[i].values[self.passes[i].counts > 0]) for i in spoken)

        least = last
        while least and _halved(self.width, least - 1) * _halved(self.height, least - 1) <= _WORTH * known:
            least -= 1
        return least, last


def _halved(side: int, times: int) -> int:
    """Rounded up."""
    return -(-side >> times)


def empty_tokens(level: Level, config: Config) -> PassTokens:
    """A pass of which nothing was received."""
    return PassTokens(np.zeros(level.tiles, np.int16), np.zeros((level.tiles, config.coefficients), np.int16))


class Layout:
    """Which ranks and tokens each tile of a pass has. Tiles smaller than the full size lack some."""

    def __init__(self, level: Level, config: Config, order: np.ndarray) -> None:
        tile = config.tile
        sizes = level.boxes[:, 2:]
        kinds, self._kind = np.unique(sizes, axis=0, return_inverse=True)
        row, column = order % tile**2 // tile, order % tile
        self._exists = (row < kinds[:, 1:]) & (column < kinds[:, :1])  # [size kinds, K]
        self.ends = np.cumsum(config.token_dims)
        furthest = (self._exists * np.arange(1, config.coefficients + 1)).max(1)
        self.last = (np.searchsorted(self.ends, furthest) + 1)[self._kind]  # [tiles] tokens a tile can have

    @property
    def exists(self) -> np.ndarray:
        """bool [tiles, K]: the ranks that each tile has."""
        return self._exists[self._kind]

    def positions(self, tiles: np.ndarray, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Rank and tile of each integer at ranks start to end - 1, rank by rank: two int arrays of equal length."""
        exists = self._exists[self._kind[tiles], start:end]
        rank, which = np.nonzero(exists.T)
        return rank + start, tiles[which]


@lru_cache(maxsize=16)  # enough for all passes of a picture
def _layout(level: Level, config: Config, order: bytes) -> Layout:
    return Layout(level, config, np.frombuffer(order, np.int32))


def layout_of(step: Pass, config: Config, tables: Tables) -> Layout:
    """That of a pass; kept for the next one like it."""
    return _layout(step.level, config, tables.order[step.kind].tobytes())
