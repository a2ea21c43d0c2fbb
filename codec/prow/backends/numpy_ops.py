"""The steps between networks in numpy: pictures to tiles and back, from level to level (SPEC section 4), distortion.

`prow.backends.torch_ops` has the same functions in torch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from ..format.geometry import Level, edges, places
from ..format.lapping import lap_matrix, reach, windows
from ..metrics import SCALE_WEIGHTS
from .base import LEAST, NOISE, STRUCTURE, WINDOW

_PIXELS = 1 << 16  # of a level that are doubled, mixed or rounded at once, about: they should fit into a cache
# Bicubic weights (a = -0.75) of the four neighbours at a quarter of the way from the second to the third.
_CUBIC = (-0.10546875, 0.87890625, 0.26171875, -0.03515625)


def cut(picture: np.ndarray, level: Level, first_row: int = 0, last_row: int | None = None) -> np.ndarray:
    """[B, C, H, W] -> [B * tiles, C, T, T], of the given rows of tiles (all by default), borders replicated."""
    (batch, channels), t = picture.shape[:2], level.tile
    rows, columns = places(level.rows, t)[0][first_row:last_row], places(level.columns, t)[0]
    sheet = picture.take(rows.ravel(), axis=2).take(columns.ravel(), axis=3)
    grid = sheet.reshape(batch, channels, len(rows), t, len(columns), t).transpose(0, 2, 4, 1, 3, 5)
    return grid.reshape(-1, channels, t, t)


def join(tiles: np.ndarray, level: Level, first_row: int = 0, last_row: int | None = None) -> np.ndarray:
    """[B * tiles, C, T, T] of the given rows of tiles (all by default) -> [B, C, H of these, W]."""
    (channels, t), rows = tiles.shape[1:3], level.rows[first_row:last_row]
    grid = tiles.reshape(-1, len(rows), len(level.columns), channels, t, t).transpose(0, 3, 1, 4, 2, 5)
    sheet = grid.reshape(-1, channels, len(rows) * t, len(level.columns) * t)
    return sheet.take(places(rows, t)[1], axis=2).take(places(level.columns, t)[1], axis=3)


def lap(picture: np.ndarray, level: Level, *, back: bool = False) -> np.ndarray:
    """Mix the pixels of [B, C, H, W] across tile borders (`prow.format.lapping`), or undo it; in place."""
    for lengths, turned in ((level.columns, picture), (level.rows, picture.swapaxes(2, 3))):
        if wide := reach(lengths):
            mixed_places, matrix = windows(lengths), lap_matrix(wide)
            for part in _parts(turned):
                part[..., mixed_places] = part[..., mixed_places] @ (matrix if back else matrix.T)
    return picture


def _parts(picture: np.ndarray) -> list[np.ndarray]:
    """Views of rows of [B, C, H, W] that fit into a cache."""
    height, width = picture.shape[2:]
    rows = max(1, _PIXELS // width)
    return [picture[:, :, top : top + rows] for top in range(0, height, rows)]


def spread(per_tile: np.ndarray, level: Level, given: slice = slice(None)) -> np.ndarray:
    """One number a tile [B * tiles] -> pictures float32 [B, 3, H, W]: that number, and where tiles begin and end.

    The second is 1 in the first and -1 in the last column of each tile, else 0; the third the same for rows.

    Args:
        given: the rows of px that are wanted.
    """
    grid = per_tile.reshape(-1, len(level.rows), len(level.columns))
    down = edges(level.rows)[given]
    picture = np.empty((len(grid), 3, len(down), level.width), np.float32)
    picture[:, 0] = grid[:, np.arange(len(level.rows)).repeat(level.rows)[given]].repeat(level.columns, axis=2)
    picture[:, 1] = edges(level.columns)
    picture[:, 2] = down[:, None]
    return picture


def halve(picture: np.ndarray, times: int = 1) -> np.ndarray:
    """[B, C, H, W] -> float32 [B, C, ceil(H / 2), ceil(W / 2)] by 2x2 means, the last row or column repeated if odd; so
    many times, strip by strip. None at all is the picture itself."""
    if not times:
        return picture
    rows = max(1, _PIXELS // picture.shape[3] >> times) << times
    strips = (picture[:, :, top : top + rows] for top in range(0, picture.shape[2], rows))
    return np.concatenate([functools.reduce(lambda strip, _: _halve(strip), range(times), s) for s in strips], axis=2)


def _halve(picture: np.ndarray) -> np.ndarray:
    h, w = picture.shape[2:]
    even = np.pad(picture, ((0, 0), (0, 0), (0, h % 2), (0, w % 2)), mode="edge")
    quarters = [even[..., y::2, x::2].astype(np.float32) for y in (0, 1) for x in (0, 1)]
    return functools.reduce(np.add, quarters) / np.float32(4)


def pyramid(picture: np.ndarray, count: int) -> list[np.ndarray]:
    """The picture at `count` levels, coarse to fine."""
    levels = [picture]
    while len(levels) < count:
        levels.append(halve(levels[-1]))
    return levels[::-1]


def double(picture: np.ndarray, ahead: np.ndarray | None, level: Level) -> np.ndarray:
    """[B, C, h, w] -> [B, C, H, W] of a level: bicubic to twice the size, plus `ahead`, cropped, 0 to 255.

    Inverse of `halve` in position. `ahead` is [B, C, at least H, at least W], or None for nothing.
    """
    larger = np.empty((*picture.shape[:2], level.height, level.width), np.float32)
    wide = np.pad(picture, ((0, 0), (0, 0), (2, 2), (0, 0)), mode="edge")
    rows = max(1, _PIXELS // level.width)
    for top in range(0, picture.shape[2], rows):
        tall = _double_rows(wide[:, :, top : top + rows + 4])
        columns = np.pad(tall.swapaxes(2, 3), ((0, 0), (0, 0), (2, 2), (0, 0)), mode="edge")
        part = larger[:, :, 2 * top : 2 * (top + rows)]
        doubled = _double_rows(columns).swapaxes(2, 3)[:, :, : part.shape[2], : level.width]
        if ahead is not None:
            doubled = doubled + ahead[:, :, 2 * top : 2 * top + part.shape[2], : level.width]
        np.clip(doubled, 0, 255, out=part)
    return larger


def _double_rows(wide: np.ndarray) -> np.ndarray:
    """[B, C, h + 4, w], two rows more on each side -> [B, C, 2 h, w]."""
    batch, channels, rows, width = wide.shape
    near = [wide[:, :, i : i + rows - 4] for i in range(5)]  # two rows above to two rows below
    doubled = np.empty((batch, channels, rows - 4, 2, width), np.float32)
    doubled[:, :, :, 0] = sum(weight * row for weight, row in zip(_CUBIC, near[3::-1], strict=True))
    doubled[:, :, :, 1] = sum(weight * row for weight, row in zip(_CUBIC, near[1:], strict=True))
    return doubled.reshape(batch, channels, 2 * (rows - 4), width)


def lost_structure(picture: np.ndarray, target: np.ndarray) -> np.ndarray:
    """1 - the contrast and structure term of SSIM (Wang et al., 2004), in windows of 8 px that overlap by half.

    Args:
        picture, target: [B, C, H, W], 0 to 255.

    Returns:
        float64 [B], 0 (all there) to 2.
    """
    window = [min(WINDOW, side) for side in target.shape[2:]]
    stride = [max(1, side // 2) for side in window]
    x, y = picture - 128, target - 128  # nearer to 0, so that the differences below lose no digits
    mean_x, mean_y, xy, squares = (_means(z, window, stride) for z in (x, y, x * y, x * x + y * y))
    both, each = xy - mean_x * mean_y, squares - mean_x * mean_x - mean_y * mean_y
    return 1 - ((2 * both + NOISE) / (each + NOISE)).mean((1, 2, 3), dtype=float)


def log_distortion(picture: np.ndarray, target: np.ndarray, *, full: bool) -> float:
    """See `prow.backends.base.Backend.log_distortion`."""
    target = target.astype(np.float32, copy=False)
    error, lost, total = float(np.square(picture - target).mean(dtype=float)), 0.0, 0.0
    for weight in SCALE_WEIGHTS[0 if full else 1 :]:
        lost, total = lost + weight * float(lost_structure(picture, target).mean()), total + weight
        if min(target.shape[2:]) < 2 * WINDOW:
            break
        picture, target = (_means(p, (2, 2), (2, 2)) for p in (picture, target))
    return math.log(error + LEAST) + STRUCTURE * math.log(lost / total + LEAST)


def _means(picture: np.ndarray, window: Sequence[int], stride: Sequence[int]) -> np.ndarray:
    """Means over windows: [B, C, H, W] -> [B, C, places down, places across]."""
    down, across = (
        [slice(i, side - size + i + 1, step) for i in range(size)]
        for side, size, step in zip(picture.shape[2:], window, stride, strict=True)
    )
    tall = functools.reduce(np.add, (picture[:, :, rows] for rows in down))
    return functools.reduce(np.add, (tall[..., columns] for columns in across)) / np.float32(len(down) * len(across))


def to_image(picture: np.ndarray) -> np.ndarray:
    """[C, H, W], 0 to 255 -> uint8 [H, W, C]."""
    channels, height, width = picture.shape
    image, top = np.empty((height, width, channels), np.uint8), 0
    for part in _parts(picture[None]):
        rows = part.shape[2]
        image[top : top + rows] = part[0].round().clip(0, 255).transpose(1, 2, 0)
        top += rows
    return image
