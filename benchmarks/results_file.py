"""Results of rd.py read back from their JSON file, checked once, here, so that those who use them need not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.metrics import METRICS

SCHEMA = 2
LARGEST_BYTES = 256 << 20  # of a results file
NUMBER = (int, float, type(None))  # a mean, or None without any
KINDS = {
    "schema": int,
    "corpus": dict,
    "budgets": list,
    "metrics": list,
    "versions": dict,
    "codecs": dict,
    "summary": dict,
    "comparison": dict,
}


class ResultsError(ValueError):
    """A file that is not what rd.py writes; the message says where, what came and what was wanted."""


def load(path: Path) -> dict[str, Any]:
    """-> results as `benchmarks.rd.collect` makes them, with all that tables and plots read.

    Raises ResultsError.
    """
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise ResultsError(f"{path}: {path.stat().st_size:,} bytes, wanted at most {LARGEST_BYTES:,}")
        results = json.loads(path.read_bytes())
    except OSError as error:
        raise ResultsError(f"{path}: {error.strerror}, wanted a results file of benchmarks.rd") from None
    except ValueError as error:  # not JSON, or not even text
        if isinstance(error, ResultsError):
            raise
        raise ResultsError(f"{path}: not JSON ({error}), wanted a results file of benchmarks.rd") from None
    try:
        _check(results)
    except ResultsError as error:
        raise ResultsError(f"{path}: {error}") from None
    return results


def _check(results: Any) -> None:
    """Raise ResultsError for the first thing that is not as it must be."""
    _want(results, "the file", dict)
    for key, kind in KINDS.items():
        _get(results, "the file", key, kind)
    if results["schema"] != SCHEMA:
        raise ResultsError(f"schema is {results['schema']}, wanted {SCHEMA}")
    for key, kind in (("name", str), ("images", int), ("sha256", str)):
        _get(results["corpus"], "corpus", key, kind)
    for key, kind in (("budgets", int), ("metrics", str), ("codecs", dict)):
        if not results[key]:
            raise ResultsError(f"{key} is empty, wanted at least one")
        for value in results[key].values() if kind is dict else results[key]:
            _want(value, f"an entry of {key}", kind)
    if unknown := [name for name in results["metrics"] if name not in METRICS]:
        raise ResultsError(f"metric {unknown[0]!r} is unknown, wanted some of {', '.join(METRICS)}")
    for codec in results["codecs"]:
        _check_summary(results, codec)
    for ours, others in results["comparison"].items():
        _want(others, f"comparison.{ours}", dict)
        for other in others:
            _check_comparison(results, ours, other)


def _check_summary(results: dict[str, Any], codec: str) -> None:
    """Check the means of a codec at every budget: exactly the budgets of the results, in their order."""
    summary = _get(results["summary"], "summary", codec, dict)
    if list(summary) != [str(b) for b in results["budgets"]]:
        raise ResultsError(f"summary.{codec} has budgets {list(summary)}, wanted those of {results['budgets']}")
    for budget, cell in summary.items():
        where = f"summary.{codec}.{budget}"
        _want(cell, where, dict)
        _get(cell, where, "reached", int)
        for metric in results["metrics"]:
            found = _get(cell, where, metric, dict)
            _get(found, f"{where}.{metric}", "images", int)
            for key in ("mean", "low", "high", "bytes"):
                _get(found, f"{where}.{metric}", key, NUMBER)
            if len({found[key] is None for key in ("mean", "low", "high")}) > 1:
                raise ResultsError(f"{where}.{metric} has a mean without an interval, or an interval without a mean")


def _check_comparison(results: dict[str, Any], ours: str, other: str) -> None:
    """Check wins by budget and BD-rates of one codec of ours against another."""
    for metric in results["metrics"]:
        where = f"comparison.{ours}.{other}"
        cell = _get(_want(results["comparison"][ours][other], where, dict), where, metric, dict)
        where += f".{metric}"
        wins = _get(cell, where, "wins", dict)
        for budget in results["budgets"]:
            won = _get(wins, f"{where}.wins", str(budget), dict)
            _get(won, f"{where}.wins.{budget}", "images", int)
            _get(won, f"{where}.wins.{budget}", "share", NUMBER)
        bd = _get(cell, where, "bd_rate", (dict, type(None)))
        if bd is not None:
            _get(bd, f"{where}.bd_rate", "percent", (int, float))


def _get(found: dict[str, Any], where: str, key: str, kind: type | tuple[type, ...]) -> Any:
    """-> found[key]. Raises ResultsError if it is missing or of another kind."""
    if key not in found:
        raise ResultsError(f"{where} has no {key!r}")
    return _want(found[key], f"{where}.{key}" if where != "the file" else key, kind)


def _want(value: Any, where: str, kind: type | tuple[type, ...]) -> Any:
    """-> the value. Raises ResultsError if it is of another kind; a truth value is no number."""
    if isinstance(value, kind) and not isinstance(value, bool):
        return value
    kinds = kind if isinstance(kind, tuple) else (kind,)
    wanted = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
    raise ResultsError(f"{where} is {type(value).__name__} {str(value)[:40]!r}, wanted {wanted}")
