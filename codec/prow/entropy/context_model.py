"""Which table codes an integer: chosen from what reader and writer already know, in integers alone (SPEC section 5.4).

The class of an integer is that of its rank at the pass's step, shifted by what a small network says about its
surroundings: the nearest lower frequencies in its tile and in the four tiles around it, the same frequency in the
tile at its place in the pass before, how active all of these are, and where the pass stands. The network computes with
integers, so no rounding ever touches a class. (In float64, which is exact for integers below 2**53 and has fast matrix
products.)
"""

from __future__ import annotations

from functools import cache

import numpy as np

from ..format.config import KIND_NAMES, Config
from ..format.geometry import Pass
from .model import Model
from .tables import NEIGHBOURS, TILE_BINS, Tables

GROUP = 16  # ranks of a token that are coded on the same knowledge
CAP = 4  # magnitudes count up to this
_BATCH = 1 << 14  # integers whose surroundings are gathered at once
_ROWS = 100  # of a matrix product at once
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
# Coefficients of the tile in the pass before that say something about one: offsets, likewise.
_UNDER = ((0, 0, 0), (0, 1, 0), (0, 0, 1), (0, -1, 0), (0, 0, -1), (0, 1, 1), (-1, 0, 0))
_ONES = np.ones(len(_UNDER), np.int32)  # a product with these is a sum, and quicker for so few
assert len(_NEIGHBOURS) == NEIGHBOURS


@cache
def groups(config: Config, token: int) -> list[tuple[int, int]]:
    """First and last (exclusive) rank of each group of a token."""
    end = sum(config.token_dims[: token + 1])
    start = end - config.token_dims[token]
    return [(a, min(a + GROUP, end)) for a in range(start, end, GROUP)]


@cache
def group_of_rank(config: Config) -> np.ndarray:
    """intp [K]: which group of a pass each rank is coded in."""
    sizes = [end - start for token in range(config.tokens) for start, end in groups(config, token)]
    return np.repeat(np.arange(len(sizes)), sizes)


def _bins(amount: np.ndarray) -> np.ndarray:
    octave = np.frexp(amount.astype(np.float64))[1].astype(np.int64) - 1  # floor(log2), exact; -1 for 0
    large = np.maximum(octave, 1)
    return np.where(amount < 2, amount, 2 * large + ((amount >> (large - 1)) & 1)).astype(np.int64)


_SMALL = _bins(np.arange(1 << 14))


def bins(amount: np.ndarray) -> np.ndarray:
    """Amounts (integers of at least 0) to bins 0, 1, 2, 3, 4-5, 6-7, 8-11, 12-15, 16-23, ...; int64."""
    if amount.size and amount.max() >= len(_SMALL):
        return _bins(amount.astype(np.int64))
    return _SMALL.take(amount)


@cache
def _rank_of(order: bytes, config: Config) -> np.ndarray:
    """intp [K + 1]: rank of each coefficient; K for coefficient K, which is none."""
    rank_of = np.empty(config.coefficients + 1, np.intp)
    rank_of[np.frombuffer(order, "<i4")] = np.arange(config.coefficients)
    rank_of[-1] = config.coefficients
    return rank_of


