"""Which table codes an integer: chosen from what reader and writer already know, in integers alone (SPEC section 5.4).

The class of an integer is that of its rank at the pass's step, shifted by four measures of activity: the nearest
lower frequencies of its tile, the same of the four tiles around it, all of its tile so far, and all of the tile
below it in the pass before. The shifts are small integer tables in the model, so no float ever touches a class.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from .config import Config
from .geometry import Pass
from .tables import NEAR_BINS, TILE_BINS, Tables

GROUP = 16  # ranks of a token that are coded on the same knowledge
CAP = 4  # magnitudes count up to this
_BATCH = 1 << 15  # integers whose neighbours are gathered at once
# Neighbours of a coefficient: offsets in channel, row and column, and their weights.
_NEIGHBOURS = (
    ((0, -1, 0), 2),
    ((0, 0, -1), 2),
    ((0, -1, -1), 1),
    ((0, -2, 0), 1),
    ((0, 0, -2), 1),
    ((0, 1, -1), 1),
    ((0, -1, 1), 1),
    ((-1, 0, 0), 2),
    ((-2, 0, 0), 1),
)
_WEIGHTS = np.array([w for _, w in _NEIGHBOURS], dtype=np.int32)


def groups(config: Config, token: int) -> list[tuple[int, int]]:
    """First and last (exclusive) rank of each group of a token."""
    end = sum(config.token_dims[: token + 1])
    start = end - config.token_dims[token]
    return [(a, min(a + GROUP, end)) for a in range(start, end, GROUP)]


def bins(amount: np.ndarray, count: int) -> np.ndarray:
    """Amounts (at least 0) to bins 0, 1, 2, 3, 4-5, 6-7, 8-11, 12-15, 16-23, ...; the last of `count` is open."""
    octave = np.frexp(amount.astype(np.float64))[1].astype(np.int64) - 1  # floor(log2), exact; -1 for 0
    large = np.maximum(octave, 1)
    fine = 2 * large + ((amount >> (large - 1)) & 1)
    return np.minimum(np.where(amount < 2, amount, fine), count - 1)


@cache
def _neighbour_ranks(order: bytes, config: Config) -> np.ndarray:
    """int32 [K, 9]: ranks of each rank's neighbours, K where there is none or it is not coded in an earlier group."""
    tile, k = config.tile, config.coefficients
    coefficient = np.frombuffer(order, dtype=np.int32)
    rank_of = np.empty(k, np.int32)
    rank_of[coefficient] = np.arange(k)
    channel, row, column = coefficient // tile**2, coefficient // tile % tile, coefficient % tile
    first = np.empty(k, np.int32)  # of the group that a rank is in
    for token in range(config.tokens):
        for start, end in groups(config, token):
            first[start:end] = start
    found = np.full((k, len(_NEIGHBOURS)), k, np.int32)
    for i, ((dc, dv, du), _) in enumerate(_NEIGHBOURS):
        c, v, u = channel + dc, row + dv, column + du
        inside = (c >= 0) & (v >= 0) & (v < tile) & (u >= 0) & (u < tile)
        rank = rank_of[np.where(inside, (c * tile + v) * tile + u, 0)]
        found[:, i] = np.where(inside & (rank < first), rank, k)
    return found


