"""Results of rd.py as tables: rows of cells, the first row and the first column say what they hold."""

from __future__ import annotations

from typing import Any

from benchmarks.common.tables import Rows, label, markdown
from benchmarks.quality.metrics import METRICS


def mean_rows(results: dict[str, Any], metric: str, *, intervals: bool = False) -> Rows:
    """-> a metric's means: a row per codec, a column per budget, "(n)" where only n images have one.

    With `intervals`, the bounds of the mean's interval on a line of their own below it, if it is over several images.
    """
    decimals = METRICS[metric].decimals
    rows = [[METRICS[metric].heading, *(f"{b:,} B" for b in results["budgets"])]]
    for codec, summary in results["summary"].items():
        row = [label(codec)]
        for cell in (cell[metric] for cell in summary.values()):
            text = _number(cell["mean"], decimals, cell["images"], results)
            if intervals and cell["images"] > 1:
                text += f"\n{cell['low']:.{decimals}f} to {cell['high']:.{decimals}f}"
            row.append(text)
        rows.append(row)
    return rows


def win_rows(results: dict[str, Any], ours: str, metric: str) -> Rows:
    """-> on how many images our codec is better than each other, "(n)" where only n could be compared."""
    rows = [
        [f"{label(ours)} better in {METRICS[metric].title}, % of images", *(f"{b:,} B" for b in results["budgets"])]
    ]
    for other, cell in results["comparison"][ours].items():
        row = [f"than {label(other)}"]
        for won in cell[metric]["wins"].values():
            share = None if won["share"] is None else 100 * won["share"]
            row.append(_number(share, 0, won["images"], results))
        rows.append(row)
    return rows


def bd_rows(results: dict[str, Any], ours: str) -> Rows:
    """-> BD-rates: a row per other codec, a column per metric, a dash where there is none."""
    rows = [[f"bytes of {label(ours)} for the same quality (BD-rate)", *(METRICS[m].title for m in results["metrics"])]]
    for other, cell in results["comparison"][ours].items():
        rates = [cell[metric]["bd_rate"] for metric in results["metrics"]]
        rows.append([f"against {label(other)}", *("-" if bd is None else f"{bd['percent']:+.1f} %" for bd in rates)])
    return rows


def all_rows(results: dict[str, Any], *, intervals: bool = False) -> list[Rows]:
    """-> means, then, if prow is among the codecs, its wins and BD-rates."""
    tables = [mean_rows(results, metric, intervals=intervals) for metric in results["metrics"]]
    for ours in results["comparison"]:
        tables += [win_rows(results, ours, metric) for metric in results["metrics"]]
        tables.append(bd_rows(results, ours))
    return tables


def all_tables(results: dict[str, Any]) -> list[str]:
    """-> the same as Markdown."""
    return [markdown(rows) for rows in all_rows(results)]


def _number(value: float | None, decimals: int, images: int, results: dict[str, Any]) -> str:
    part = "" if images == results["corpus"]["images"] else f" ({images})"
    return "-" if value is None else f"{value:.{decimals}f}{part}"
