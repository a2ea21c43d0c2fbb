"""The shortest prefix of a file that is good enough."""

from __future__ import annotations

from collections.abc import Callable

_SHARES = (0.98, 0.97, 0.96, 0.94, 0.92)  # of a cut that is good enough: shorter ones that might be, too
_NEAR = 4  # bytes less than it, likewise


def shortest(low: int, high: int, good: Callable[[int], bool]) -> int:
    """The smallest size from `low` to `high` bytes that is good, where `high` is known to be.

    Quality nearly always grows with size, so halving finds where it becomes good. It may sink again by a little where a
    pass begins; hence some sizes below that one are looked at too, and if one is good, the search goes on below it.
    """
    known = {high: True}

    def is_good(size: int) -> bool:
        if size not in known:
            known[size] = good(size)
        return known[size]

    if low >= high or is_good(low):
        return min(low, high)
    while True:
        bad = low
        while high - bad > 1:
            middle = max(bad + 1, min(high - 1, round((bad * high) ** 0.5)))
            bad, high = (bad, middle) if is_good(middle) else (middle, high)
        below = {high - less for less in range(2, _NEAR + 1)} | {int(high * share) for share in _SHARES}
        better = next((size for size in sorted(below) if size > low and is_good(size)), None)
        if better is None:
            return high
        high = better