class PassContext:
    """What is known while one pass is coded. Magnitudes grow as groups are coded."""

    def __init__(self, step: Pass, grid: int, config: Config, tables: Tables, below: PassContext | None) -> None:
        self.step, self.tables, self.kind = step, tables, step.kind
        self.base, self.go = tables.classes[step.kind, grid], tables.go[step.kind, grid]
        self.near_ranks = _neighbour_ranks(tables.order[step.kind].tobytes(), config)
        tiles = step.level.tiles
        self.magnitudes = np.zeros((tiles + 1, config.coefficients + 1), np.int8)  # a last row and column of zeros
        self.energy = np.zeros(tiles + 1, np.int32)
        self.tokens = np.zeros(tiles + 1, np.int16)
        self.around = _around(step)
        self.below = np.zeros(tiles, np.int64)
        if below is not None:
            self.below = bins(below.energy[_tile_below(step, below.step)], TILE_BINS)

    def classes(self, token: int, rank: np.ndarray, tile: np.ndarray) -> np.ndarray:
        """Table classes of integers of one group, given as rank and tile of each."""
        features = self.features(tile, *self.activity(rank, tile))
        return shifted(self.tables, self.kind, token, self.base[rank], features)

    def activity(self, rank: np.ndarray, tile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weighted magnitudes at the neighbours of each coefficient, in its own tile and in the four around."""
        own, others = np.empty(len(rank), np.int32), np.empty(len(rank), np.int32)
        for i in range(0, len(rank), _BATCH):
            part = slice(i, i + _BATCH)
            near, tiles = self.near_ranks[rank[part]], tile[part]  # [n, 9], [n]
            own[part] = self.magnitudes[tiles[:, None], near] @ _WEIGHTS
            around = self.magnitudes[self.around[tiles][:, :, None], near[:, None]]  # [n, 4, 9]
            others[part] = around.sum(1, dtype=np.int32) @ _WEIGHTS
        return own, others

    def features(self, tile: np.ndarray, own: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, ...]:
        """The four binned measures of activity."""
        so_far = bins(self.energy[tile], TILE_BINS)
        return bins(own, NEAR_BINS), bins((others + 1) >> 1, NEAR_BINS), so_far, self.below[tile]

    def update(self, rank: np.ndarray, tile: np.ndarray, symbols: np.ndarray) -> None:
        """Learn the symbols of one group."""
        magnitude = np.minimum((symbols + 1) // 2, CAP).astype(np.int8)
        self.magnitudes[tile, rank] = magnitude
        self.energy += np.bincount(tile, magnitude, len(self.energy)).astype(np.int32)

    def flag_classes(self, token: int, tile: np.ndarray) -> np.ndarray:
        """Odds classes of the continue flags before a token."""
        around, own = self.flag_features(token, tile)
        t = self.tables
        shift = t.flag_around[self.kind, token, around, self.below[tile]].astype(np.int32)
        shift += t.flag_own[self.kind, token, own]
        return np.clip(self.go[token] + shift, 0, len(t.odds) - 1)

    def flag_features(self, token: int, tile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many tiles around have gone this far, and the activity of the tile so far."""
        around = (self.tokens[self.around[tile]] >= max(token, 1)).sum(1)
        return around, bins(self.energy[tile], TILE_BINS)

    def go_on(self, token: int, tile: np.ndarray) -> None:
        """Learn which tiles continue with a token."""
        self.tokens[tile] = token + 1


def shifted(
    tables: Tables, kind: int | np.ndarray, token: int | np.ndarray, base: np.ndarray, features: tuple[np.ndarray, ...]
) -> np.ndarray:
    """Table classes [n] from the ranks' own classes and the four features."""
    own, others, so_far, below = features
    shift = tables.near[kind, token, own, others].astype(np.int32)
    shift += tables.tile[kind, token, so_far]
    shift += tables.below[kind, token, below]
    return np.clip(base + shift, 0, len(tables.bank) - 1)


def _around(step: Pass) -> np.ndarray:
    """int32 [tiles, 4]: the tiles left, right, above and below each; `tiles` where there is none."""
    rows, columns = len(step.level.rows), len(step.level.columns)
    padded = np.full((rows + 2, columns + 2), rows * columns, np.int32)
    padded[1:-1, 1:-1] = np.arange(rows * columns).reshape(rows, columns)
    sides = (padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1])
    return np.stack([s.ravel() for s in sides], axis=1)


def _tile_below(step: Pass, below: Pass) -> np.ndarray:
    """int64 [tiles]: the tile of the pass before in which the centre of each tile lies."""
    scale = 1 if step.level.width == below.level.width and step.level.height == below.level.height else 2
    column = _part_below(step.level.columns, below.level.columns, scale)
    row = _part_below(step.level.rows, below.level.rows, scale)
    return (row[:, None] * len(below.level.columns) + column).ravel()


def _part_below(parts: list[int], below: list[int], scale: int) -> np.ndarray:
    ends = np.cumsum(parts)
    centre = (2 * ends - np.array(parts)) // (2 * scale)
    return np.minimum(np.searchsorted(np.cumsum(below), centre, side="right"), len(below) - 1)
