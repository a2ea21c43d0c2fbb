"""Integers to symbols, and the integer frequency tables that give symbols their probabilities (SPEC section 5).

No torch, no floating point in anything that shapes a probability: frequencies are read from the model file.
"""

from __future__ import annotations

import dataclasses
from functools import cache, cached_property

import numpy as np

from ..format.config import KIND_NAMES, STEPS, Config

TOTAL = 2**24  # every table's frequencies sum to this
DIRECT = 8  # magnitudes below have a symbol of their own, larger ones share two symbols an octave, then raw bits
SYMBOLS = 63
MAX_MAGNITUDE = 2**15 - 1
TILE_BINS, AROUND = 24, 5  # sizes of the flags' context features (`prow.entropy.context_model`)
NEIGHBOURS = 9
MAX_HIDDEN = 1024  # so that no sum of the context network exceeds 2**53


def input_count(config: Config) -> int:
    """Inputs of the network that shifts classes: where an integer stands, then what is around it."""
    return 17 + config.channels + 1 + 2 * NEIGHBOURS + 5 + 8 + 2


def to_symbols(values: np.ndarray) -> np.ndarray:
    """Integers (|v| < 2**15) -> symbols, raw bits and how many raw bits each has; int32 [3, *shape of values]."""
    return _symbols()[:, values.astype(np.intp)]


@cache
def _symbols() -> np.ndarray:
    """int32 [3, 2**16]: what `to_symbols` says of 0, 1, ... and, from the end, of -1, -2, ..."""
    values = np.arange(2**16).astype(np.int16).astype(np.int32)
    magnitude = np.abs(values)
    octave = np.frexp(magnitude.astype(np.float64))[1].astype(np.int32) - 1  # floor(log2), exact for integers
    octave = np.maximum(octave, 0)
    large = magnitude >= DIRECT
    count = np.where(large, octave - 1, 0)
    bucket = np.where(large, DIRECT + 2 * (octave - 3) + ((magnitude >> count) & 1), magnitude)
    symbols = np.where(values > 0, 2 * bucket - 1, 2 * bucket)
    return np.stack([symbols, magnitude & ((1 << count) - 1), count]).astype(np.int32)


