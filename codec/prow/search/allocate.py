"""How many tokens each tile of a picture gets: where they help most (the Lagrangian way, Shoham and Gersho, 1988)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def in_order_of_gain(lengths: Sequence[int], errors: np.ndarray, tokens: int) -> np.ndarray:
    """In which order tiles should get their tokens.

    Args:
        lengths: numbers of tokens, rising, of which the first is 0. errors: [tiles, lengths], square error of a tile
            with so many. tokens: of a tile at most.

    Returns:
        int64 [tiles * tokens], the tile that gets each token: a tile's next one comes the earlier, the more error it
        takes away on the lower convex hull of what was measured; beyond that, all tiles in turn.
    """
    tiles = len(errors)
    gains = np.zeros((tiles, tokens))
    for tile, measured in enumerate(errors):
        hull = _hull(lengths, measured)
        for (a, error_a), (b, error_b) in zip(hull, hull[1:], strict=False):
            gains[tile, a:b] = max(0.0, (error_a - error_b) / (b - a))
    owner = np.repeat(np.arange(tiles), tokens)
    place = np.tile(np.arange(tokens), tiles)
    return owner[np.lexsort((owner, place, -gains.ravel()))]


def _hull(lengths: Sequence[int], errors: np.ndarray) -> list[tuple[int, float]]:
    """The lower convex hull of (length, error)."""
    hull: list[tuple[int, float]] = []
    for point in zip(lengths, errors.tolist(), strict=True):
        while len(hull) > 1 and _slope(hull[-2], point) <= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(point)
    return hull


def _slope(a: tuple[int, float], b: tuple[int, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])
