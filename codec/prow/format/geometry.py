"""Levels, tiles and passes of an image: everything here follows from the image size and the config (SPEC section 4)."""

from __future__ import annotations

import dataclasses
from functools import cached_property, lru_cache

import numpy as np

from .config import FULL, MIDDLE, REFINE, START, STEPS, Config


def split(length: int, tile: int) -> list[int]:
    """Cut a side of `length` px into ceil(length / tile) parts whose sizes differ by one px at most, longer first.

    No part is shorter than half a tile (unless the side itself is), so no sliver ever costs a tile of its own.
    """
    parts = -(-length // tile)
    short, longer = divmod(length, parts)
    return [short + 1] * longer + [short] * (parts - longer)


@dataclasses.dataclass(frozen=True)
class Level:
    """One size of the image and its grid of tiles, in raster order."""

    width: int
    height: int
    tile: int

    @cached_property
    def columns(self) -> list[int]:
        return split(self.width, self.tile)

    @cached_property
    def rows(self) -> list[int]:
        return split(self.height, self.tile)

    @property
    def tiles(self) -> int:
        return -(-self.width // self.tile) * -(-self.height // self.tile)

    @cached_property
    def boxes(self) -> np.ndarray:
        """int32 [tiles, 4]: x, y, width, height of each tile in px."""
        x = np.concatenate([[0], np.cumsum(self.columns)])
        y = np.concatenate([[0], np.cumsum(self.rows)])
        grid = [(x[c], y[r], w, h) for r, h in enumerate(self.rows) for c, w in enumerate(self.columns)]
        return np.array(grid, dtype=np.int32)

    def pixel_rows(self, first_row: int, last_row: int) -> slice:
        """Rows of px of some rows of tiles."""
        top = sum(self.rows[:first_row])
        return slice(top, top + sum(self.rows[first_row:last_row]))

    def batches(self, most: int) -> list[tuple[int, int]]:
        """First and last row of batches of whole rows of tiles, of `most` tiles each if a row is not longer."""
        rows, batch = len(self.rows), max(1, most // len(self.columns))
        return [(first, min(rows, first + batch)) for first in range(0, rows, batch)]


def places(lengths: list[int], tile: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel of each place in each tile, int64 [parts, tile], clamped to the tile (so that its border is replicated);
    and the place of each pixel in the sheet of all tiles, int64 [sum of lengths]."""
    sizes = np.array(lengths)[:, None]
    pixels = sizes.cumsum(0) - sizes + np.minimum(np.arange(tile), sizes - 1)
    return pixels, np.concatenate([np.arange(n) + i * tile for i, n in enumerate(lengths)])


def edges(lengths: list[int]) -> np.ndarray:
    """float32 [sum of lengths]: 1 at the first, -1 at the last place of each part (0 if these are the same)."""
    sizes = np.array(lengths)
    ends = sizes.cumsum(0)
    marks = np.zeros(sum(lengths), np.float32)
    marks[ends - sizes] += 1
    marks[ends - 1] -= 1
    return marks


Part = tuple[slice, slice]  # of a side that a filter makes: what it is given, and what of this is its result


def strips(side: int, most: int, reach: int, within: slice | None = None) -> list[Part]:
    """Equal parts of a side of a level (or of a slice of it, from an even place on), of about `most` px, each with the
    `reach` px around it that a filter sees."""
    within = within or slice(0, side)
    count = max(1, round((within.stop - within.start) / max(most, reach)))
    length = -(-(within.stop - within.start) // (2 * count)) * 2
    parts = []
    for first in range(within.start, within.stop, length):
        last = min(within.stop, first + length)
        given = slice(max(0, first - reach), min(side, last + reach))
        parts.append((given, slice(first - given.start, last - given.start)))
    return parts


def blocks(height: int, width: int, side: int, reach: int, rows: slice | None = None) -> list[tuple[Part, Part]]:
    """Rows and columns of parts of about `side` x `side` px of a level, or of some of its rows (`strips`)."""
    return [(down, across) for down in strips(height, side, reach, rows) for across in strips(width, side, reach)]


@dataclasses.dataclass(frozen=True)
class Pass:
    """One improvement of the whole picture at one level: its kind, and how much finer its step is than the base."""

    kind: int  # START, MIDDLE, FULL or REFINE
    level: Level
    octaves: int  # below full resolution
    shift: int  # step indices below the base; coarse levels are above it

    def step_index(self, base: int) -> int:
        return min(max(0, base - self.shift), STEPS - 1)


def levels(width: int, height: int, tile: int) -> list[Level]:
    """Coarse to fine: the image halved (rounding up) until it fits one tile."""
    pyramid = [Level(width, height, tile)]
    while max(pyramid[-1].width, pyramid[-1].height) > tile:
        pyramid.append(Level(-(-pyramid[-1].width // 2), -(-pyramid[-1].height // 2), tile))
    return pyramid[::-1]


def most_octaves(width: int, height: int, tile: int) -> int:
    """How far the coarsest level is below full resolution."""
    return len(levels(width, height, tile)) - 1


@lru_cache(maxsize=8)  # a plan of 100 megapixels holds 8 MB
def passes(width: int, height: int, config: Config) -> tuple[Pass, ...]:
    """The schedule of an image, in stream order: one pass for each level, then the refining ones. Both sides derive it.

    The same detail has twice the coefficient a level up, and coarse steps are coarser on top of that (`octave_step`).
    So each pass is finer than the one before by a little more than a factor of two, low frequencies of a level mend
    what the coarser ones left, and whatever the size of a cut, all that is there is about equally fine.
    """
    pyramid, plan = levels(width, height, config.tile), []
    last = len(pyramid) - 1
    for index, level in enumerate(pyramid):
        kind = START if index == 0 else FULL if index == last else MIDDLE
        plan.append(Pass(kind, level, last - index, -config.octave_step * (last - index)))
    return (*plan, *(Pass(REFINE, pyramid[-1], 0, shift) for shift in config.refine_shifts))
