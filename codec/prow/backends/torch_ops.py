"""The steps between networks in torch: pictures to tiles and back, from level to level (SPEC section 4), distortion.

`prow.backends.numpy_ops` has the same functions in numpy.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..format.geometry import Level, edges, places
from ..format.lapping import lap_matrix, reach, windows
from ..metrics import SCALE_WEIGHTS
from .base import LEAST, NOISE, STRUCTURE, WINDOW


@lru_cache(maxsize=32)
def _indices(level: Level, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`places` of rows and of columns: pixels of each place, then places of each pixel."""
    (rows, row_of), (columns, column_of) = (places(n, level.tile) for n in (level.rows, level.columns))
    with torch.inference_mode(False):  # they are kept, and gradients may be wanted through what they index
        return tuple(torch.from_numpy(a).to(device) for a in (rows, columns, row_of, column_of))  # type: ignore[return-value]


def cut(picture: Tensor, level: Level, first_row: int = 0, last_row: int | None = None) -> Tensor:
    """[B, C, H, W] -> [B * tiles, C, T, T], of the given rows of tiles (all by default), borders replicated."""
    rows, columns, *_ = _indices(level, picture.device)
    tiles = picture[:, :, rows[first_row:last_row, :, None, None], columns]  # [B, C, R, T, Cols, T]
    return tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def join(tiles: Tensor, level: Level, first_row: int = 0, last_row: int | None = None) -> Tensor:
    """[B * tiles, C, T, T] of the given rows of tiles (all by default) -> [B, C, H of these, W]."""
    *_, row_of, column_of = _indices(level, tiles.device)
    channels, t = tiles.shape[1:3]
    first_row, last_row, _ = slice(first_row, last_row).indices(len(level.rows))
    grid = tiles.view(-1, last_row - first_row, len(level.columns), channels, t, t).permute(0, 3, 1, 4, 2, 5)
    sheet = grid.reshape(-1, channels, (last_row - first_row) * t, len(level.columns) * t)
    return sheet[:, :, row_of[level.pixel_rows(first_row, last_row)] - first_row * t][..., column_of]


def lap(picture: Tensor, level: Level, *, back: bool = False) -> Tensor:
    """Mix the pixels of [B, C, H, W] across tile borders (`prow.format.lapping`), or undo it."""
    for lengths in (level.columns, level.rows):
        if wide := reach(lengths):
            mixed_places = torch.from_numpy(windows(lengths)).to(picture.device)
            matrix = torch.from_numpy(lap_matrix(wide)).to(picture)
            mixed = picture[..., mixed_places] @ (matrix if back else matrix.T)
            picture = picture.index_copy(-1, mixed_places.flatten(), mixed.flatten(-2))
        picture = picture.transpose(-1, -2)
    return picture


def spread(per_tile: Tensor, level: Level, given: slice = slice(None)) -> Tensor:
    """One number a tile [B * tiles] -> pictures [B, 3, H, W]: that number, and where tiles begin and end.

    The second is 1 in the first and -1 in the last column of each tile, else 0; the third the same for rows.

    Args:
        given: the rows of px that are wanted.
    """
    grid = per_tile.view(-1, 1, len(level.rows), len(level.columns))
    row_of, column_of = (i // level.tile for i in _indices(level, per_tile.device)[2:])
    picture = grid[:, :, row_of[given]][..., column_of]
    across, down = (torch.from_numpy(edges(n)).to(picture) for n in (level.columns, level.rows))
    down = down[given]
    borders = torch.stack([across[None].expand(len(down), -1), down[:, None].expand(-1, len(across))])
    return torch.cat([picture, borders[None].expand(len(picture), -1, -1, -1)], dim=1)


def halve(picture: Tensor, times: int = 1) -> Tensor:
    """[B, C, H, W] -> [B, C, ceil(H / 2), ceil(W / 2)] by 2x2 means, the last row and column repeated if odd; so many
    times."""
    for _ in range(times):
        h, w = picture.shape[-2:]
        picture = F.avg_pool2d(F.pad(picture, (0, w % 2, 0, h % 2), mode="replicate"), 2)
    return picture


def pyramid(picture: Tensor, count: int) -> list[Tensor]:
    """The picture at `count` levels, coarse to fine."""
    levels = [picture]
    while len(levels) < count:
        levels.append(halve(levels[-1]))
    return levels[::-1]


def double(picture: Tensor, ahead: Tensor | None, level: Level) -> Tensor:
    """[B, C, h, w] -> [B, C, H, W] of a level: bicubic to twice the size, plus `ahead`, cropped, 0 to 255.

    Inverse of `halve` in position. `ahead` is [B, C, at least H, at least W], or None for nothing.
    """
    height, width = level.height, level.width
    larger = F.interpolate(picture, scale_factor=2, mode="bicubic", align_corners=False)[..., :height, :width]
    if ahead is not None:
        larger = larger + ahead[..., :height, :width]
    return larger.clamp(0, 255)


def lost_structure(picture: Tensor, target: Tensor) -> Tensor:
    """1 - the contrast and structure term of SSIM (Wang et al., 2004), in windows of 8 px that overlap by half.

    Args:
        picture, target: [B, C, H, W], 0 to 255.

    Returns:
        [B], 0 (all there) to 2.
    """
    window = [min(WINDOW, side) for side in target.shape[-2:]]
    stride = [max(1, side // 2) for side in window]

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, window, stride)

    x, y = picture - 128, target - 128  # nearer to 0, so that the differences below lose no digits
    mean_x, mean_y = mean(x), mean(y)
    both = mean(x * y) - mean_x * mean_y
    each = mean(x * x) - mean_x.square() + mean(y * y) - mean_y.square()
    return 1 - ((2 * both + NOISE) / (each + NOISE)).mean((1, 2, 3))


def log_distortion(picture: Tensor, target: Tensor, *, full: bool) -> float:
    """See `prow.backends.base.Backend.log_distortion`."""
    error, lost, total = (picture - target).square().mean(), torch.zeros((), device=target.device), 0.0
    for weight in SCALE_WEIGHTS[0 if full else 1 :]:
        lost, total = lost + weight * lost_structure(picture, target).mean(), total + weight
        if min(target.shape[-2:]) < 2 * WINDOW:
            break
        picture, target = F.avg_pool2d(picture, 2), F.avg_pool2d(target, 2)
    return float((error + LEAST).log() + STRUCTURE * (lost / total + LEAST).log())


def to_image(picture: Tensor) -> np.ndarray:
    """[C, H, W], 0 to 255 -> uint8 [H, W, C]."""
    return picture.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
