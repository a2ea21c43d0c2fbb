"""The linear anchor: an orthonormal transform of a tile of any size up to tile x tile.

Colour goes through an orthonormal opponent transform (luma, red-blue, green-magenta), space through a separable
DCT-II of the tile's own size, so a tile at the border needs no padding: a tile of w x h px has w x h coefficients a
channel, at indices (v < h, u < w) of the tile x tile grid, and none elsewhere. Before it, the pixels on both sides of
each tile border are mixed (`prow.format.lapping`), which makes one lapped transform of the two.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

COLOUR = torch.tensor(
    [
        [1 / math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3)],
        [1 / math.sqrt(2), 0.0, -1 / math.sqrt(2)],
        [1 / math.sqrt(6), -2 / math.sqrt(6), 1 / math.sqrt(6)],
    ]
)


def colour_matrix(channels: int) -> Tensor:
    """Orthonormal [channels, channels]: the opponent transform of the first three, all others by themselves."""
    matrix = torch.eye(channels)
    if channels >= 3:
        matrix[:3, :3] = COLOUR
    return matrix


def dct_matrix(size: int) -> Tensor:
    """Orthonormal DCT-II: [size, size], row k is the basis function of frequency k."""
    n = torch.arange(size, dtype=torch.float64)
    basis = torch.cos(math.pi / size * (n + 0.5) * n[:, None]) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis.float()


class Anchor(nn.Module):
    """Orthonormal colour and DCT transform of tiles with their own sizes, padded to [tile, tile]."""

    bank: Tensor
    colour: Tensor

    def __init__(self, tile: int, channels: int) -> None:
        super().__init__()
        self.tile, self.channels = tile, channels
        bank = torch.zeros(tile + 1, tile, tile)  # bank[s] is the DCT of size s in its top left corner
        for size in range(1, tile + 1):
            bank[size, :size, :size] = dct_matrix(size)
        self.register_buffer("bank", bank, persistent=False)
        self.register_buffer("colour", colour_matrix(channels), persistent=False)

    def forward(self, pixels: Tensor, sizes: Tensor) -> Tensor:
        """pixels [B, C, T, T], sizes [B, 2] (height, width) -> coefficients [B, C * T * T], zero where none exist."""
        rows, cols = self.bank[sizes[:, 0]], self.bank[sizes[:, 1]]  # [B, T, T] each
        planes = torch.einsum("ij,bjyx->biyx", self.colour, pixels)
        return (rows[:, None] @ planes @ cols[:, None].transpose(-1, -2)).flatten(1)

    def inverse(self, coefficients: Tensor, sizes: Tensor) -> Tensor:
        """coefficients [B, C * T * T], sizes [B, 2] -> pixels [B, C, T, T], zero outside the tile."""
        rows, cols = self.bank[sizes[:, 0]], self.bank[sizes[:, 1]]
        planes = coefficients.view(-1, self.channels, self.tile, self.tile)
        planes = rows[:, None].transpose(-1, -2) @ planes @ cols[:, None]
        return torch.einsum("ij,biyx->bjyx", self.colour, planes)
