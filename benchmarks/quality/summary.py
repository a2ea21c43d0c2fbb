"""From points to statements: means with intervals, wins of prow, Bjontegaard deltas. See records.py for points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.quality.metrics import METRICS
from benchmarks.quality.records import Point

RESAMPLES = 1000
SEED = 20220713  # any; fixed, so that the same points give the same intervals
LEVEL = 95  # percent of the resampled means within an interval
BD_MIN_POINTS = 3  # budgets that a curve needs
OURS = ("prow", "prow-bare")  # codecs that are compared with all others


def interval(values: Sequence[float]) -> tuple[float, float]:
    """-> bounds of the bootstrap interval of the mean: values are drawn anew, with replacement, 1000 times."""
    data = np.asarray(values, float)
    drawn = np.random.default_rng(SEED).integers(0, len(data), (RESAMPLES, len(data)))
    low, high = np.percentile(data[drawn].mean(axis=1), [50 - LEVEL / 2, 50 + LEVEL / 2])
    return float(low), float(high)


def mean_cell(values: Sequence[float], decimals: int) -> dict[str, float | None]:
    """-> mean, low and high (bounds of its interval), rounded; all None without values."""
    if not values:
        return {"mean": None, "low": None, "high": None}
    low, high = interval(values)
    mean = sum(values) / len(values)
    return {"mean": round(mean, decimals), "low": round(low, decimals), "high": round(high, decimals)}


def summarise(points: list[Point], names: Sequence[str]) -> dict[str, Any]:
    """-> one codec at one budget: images reached; by metric the mean value, its interval and the mean bytes.

    Means are over the images that the codec reached and the metric is defined for: `images` of them.
    """
    reached = [point for point in points if point["reached"]]
    cell: dict[str, Any] = {"reached": len(reached)}
    for name in names:
        files = [point[name] for point in reached if point[name]["value"] is not None]
        sizes = [file["bytes"] for file in files] or [point[name]["bytes"] for point in reached]
        cell[name] = {
            "images": len(files),
            **mean_cell([file["value"] for file in files], METRICS[name].kept),
            "bytes": round(sum(sizes) / len(sizes), 1) if sizes else None,
        }
    return cell


def values_of(points: list[Point], name: str) -> list[float | None]:
    """-> a metric's value for each point; None where there is none."""
    return [point[name]["value"] if point["reached"] else None for point in points]


def wins(ours: list[Point], theirs: list[Point], name: str) -> dict[str, Any]:
    """-> how often our point is strictly better than theirs for the same image, and by how much in the mean.

    Only `images` count for which both have a value. `share` is None without any.
    """
    both = zip(values_of(ours, name), values_of(theirs, name), strict=True)
    pairs = [(a, b) for a, b in both if a is not None and b is not None]
    metric = METRICS[name]
    won = sum(metric.is_better(a, b) for a, b in pairs)
    return {
        "images": len(pairs),
        "share": round(won / len(pairs), 4) if pairs else None,
        "difference": mean_cell([a - b for a, b in pairs], metric.kept),
    }


def compare(
    points: dict[str, dict[int, list[Point]]], budgets: list[int], names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """-> for each codec of ours, each other codec and each metric: wins by budget, and the BD-rate.

    `points` are those of all images in the same order, by codec and budget.
    """
    comparison: dict[str, dict[str, Any]] = {}
    for ours in (codec for codec in OURS if codec in points):
        for theirs in (codec for codec in points if codec != ours):
            cell = {
                name: {
                    "wins": {str(b): wins(points[ours][b], points[theirs][b], name) for b in budgets},
                    "bd_rate": bd_rate(points[theirs], points[ours], budgets, name),
                }
                for name in names
            }
            comparison.setdefault(ours, {})[theirs] = cell
    return comparison


def bd_rate(
    anchor: dict[int, list[Point]], test: dict[int, list[Point]], budgets: list[int], name: str
) -> dict[str, Any] | None:
    """-> by how many percent `test` needs more bytes than `anchor` (below 0: fewer) for the same metric.

    From means over images, at those budgets that both reached for all images. None if these are too few, a mean
    does not get better with every budget, or the curves have no values in common.
    """
    shared = [b for b in budgets if None not in values_of(anchor[b], name) + values_of(test[b], name)]
    if len(shared) < BD_MIN_POINTS:
        return None
    sign = 1 if METRICS[name].higher_is_better else -1
    curves = []
    for points in (anchor, test):
        sizes = [float(np.mean([point[name]["bytes"] for point in points[b]])) for b in shared]
        values = [sign * float(np.mean([point[name]["value"] for point in points[b]])) for b in shared]
        if min(np.diff(values)) <= 0 or min(np.diff(sizes)) <= 0:
            return None
        curves.append((sizes, values))
    (anchor_bytes, anchor_values), (test_bytes, test_values) = curves
    low, high = max(anchor_values[0], test_values[0]), min(anchor_values[-1], test_values[-1])
    if low >= high:
        return None
    from bjontegaard import bd_rate as percent_more

    percent = percent_more(anchor_bytes, anchor_values, test_bytes, test_values, method="pchip", min_overlap=0)
    assert isinstance(percent, float)  # a tuple only if asked for
    overlap = (high - low) / (max(anchor_values[-1], test_values[-1]) - min(anchor_values[0], test_values[0]))
    return {"percent": round(percent, 2), "budgets": shared, "overlap": round(overlap, 3)}
