"""The fewest bytes that say the same (SPEC section 5.7)."""

from __future__ import annotations

from collections.abc import Callable

from ..format.tokens import Tokens
from .model import Model, StreamSpec
from .reader import read
from .writer import Classes


def trim(data: bytes, tokens: Tokens, model: Model, classes: Classes | None = None) -> bytes:
    """The shortest bytes near a stream that read as the same tokens.

    Args:
        classes: `Writer.classes` of the stream, if they are at hand, for the search; its result is read without them.
    """
    spec = StreamSpec(tokens.width, tokens.height, model)
    best = shortest(data, lambda part: read(part, spec, classes).same_as(tokens))
    if classes is not None and not read(best, spec).same_as(tokens):
        return trim(data, tokens, model)
    return best


def shortest(data: bytes, says_it: Callable[[bytes], bool]) -> bytes:
    """The shortest bytes near a stream that say what it says.

    Trailing stop flags are not needed; of the rest, n bytes serve if the stream's first n bytes do, or the next
    larger number of n bytes does (the coder likes to end at the very start of its interval).
    """

    def fit(n: int) -> bytes | None:
        head = int.from_bytes(data[:n], "big")
        parts = (number.to_bytes(n, "big") for number in (head, head + 1) if number < 256**n)
        return next((part for part in parts if says_it(part)), None)

    low, high, best = 0, len(data), data
    while low < high:
        middle = (low + high) // 2
        fitting = fit(middle)
        low, high, best = (middle + 1, high, best) if fitting is None else (low, middle, fitting)
    return best
