"""Which ranks and tokens each tile of a pass has, and the order in which they come (SPEC section 5.3)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..format.config import Config
from ..format.geometry import Level


class Layout:
    """Ranks and tokens of the tiles of a pass. Tiles smaller than the full size lack some.

    Attributes:
        ends: int64 [N], rank after the last one of each token. last: int64 [tiles], tokens that a tile can have.

    Args:
        order: the scan order. grey: whether tiles have channel 0 alone.
    """

    def __init__(self, level: Level, config: Config, order: np.ndarray, *, grey: bool = False) -> None:
        sizes = level.boxes[:, 2:]
        kinds, self._kind = np.unique(sizes, axis=0, return_inverse=True)
        row, column = order % config.tile**2 // config.tile, order % config.tile
        self._exists = (row < kinds[:, 1:]) & (column < kinds[:, :1])  # [size kinds, K]
        if grey:
            self._exists &= order < config.tile**2
        self.ends = np.cumsum(config.token_dims)
        furthest = (self._exists * np.arange(1, config.coefficients + 1)).max(1)
        self.last = (np.searchsorted(self.ends, furthest) + 1)[self._kind]

    @property
    def exists(self) -> np.ndarray:
        """bool [tiles, K]: the ranks that each tile has."""
        return self._exists[self._kind]

    def sent(self, counts: np.ndarray) -> np.ndarray:
        """bool [tiles, K]: the ranks in the first counts [tiles] tokens of each tile."""
        kept = np.append(0, self.ends)[counts]
        return self.exists & (np.arange(self._exists.shape[1]) < kept[:, None])

    def span(self, token: int) -> tuple[int, int]:
        """First and last (exclusive) rank of a token."""
        return (int(self.ends[token - 1]) if token else 0), int(self.ends[token])

    def positions(self, tiles: np.ndarray, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Rank and tile of each integer at ranks start to end - 1, rank by rank: two int arrays of equal length."""
        exists = self._exists[self._kind[tiles], start:end]
        rank, which = np.nonzero(exists.T)
        return rank + start, tiles[which]


class Rounds:
    """The rounds of a pass: one for each token, with the tiles that may have it, as long as there are such tiles."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.tiles = layout, np.arange(len(layout.last))

    def __iter__(self) -> Iterator[int]:
        for token in range(len(self.layout.ends)):
            self.tiles = self.tiles[self.layout.last[self.tiles] > token]
            if not len(self.tiles):
                return
            yield token

    def go_on(self, flags: np.ndarray) -> np.ndarray:
        """The tiles whose continue flag is set: those that have this token."""
        self.tiles = self.tiles[flags.astype(bool)]
        return self.tiles