@cache
def _shifted_coefficients(order: bytes, config: Config, offsets: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    """int32 [K, offsets]: coefficient at each offset from that of each rank, K where there is none."""
    tile, k = config.tile, config.coefficients
    coefficient = np.frombuffer(order, "<i4")
    channel, row, column = coefficient // tile**2, coefficient // tile % tile, coefficient % tile
    shifted = []
    for dc, dv, du in offsets:
        c, v, u = channel + dc, row + dv, column + du
        inside = (c >= 0) & (v >= 0) & (v < tile) & (u >= 0) & (u < tile)
        shifted.append(np.where(inside, (c * tile + v) * tile + u, k))
    return np.stack(shifted, axis=1)


@cache
def _neighbour_ranks(order: bytes, config: Config) -> np.ndarray:
    """intp [K, 9]: ranks of each rank's neighbours, K where there is none or it is not coded in an earlier group."""
    first = np.empty(config.coefficients, np.int32)  # of the group that a rank is in
    for token in range(config.tokens):
        for start, end in groups(config, token):
            first[start:end] = start
    rank = _rank_of(order, config)[_shifted_coefficients(order, config, tuple(n for n, _ in _NEIGHBOURS))]
    return np.where(rank < first[:, None], rank, config.coefficients)


def position_inputs(pass_: Pass, base: int, model: Model, before: Pass | None) -> np.ndarray:
    """float64 [K, 17 + channels]: what the network is told about each rank of a pass, wherever the tile is."""
    config, tables, step_index = model.config, model.tables, pass_.step_index(base)
    k, tile = config.coefficients, config.tile
    rank, coefficient = np.arange(k), tables.order[pass_.kind]
    channel, v, u = coefficient // tile**2, coefficient // tile % tile, coefficient % tile
    token = np.repeat(np.arange(config.tokens), config.token_dims)
    columns = [tables.classes[pass_.kind, step_index], np.full(k, step_index), token, v, u, v + u]
    columns += [bins(v), bins(u), bins(v + u), bins(rank), *(channel == c for c in range(config.channels))]
    columns += [np.full(k, pass_.kind == kind) for kind in range(len(KIND_NAMES))]
    octaves = before.octaves - pass_.octaves if before else 0
    columns += [np.full(k, amount) for amount in (pass_.octaves, octaves, bins(np.array(pass_.level.tiles)))]
    return np.stack(columns, axis=1).astype(np.float64)


class PassContext:
    """What is known while one pass is coded. Magnitudes grow as groups are coded.

    Args:
        before: that of the last pass before this one that is coded.
        watch: remember magnitudes although these tables have no network that asks for them.
    """

    def __init__(
        self, pass_: Pass, base: int, model: Model, before: PassContext | None, *, watch: bool = False
    ) -> None:
        self.pass_, self.config, self.tables, self.kind = pass_, model.config, model.tables, pass_.kind
        tables, step_index = model.tables, pass_.step_index(base)
        self.class_of_rank, self.go = tables.classes[pass_.kind, step_index], tables.go[pass_.kind, step_index]
        order = tables.order[pass_.kind].astype("<i4").tobytes()
        self.near_ranks, self.rank_of = _neighbour_ranks(order, self.config), _rank_of(order, self.config)
        tiles = pass_.level.tiles
        self.magnitudes = np.zeros((tiles + 1, self.config.coefficients + 1), np.int8)  # a last row and column of zeros
        self.magnitudes_around = np.zeros_like(self.magnitudes)  # sums of those of the four tiles around each
        self.energy = np.zeros((1, tiles + 1), np.int32)  # sums of magnitudes at some moments, the last of which is now
        self.tokens = np.zeros(tiles + 1, np.int16)
        self.around = _around(pass_)
        self.tile_before = np.zeros(tiles, np.int64)
        self.ranks_under = np.zeros((self.config.coefficients, len(_UNDER)), np.intp)
        self.magnitudes_before, self.energy_before = np.zeros((1, 1), np.int8), np.zeros(1, np.int32)
        self.ranks_before: np.ndarray | None = None  # intp [K + 1], in the pass before if it is of this level
        if before is not None:
            self.tile_before = _tile_before(pass_, before.pass_)
            self.ranks_under = before.rank_of[_shifted_coefficients(order, self.config, _UNDER)]
            self.magnitudes_before, self.energy_before = before.held(), before.energy[-1]
            if before.pass_.level == pass_.level:
                self.ranks_before = before.rank_of[np.append(tables.order[pass_.kind], -1)]
        self.mean_before = _means(self.energy_before)
        self.position: np.ndarray | None = None
        if tables.w3.any() or tables.b3.any():
            inputs = position_inputs(pass_, base, model, before.pass_ if before else None)
            self.position = _product(inputs, tables.weights[0][: inputs.shape[1]]) + tables.weights[1]
        self.watch = watch or self.position is not None

    def held(self) -> np.ndarray:
        """int8 [tiles + 1, K + 1], magnitudes by rank, those of the passes before at the same level included: what is
        known of each coefficient when the pass is over."""
        if self.ranks_before is None:
            return self.magnitudes
        return np.minimum(self.magnitudes + self.magnitudes_before[:, self.ranks_before], CAP)

    def groups(self, token: int) -> list[tuple[int, int]]:
        """First and last (exclusive) rank of each group of a token, whose classes are found one after the other."""
        return groups(self.config, token)

    def classes(self, rank: np.ndarray, tile: np.ndarray) -> np.ndarray:
        """Table classes of integers, given as rank and tile of each: of the next group, or after `look_back` of any."""
        own = self.class_of_rank[rank].astype(np.int64)
        if self.position is None:
            return own
        shift = np.empty_like(own)
        for i in range(0, len(rank), _BATCH):
            part = slice(i, i + _BATCH)
            context = self.context_inputs(rank[part], tile[part])
            first = _product(context, self.tables.weights[0][-context.shape[1] :])
            first += self.position.take(rank[part], 0)
            shift[part] = rest_of_network(first, self.tables)
        shift += own
        return np.minimum(np.maximum(shift, 0, out=shift), len(self.tables.bank) - 1, out=shift)

    def context_inputs(self, rank: np.ndarray, tile: np.ndarray) -> np.ndarray:
        """float64 [n, 34]: what the network is told about the surroundings of integers, given as in `classes`."""
        if len(self.energy) > 1:
            moment = group_of_rank(self.config).take(rank)
            then, mean = moment * self.energy.shape[1], _means(self.energy).take(moment)
        else:
            then, mean = np.zeros(1, np.intp), _means(self.energy)
        around, before = self.around.take(tile, 0), self.tile_before.take(tile)  # [n, 4], [n]
        near = self.near_ranks.take(rank, 0) + (tile * self.magnitudes.shape[1])[:, None]  # [n, 9]
        own, others = self.magnitudes.take(near), self.magnitudes_around.take(near)
        under = self.ranks_under.take(rank, 0) + (before * self.magnitudes_before.shape[1])[:, None]  # [n, 7]
        under = self.magnitudes_before.take(under)
        amounts = np.empty((len(rank), 17), np.int64)
        amounts[:, :9] = others
        amounts[:, 9], amounts[:, 10] = own @ _WEIGHTS, others @ _WEIGHTS
        amounts[:, 11] = self.energy.take(tile + then)
        amounts[:, 12] = self.energy.take(around + then[:, None]) @ _ONES[:4]
        amounts[:, 13], amounts[:, 14] = self.energy_before.take(before), under @ _ONES
        amounts[:, 15], amounts[:, 16] = mean, self.mean_before
        binned = bins(amounts)
        inputs = np.empty((len(rank), 34))
        inputs[:, 0] = (around < len(self.around)) @ _ONES[:4]
        inputs[:, 1:10] = own
        inputs[:, 10:24] = binned[:, :14]
        inputs[:, 24:31] = under
        inputs[:, 31:] = binned[:, 14:]
        return inputs

    def update(self, rank: np.ndarray, tile: np.ndarray, symbols: np.ndarray) -> None:
        """Learn the symbols of one group, or of several in their order."""
        some = symbols.nonzero()[0]
        rank, tile, magnitude = rank[some], tile[some], np.minimum((symbols[some] + 1) // 2, CAP)
        self.energy[-1] += np.bincount(tile, magnitude, self.energy.shape[1]).astype(np.int32)
        if self.watch:
            self.magnitudes[tile, rank] = magnitude
            places = self.around[tile] * self.magnitudes.shape[1] + rank[:, None]
            np.add.at(self.magnitudes_around.ravel(), places.ravel(), magnitude.astype(np.int8).repeat(4))

    def look_back(self) -> None:
        """Go through a pass of which all is known: from now on `classes` are those that each integer had in its turn.

        Neighbours of earlier groups alone count, so magnitudes say the same then and now; energies do not.
        """
        if not self.watch:
            return
        group, tiles = group_of_rank(self.config), self.energy.shape[1]
        tile, rank = self.magnitudes[:-1, :-1].nonzero()
        place = (group[rank] + 1) * tiles + tile
        sums = np.bincount(place, self.magnitudes[tile, rank], (group[-1] + 2) * tiles).astype(np.int32)
        self.energy = sums.reshape(-1, tiles).cumsum(0, dtype=np.int32)

    def flag_classes(self, token: int, tile: np.ndarray) -> np.ndarray:
        """Odds classes of the continue flags before a token."""
        around, before, own = self.flag_features(token, tile)
        shift = self.tables.flag_around[self.kind, token, around, before].astype(np.int32)
        shift += self.tables.flag_own[self.kind, token, own]
        return np.clip(self.go[token] + shift, 0, len(self.tables.odds) - 1)

    def flag_features(self, token: int, tile: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How many tiles around have gone this far; bins of the energy of the tile before and of the tile so far."""
        around = (self.tokens[self.around[tile]] >= max(token, 1)).sum(1)
        energies = self.energy_before[self.tile_before[tile]], self.energy[-1, tile]
        before, own = (np.minimum(bins(e), TILE_BINS - 1) for e in energies)
        return around, before, own

    def go_on(self, token: int, tile: np.ndarray) -> None:
        """Learn which tiles continue with a token."""
        self.tokens[tile] = token + 1


def _means(energy: np.ndarray) -> np.ndarray:
    """int64 [...]: eighths, rounded down, of the mean energy of all tiles [..., tiles + 1], whose last is none."""
    return 8 * energy.sum(-1, dtype=np.int64) // max(1, energy.shape[-1] - 1)


def rest_of_network(first: np.ndarray, tables: Tables) -> np.ndarray:
    """Shifts [n], int64, from the sums of the first layer [n, H], which are overwritten: integers, in float64."""
    _, _, w2, b2, w3, b3 = tables.weights
    second = _product(_activate(first, 2**-6), w2)
    second += b2
    return np.floor((_product(_activate(second, 2**-12), w3) + b3 + 2**17) * 2**-18).astype(np.int64)


def _activate(sums: np.ndarray, scale: float) -> np.ndarray:
    """Scaled by a power of two, rounded down, and kept from 0 to 2**15 - 1; in place."""
    sums *= scale
    np.floor(sums, out=sums)
    np.maximum(sums, 0, out=sums)
    return np.minimum(sums, 2**15 - 1, out=sums)


def _product(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """rows [n, K] @ weights, in pieces for which BLAS wakes no threads: these gain nothing here, and where other work
    keeps the cores busy everything waits for them (several times as long)."""
    found = np.empty((len(rows), *weights.shape[1:]))
    for i in range(0, len(rows), _ROWS):
        np.matmul(rows[i : i + _ROWS], weights, out=found[i : i + _ROWS])
    return found


def _around(pass_: Pass) -> np.ndarray:
    """intp [tiles, 4]: the tiles left, right, above and below each; `tiles` where there is none."""
    rows, columns = len(pass_.level.rows), len(pass_.level.columns)
    padded = np.full((rows + 2, columns + 2), rows * columns, np.intp)
    padded[1:-1, 1:-1] = np.arange(rows * columns).reshape(rows, columns)
    sides = (padded[1:-1, :-2], padded[1:-1, 2:], padded[:-2, 1:-1], padded[2:, 1:-1])
    return np.stack([s.ravel() for s in sides], axis=1)


def _tile_before(pass_: Pass, before: Pass) -> np.ndarray:
    """int64 [tiles]: the tile of the pass before in which the centre of each tile lies."""
    scale = 2 ** (before.octaves - pass_.octaves)
    column = _part_before(pass_.level.columns, before.level.columns, scale)
    row = _part_before(pass_.level.rows, before.level.rows, scale)
    return (row[:, None] * len(before.level.columns) + column).ravel()


def _part_before(parts: list[int], before: list[int], scale: int) -> np.ndarray:
    ends = np.cumsum(parts)
    centre = (2 * ends - np.array(parts)) // (2 * scale)
    return np.minimum(np.searchsorted(np.cumsum(before), centre, side="right"), len(before) - 1)