def raw_bit_counts(symbols: np.ndarray) -> np.ndarray:
    """How many raw bits follow each symbol."""
    bucket = (symbols + 1) // 2
    return np.where(bucket >= DIRECT, (bucket - DIRECT) // 2 + 2, 0)


def raw_bit_shifts(counts: np.ndarray) -> np.ndarray:
    """The place value of each raw bit of integers that have so many: [3, 2] -> [2, 1, 0, 1, 0]."""
    ends = np.repeat(np.cumsum(counts), counts)
    return ends - 1 - np.arange(len(ends))


def split_raw_bits(raw: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Raw bits of all integers in a row, most significant first."""
    raw, counts = raw[counts > 0], counts[counts > 0]
    return (np.repeat(raw, counts) >> raw_bit_shifts(counts)) & 1


def from_symbols(symbols: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """Symbols and raw bits -> integers, int32."""
    bucket = (symbols + 1) // 2
    count = raw_bit_counts(symbols)
    magnitude = np.where(bucket >= DIRECT, ((2 + (bucket - DIRECT) % 2) << count) + raw, bucket)
    return np.where(symbols % 2 == 1, magnitude, -magnitude).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Tables:
    """All integers that a model's entropy coding rests on.

    Attributes:
        bank: int32 [C, 63], frequencies of the symbols in each table class, at least 1, rows sum to 2**24;
            classes in order of the probability of 0.
        classes: uint8 [kinds, STEPS, K], table class of each rank before any context.
        w1, b1, w2, b2, w3, b3: int16 [`input_count`, H], int32 [H], int16 [H, H], int32 [H], int16 [H], int32 [1], the
            network that shifts the class of an integer by its context; w3 and b3 are zero in a model without contexts.
        odds: int32 [O], frequency of "continue" in each odds class, 1 to 2**24 - 1, rising.
        go: uint8 [kinds, STEPS, N], odds class of the flag before each token; flag_around: int8 [kinds, N, 5, 24],
            its shift by how many tiles around went this far and by the tile below; flag_own: int8 [kinds, N, 24].
        order: int32 [kinds, K], the scan order: coefficient (channel * T * T + row * T + column) of each rank.

    classes and go are the best ones if there were no contexts, and also what an encoder weighs its choices with.
    """

    bank: np.ndarray
    classes: np.ndarray
    w1: np.ndarray
    b1: np.ndarray
    w2: np.ndarray
    b2: np.ndarray
    w3: np.ndarray
    b3: np.ndarray
    odds: np.ndarray
    go: np.ndarray
    flag_around: np.ndarray
    flag_own: np.ndarray
    order: np.ndarray

    def __post_init__(self) -> None:
        if not (self.bank.min() >= 1 and np.all(self.bank.sum(1, dtype=np.int64) == TOTAL)):
            raise ValueError("a frequency table does not sum to 2**24 or holds a zero")
        if self.classes.max() >= len(self.bank) or self.go.max() >= len(self.odds):
            raise ValueError("a table class or an odds class is out of range")
        if self.odds.min() < 1 or self.odds.max() >= TOTAL:
            raise ValueError("a continue frequency is out of range")

    @cached_property
    def probabilities(self) -> np.ndarray:
        """float32 [C, 63]: what constriction takes for exactly these frequencies (each minus one, unnormalised)."""
        return (self.bank - 1).astype(np.float32)

    @cached_property
    def flag_probabilities(self) -> np.ndarray:
        """float32 [O, 2]: the same for the flags, stop and continue."""
        return (np.stack([TOTAL - self.odds, self.odds], axis=1) - 1).astype(np.float32)

    @cached_property
    def weights(self) -> tuple[np.ndarray, ...]:
        """w1 to b3 in float64, which holds every sum of theirs exactly."""
        return tuple(w.astype(np.float64) for w in (self.w1, self.b1, self.w2, self.b2, self.w3, self.b3))

    @cached_property
    def bits(self) -> np.ndarray:
        """float32 [C, 3]: bits of 0, of +-1, and of each further unit, for the encoder's choices."""
        zero, one, two = (-np.log2(self.bank[:, s] / TOTAL) for s in (0, 1, 3))
        return np.stack([zero, one, np.maximum(two - one, 0.05)], axis=1).astype(np.float32)

    def flag_bits(self, kind: int, step_index: int) -> tuple[np.ndarray, np.ndarray]:
        """Bits of continue and of stop before each token, float32 [N] each."""
        p = self.odds[self.go[kind, step_index]] / TOTAL
        return (-np.log2(p)).astype(np.float32), (-np.log2(1 - p)).astype(np.float32)


def check_shapes(tables: Tables, config: Config) -> None:
    """Raise ValueError if tables and config do not belong together."""
    kinds, k, n = len(KIND_NAMES), config.coefficients, config.tokens
    hidden = min(max(tables.w3.size, 1), MAX_HIDDEN)
    wanted = {
        "classes": (kinds, STEPS, k),
        "w1": (input_count(config), hidden),
        "b1": (hidden,),
        "w2": (hidden, hidden),
        "b2": (hidden,),
        "w3": (hidden,),
        "b3": (1,),
        "go": (kinds, STEPS, n),
        "flag_around": (kinds, n, AROUND, TILE_BINS),
        "flag_own": (kinds, n, TILE_BINS),
        "order": (kinds, k),
    }
    for name, shape in wanted.items():
        if getattr(tables, name).shape != shape:
            raise ValueError(f"table {name} is {getattr(tables, name).shape}, config {config.name} wants {shape}")
    if any(set(order.tolist()) != set(range(k)) for order in tables.order):
        raise ValueError("a table order is no permutation of the coefficients")
    if tables.bank.shape[1] != SYMBOLS:
        raise ValueError(f"table bank has {tables.bank.shape[1]} symbols, the format wants {SYMBOLS}")
