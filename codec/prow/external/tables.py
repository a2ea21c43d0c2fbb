"""Frequencies by position from counts: each position's own, as far as they are known, and else those of all."""

from __future__ import annotations

import numpy as np

from ..entropy.tables import TOTAL

_TRUST = (4, 16, 64, 256, 1024, 4096, 16384, 65536, 1 << 20)  # how many tokens of its own the mean of all is worth
_SEEN = 0.5  # what is added to the count of each value in the mean of all


def fit(counts: np.ndarray) -> tuple[np.ndarray, float]:
    """Frequencies that code tokens like those counted in the fewest bits.

    Args:
        counts: int64 [tokens, alphabet], how often each value was seen at each position.

    Returns:
        int32 [tokens, alphabet], rows of at least 1 that sum to 2^24; and the bits that a token takes: of each counted
        token with frequencies fitted to all the others, so that it says what new pictures of the same kind take.
    """
    tokens, alphabet = counts.shape
    together, own = counts.sum(0), counts.sum(1, keepdims=True)
    best_bits, best = np.inf, _TRUST[-1]
    for trust in _TRUST:
        mean = (together - 1 + _SEEN) / (together.sum() - 1 + _SEEN * alphabet)  # without the one that is looked at
        share = (counts - 1 + trust * np.maximum(mean, 1e-300)) / (own - 1 + trust)
        bits = -(counts * np.log2(np.where(counts > 0, share, 1))).sum() / max(1, counts.sum())
        if bits < best_bits:
            best_bits, best = float(bits), trust
    mean = (together + _SEEN) / (together.sum() + _SEEN * alphabet)
    return _frequencies((counts + best * mean) / (own + best)), best_bits


def _frequencies(shares: np.ndarray) -> np.ndarray:
    """Rows that sum to 1 -> int32 rows of at least 1 that sum to 2^24."""
    table = 1 + np.floor(shares * (TOTAL - shares.shape[1])).astype(np.int64)
    missing = TOTAL - table.sum(1)
    table[np.arange(len(table)), table.argmax(1)] += missing
    return table.astype("<i4")
