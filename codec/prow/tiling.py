"""Pictures to tiles and back, and the steps between levels (SPEC section 4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .geometry import Level, edges, places
from .lapping import lap_matrix, reach, windows


class Tiling:
    """Index maps between a level [B, 3, H, W] and its tiles [B * tiles, 3, T, T], borders replicated inside a tile."""

    def __init__(self, level: Level, device: torch.device | str = "cpu") -> None:
        self.level = level
        self.rows, self.row_of = (torch.from_numpy(a).to(device) for a in places(level.rows, level.tile))
        self.columns, self.column_of = (torch.from_numpy(a).to(device) for a in places(level.columns, level.tile))
        grid = [(h, w) for h in level.rows for w in level.columns]
        self.sizes = torch.tensor(grid, device=device)  # [tiles, 2] height, width

    def cut(self, picture: Tensor, first_row: int = 0, last_row: int | None = None) -> Tensor:
        """[B, C, H, W] -> [B * tiles, C, T, T], of the given rows of tiles (all by default)."""
        rows = self.rows[first_row:last_row]
        tiles = picture[:, :, rows[:, :, None, None], self.columns]  # [B, C, R, T, Cols, T]
        return tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)

    def join(self, tiles: Tensor) -> Tensor:
        """[B * tiles, C, T, T] -> [B, C, H, W]."""
        t, c = self.level.tile, tiles.shape[1]
        grid = tiles.view(-1, len(self.rows), len(self.columns), c, t, t).permute(0, 3, 1, 4, 2, 5)
        sheet = grid.reshape(-1, c, len(self.rows) * t, len(self.columns) * t)
        return sheet[:, :, self.row_of][..., self.column_of]

    def lap(self, picture: Tensor, *, back: bool = False) -> Tensor:
        """Mix the pixels of [B, C, H, W] across tile borders (`prow.lapping`), or undo it."""
        for lengths in (self.level.columns, self.level.rows):
            if wide := reach(lengths):
                places = torch.from_numpy(windows(lengths)).to(picture.device)
                matrix = torch.from_numpy(lap_matrix(wide)).to(picture)
                mixed = picture[..., places] @ (matrix if back else matrix.T)
                picture = picture.index_copy(-1, places.flatten(), mixed.flatten(-2))
            picture = picture.transpose(-1, -2)
        return picture

    def spread(self, per_tile: Tensor) -> Tensor:
        """One number a tile [B * tiles] -> pictures [B, 3, H, W]: that number, and where tiles begin and end.

        The second is 1 in the first and -1 in the last column of each tile, else 0; the third the same for rows.
        """
        t = self.level.tile
        grid = per_tile.view(-1, 1, len(self.rows), len(self.columns))
        picture = grid[:, :, self.row_of // t][..., self.column_of // t]
        across, down = (torch.from_numpy(edges(n)).to(picture) for n in (self.level.columns, self.level.rows))
        borders = torch.stack([across[None].expand(len(down), -1), down[:, None].expand(-1, len(across))])
        return torch.cat([picture, borders[None].expand(len(picture), -1, -1, -1)], dim=1)


def halve(picture: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, ceil(H / 2), ceil(W / 2)] by 2x2 means, the last row and column repeated if odd."""
    h, w = picture.shape[-2:]
    return F.avg_pool2d(F.pad(picture, (0, w % 2, 0, h % 2), mode="replicate"), 2)


def pyramid(picture: Tensor, count: int) -> list[Tensor]:
    """The picture at `count` levels, coarse to fine."""
    levels = [picture]
    while len(levels) < count:
        levels.append(halve(levels[-1]))
    return levels[::-1]


def double(picture: Tensor, ahead: Tensor | None, width: int, height: int) -> Tensor:
    """[B, C, h, w] -> [B, C, height, width]: bicubic to twice the size, plus `ahead`, cropped, 0 to 255.

    Inverse of `halve` in position. `ahead` is [B, C, at least height, at least width], or None for nothing.
    """
    larger = F.interpolate(picture, scale_factor=2, mode="bicubic", align_corners=False)[..., :height, :width]
    if ahead is not None:
        larger = larger + ahead[..., :height, :width]
    return larger.clamp(0, 255)
