"""Arguments as callers give them: what came and what was wanted, in one form of words.

numpy's integers and floats are numbers like Python's; bools are none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

from .errors import InputError

__all__ = ["flag", "number", "one_of", "several", "text", "told", "whole"]

_MOST_SHOWN = 60  # characters


def told(value: object) -> str:
    """A value in a message: its repr, shortened; its type where that is not to be had."""
    try:
        shown = repr(value)
    except Exception:  # such as an integer of more digits than Python writes
        return f"of type {type(value).__name__}"
    shown = " ".join(shown.split())
    return shown if len(shown) <= _MOST_SHOWN else f"{shown[: _MOST_SHOWN - 3]}..."


def whole(name: str, value: Any, least: int, most: int | None = None, unit: str = "") -> int:
    """A whole number from `least` to `most` as an int. Raises InputError."""
    found = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None
    if found is None or found < least or (most is not None and found > most):
        span = f"of at least {least:,}" if most is None else f"from {least:,} to {most:,}"
        raise InputError(f"{name} {told(value)} came, wanted a whole number {span}{unit}")
    return found


def number(
    name: str, value: object, wanted: str, least: float, most: float = math.inf, *, above: bool = False
) -> float:
    """A finite number from `least` (with `above`: above it) to `most` as a float. Raises InputError."""
    found = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
    if not math.isfinite(found) or not least <= found <= most or (above and found == least):
        raise InputError(f"{name} {told(value)} came, wanted {wanted}")
    return found


def one_of(name: str, value: object, choices: Sequence[str]) -> None:
    """Raises InputError for what is not one of some strings."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name} {told(value)} came, wanted one of {', '.join(map(repr, choices))}")


def flag(name: str, value: object) -> bool:
    """True or False, or 1 or 0 for these. Raises InputError."""
    if type(value).__name__ not in ("bool", "bool_") and not (isinstance(value, Integral) and 0 <= value <= 1):  # type: ignore[operator]
        raise InputError(f"{name} {told(value)} came, wanted True or False")
    return bool(value)


def text(name: str, value: object, wanted: str) -> str:
    """A string. Raises InputError."""
    if not isinstance(value, str):
        raise InputError(f"{name} {told(value)} came, wanted {wanted}")
    return value


def several(name: str, value: Any, wanted: str) -> Iterable[Any]:
    """Something to go through, which a single string or file is not. Raises InputError."""
    one = isinstance(value, str | bytes | bytearray | memoryview) or getattr(value, "ndim", 1) == 0
    if one or not hasattr(type(value), "__iter__"):
        raise InputError(f"{name} of type {type(value).__name__} came, wanted {wanted}")
    return value
