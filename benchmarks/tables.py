"""Results of rd.py as Markdown tables."""

from __future__ import annotations

from typing import Any

from benchmarks.metrics import METRICS


def label(codec: str) -> str:
    """-> a codec's name for readers."""
    return codec.replace("-scaled", ", best downscale").replace("-bare", ", bare")


def table(results: dict[str, Any], metric: str) -> str:
    """-> a metric's means: a row per codec, a column per budget, "(n)" where only n images have one."""
    rows = [[METRICS[metric].heading, *(f"{b:,} B" for b in results["budgets"])]]
    for codec, summary in results["summary"].items():
        cells = [(cell[metric]["mean"], cell[metric]["images"]) for cell in summary.values()]
        rows.append([label(codec), *(_number(v, METRICS[metric].decimals, n, results) for v, n in cells)])
    return markdown(rows)


def win_table(results: dict[str, Any], ours: str, metric: str) -> str:
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
    return markdown(rows)


def bd_table(results: dict[str, Any], ours: str) -> str:
    """-> BD-rates: a row per other codec, a column per metric, a dash where there is none."""
    rows = [[f"bytes of {label(ours)} for the same quality (BD-rate)", *(METRICS[m].title for m in results["metrics"])]]
    for other, cell in results["comparison"][ours].items():
        found = [cell[metric]["bd_rate"] for metric in results["metrics"]]
        rows.append([f"against {label(other)}", *("-" if bd is None else f"{bd['percent']:+.1f} %" for bd in found)])
    return markdown(rows)


def all_tables(results: dict[str, Any]) -> list[str]:
    """-> means, then, if prow is among the codecs, its wins and BD-rates."""
    found = [table(results, metric) for metric in results["metrics"]]
    for ours in results["comparison"]:
        found += [win_table(results, ours, metric) for metric in results["metrics"]]
        found.append(bd_table(results, ours))
    return found


def _number(value: float | None, decimals: int, images: int, results: dict[str, Any]) -> str:
    part = "" if images == results["corpus"]["images"] else f" ({images})"
    return "-" if value is None else f"{value:.{decimals}f}{part}"


def markdown(rows: list[list[str]]) -> str:
    """-> rows of cells as a table, the first column to the left and the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) + " |" for row in rows]
    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:])]) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
