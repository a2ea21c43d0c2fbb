"""Levels, tiles and passes of a picture: a part of `tokens.py`, standard library only, from SPEC.md section 4."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

if __package__:
    from .model_file import Model
else:
    from model_file import Model

START, MIDDLE, FULL, REFINE = range(4)


@dataclasses.dataclass(frozen=True)
class Pass:
    kind: int
    width: int  # px of its level
    height: int
    octaves: int  # below full resolution: levels after its own
    shift: int  # how far its step index is below the base


def passes(width: int, height: int, model: Model) -> list[Pass]:
    levels = [(width, height)]
    while max(levels[0]) > model.tile:
        w, h = levels[0]
        levels.insert(0, ((w + 1) // 2, (h + 1) // 2))
    plan = []
    for number, (w, h) in enumerate(levels):
        octaves = len(levels) - 1 - number
        kind = START if number == 0 else MIDDLE if octaves else FULL
        plan.append(Pass(kind, w, h, octaves, -model.octave_step * octaves))
    return plan + [Pass(REFINE, width, height, 0, shift) for shift in model.refine_shifts]


def parts(side: int, tile: int) -> list[int]:
    count = (side + tile - 1) // tile
    longer = side % count
    return [side // count + 1] * longer + [side // count] * (count - longer)


def tile_sizes(width: int, height: int, tile: int) -> list[tuple[int, int]]:
    """Width and height of each tile of a level, in raster order."""
    return [(w, h) for h in parts(height, tile) for w in parts(width, tile)]


def present_ranks(size: tuple[int, int], order: Sequence[int], tile: int) -> list[bool]:
    """Which ranks a tile of this size has."""
    width, height = size
    return [number % tile < width and number // tile % tile < height for number in order]


def tiles_around(pass_: Pass, tile: int) -> list[list[int]]:
    """Of each tile, those left, right, above and below it, as far as they exist."""
    columns, rows = len(parts(pass_.width, tile)), len(parts(pass_.height, tile))
    found = []
    for row in range(rows):
        for column in range(columns):
            sides = ((row, column - 1), (row, column + 1), (row - 1, column), (row + 1, column))
            found.append([r * columns + c for r, c in sides if 0 <= r < rows and 0 <= c < columns])
    return found


def tiles_before(pass_: Pass, before: Pass, tile: int) -> list[int]:
    """Of each tile, the one of the pass before that holds its centre."""
    scale = 2 ** (before.octaves - pass_.octaves)
    columns = parts_before(parts(pass_.width, tile), parts(before.width, tile), scale)
    rows = parts_before(parts(pass_.height, tile), parts(before.height, tile), scale)
    return [row * len(parts(before.width, tile)) + column for row in rows for column in columns]


def parts_before(sides: list[int], before: list[int], scale: int) -> list[int]:
    """Of each part of a side, the part of the pass before that holds its centre; that pass is `scale` times smaller."""
    centres = [(2 * end - side) // (2 * scale) for end, side in zip(itertools.accumulate(sides), sides, strict=True)]
    ends = list(itertools.accumulate(before))
    return [min(sum(end <= centre for end in ends), len(before) - 1) for centre in centres]
