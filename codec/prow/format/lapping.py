"""The pre-filter that makes a lapped transform of the tiles' DCT: it mixes the pixels on both sides of tile borders.

Its inverse runs behind the inverse DCT, and so a tile's coefficients paint beyond its borders and fade out there: no
border shows. Orthonormal; with the DCT-II it is the fast lapped orthogonal transform (Malvar, Signal Processing with
Lapped Transforms, 1992), as a filter between blocks (Tran, Liang and Tu, IEEE Trans. Signal Processing 51(6), 2003).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np


def reach(lengths: list[int]) -> int:
    """px on each side of the borders of these tiles that are mixed: half of the shortest one; 0 for a single tile."""
    return min(lengths) // 2 if len(lengths) > 1 else 0


def windows(lengths: list[int]) -> np.ndarray:
    """int64 [borders, 2 * reach]: the places that are mixed at each border between parts of these lengths."""
    borders, wide = np.cumsum(lengths)[:-1], reach(lengths)
    return borders[:, None] + np.arange(-wide, wide)


@lru_cache(maxsize=64)
def lap_matrix(wide: int) -> np.ndarray:
    """float32 [2 * wide, 2 * wide], orthonormal: what is mixed from `wide` px on each side of a border.

    Butterflies around a rotation of the differences, which is that of the fast lapped orthogonal transform:
    J C2^T C4 J, with the DCT-II C2, the DCT-IV C4, and the reversal J.
    """
    n = np.arange(wide)
    dct2 = np.cos(np.pi / wide * (n + 0.5) * n[:, None]) * np.sqrt(2 / wide)
    dct2[0] /= np.sqrt(2)
    dct4 = np.cos(np.pi / wide * (n + 0.5) * (n[:, None] + 0.5)) * np.sqrt(2 / wide)
    rotation = (dct2.T @ dct4)[::-1, ::-1]
    same, turned, nothing = np.eye(wide), np.eye(wide)[::-1], np.zeros((wide, wide))
    butterfly = np.block([[same, turned], [turned, -same]]) / np.sqrt(2)
    mixed = butterfly @ np.block([[same, nothing], [nothing, rotation]]) @ butterfly
    return mixed.astype(np.float32)
