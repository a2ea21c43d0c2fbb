"""Results of rd.py read back from their JSON file, checked once, here, so that those who use them need not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.quality.metrics import METRICS

SCHEMA = 2
LARGEST_BYTES = 256 << 20  # of a results file
NUMBER = (int, float, type(None))  # a mean, or None without any
CELL = {"images": int, "mean": NUMBER, "low": NUMBER, "high": NUMBER, "bytes": NUMBER}
KINDS = {
    "schema": int,
    "corpus": {"name": str, "images": int, "sha256": str},
    **dict.fromkeys(("budgets", "metrics"), list),
    **dict.fromkeys(("versions", "codecs", "summary", "comparison"), dict),
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
    _want(results, "", KINDS)
    if results["schema"] != SCHEMA:
        raise ResultsError(f"schema is {results['schema']}, wanted {SCHEMA}")
    for key, kind in (("budgets", int), ("metrics", str), ("codecs", dict)):
        if not results[key]:
            raise ResultsError(f"{key} is empty, wanted at least one")
        for value in results[key].values() if kind is dict else results[key]:
            _want(value, f"an entry of {key}", kind)
    budgets, metrics = [str(b) for b in results["budgets"]], results["metrics"]
    if unknown := [name for name in metrics if name not in METRICS]:
        raise ResultsError(f"metric {unknown[0]!r} is unknown, wanted some of {', '.join(METRICS)}")
    cells = {"reached": int, **dict.fromkeys(metrics, CELL)}
    _want(results["summary"], "summary", dict.fromkeys(results["codecs"], dict.fromkeys(budgets, cells)))
    for codec in results["codecs"]:
        summary = results["summary"][codec]
        if list(summary) != budgets:
            raise ResultsError(f"summary.{codec} has budgets {list(summary)}, wanted those of {results['budgets']}")
        for cell in (cell[metric] for cell in summary.values() for metric in metrics):
            if len({cell[key] is None for key in ("mean", "low", "high")}) > 1:
                raise ResultsError(f"summary.{codec} has a mean without an interval, or an interval without a mean")
    wins = dict.fromkeys(budgets, {"images": int, "share": NUMBER})
    compared = {"wins": wins, "bd_rate": (dict, type(None))}
    for ours, others in results["comparison"].items():
        where = f"comparison.{ours}"
        _want(others, where, dict)
        _want(others, where, dict.fromkeys(others, dict.fromkeys(metrics, compared)))
        for bd_rate in (cell[metric]["bd_rate"] for cell in others.values() for metric in metrics):
            if bd_rate is not None:
                _want(bd_rate, f"{where} bd_rate", {"percent": (int, float)})


def _want(value: Any, where: str, kind: Any) -> None:
    """Raise ResultsError for a value of another kind: a type, several, or a dict of kinds by key, which must be there.

    A truth value is no number.
    """
    kinds = kind if isinstance(kind, tuple) else (dict if isinstance(kind, dict) else kind,)
    if not isinstance(value, kinds) or isinstance(value, bool):
        wanted = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
        raise ResultsError(f"{where or 'the file'} is {type(value).__name__} {str(value)[:40]!r}, wanted {wanted}")
    for key, inner in kind.items() if isinstance(kind, dict) else ():
        if key not in value:
            raise ResultsError(f"{where or 'the file'} has no {key!r}")
        _want(value[key], f"{where}.{key}" if where else key, inner)
