"""Levels, tiles and passes of an image: everything here follows from the image size and the config (SPEC section 4)."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np

from .config import FULL, MIDDLE, REFINE, START, Config


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


@dataclasses.dataclass(frozen=True)
class Pass:
    """One improvement of the whole picture at one level: its kind and how much finer its step is than the base."""

    kind: int  # START, MIDDLE, FULL or REFINE
    level: Level
    shift: int  # grid indices below the base step

    def step_index(self, base: int) -> int:
        return max(0, base - self.shift)


def levels(width: int, height: int, tile: int) -> list[Level]:
    """Coarse to fine: the image halved (rounding up) until it fits one tile."""
    sizes = [(width, height)]
    while max(sizes[-1]) > tile:
        w, h = sizes[-1]
        sizes.append((-(-w // 2), -(-h // 2)))
    return [Level(w, h, tile) for w, h in reversed(sizes)]


def passes(width: int, height: int, config: Config) -> list[Pass]:
    """The passes of an image in stream order. Costs no bytes: both sides derive it."""
    pyramid = levels(width, height, config.tile)
    last = len(pyramid) - 1
    kinds = [START if i == 0 else FULL if i == last else MIDDLE for i in range(last + 1)]
    plan = [Pass(k, lv, config.octave_shift * (last - i)) for i, (k, lv) in enumerate(zip(kinds, pyramid, strict=True))]
    return plan + [Pass(REFINE, pyramid[-1], shift) for shift in config.refine_shifts]
