"""The picture of a results file: every metric against bytes, one line per codec."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.common.tables import label
from benchmarks.quality import published_points
from benchmarks.quality.metrics import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#010203"  # stands in SVGs for the colour of the page's text; nothing else has it
OTHER = "#17becf"  # codecs that have no colour of their own
COLOURS = {
    "prow": "#d62728",
    "anchor": "#7f7f7f",
    "jpeg": "#1f77b4",
    "webp": "#2ca02c",
    "avif": "#9467bd",
    "jxl": "#ff7f0e",
    "vvc": "#bcbd22",
    "thumbhash": "#8c564b",
    "blurhash": "#e377c2",
}


Line = list[tuple[float, float, float, float]]


def line_of(summary: dict[str, Any], metric: str, images: int) -> Line:
    """-> (mean file bytes, mean metric, its interval's bounds) at the budgets that the codec reached for all images."""
    cells = [cell[metric] for cell in summary.values() if cell["reached"] == images]
    return [(c["bytes"], c["mean"], c["low"], c["high"]) for c in cells if c["mean"] is not None]


def draw(results: dict[str, Any], path: Path) -> None:
    """Write a PNG of results (see rd.py). Points that a codec missed for some image are left out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = results["metrics"]
    columns = min(len(names), 2)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(6.5 * columns, 5.5 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for i, metric in enumerate(names):
        draw_metric(figure.add_subplot(rows, columns, i + 1), results, metric)
    images = results["corpus"]["images"]
    corpus = f"{results['corpus']['name']}, {images} image{'s' if images != 1 else ''}"
    figure.suptitle(f"{corpus}; only points that a codec reached for every image", fontsize=10)
    figure.savefig(path, dpi=130)


def draw_metric(axes: Axes, results: dict[str, Any], metric: str) -> None:
    """Draw one metric: a line per codec, through the points that it reached for every image.

    Behind the lines of prow are the intervals of its means: how far the choice of images matters.
    """
    from matplotlib.ticker import FuncFormatter

    for codec, summary in results["summary"].items():
        line = line_of(summary, metric, results["corpus"]["images"])
        if not line:
            continue
        x, y, low, high = zip(*line, strict=True)
        family, _, variant = codec.partition("-")
        colour = COLOURS.get(family, OTHER)
        axes.plot(
            x,
            y,
            marker="o",
            markersize=3.5,
            linestyle="--" if variant == "vivid" else "-" if variant or family in ("prow", "anchor") else ":",
            linewidth=2.5 if family == "prow" and variant != "vivid" else 1.4,
            color=colour,
            label=label(codec),
        )
        if family == "prow":
            axes.fill_between(x, low, high, color=colour, alpha=0.1, linewidth=0)
    if results["corpus"]["sha256"] == published_points.CORPUS:
        _mark_published(axes, metric)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("bytes of the whole file (mean)")
    axes.set_ylabel(METRICS[metric].heading)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8)


def _mark_published(axes: Axes, metric: str) -> None:
    """Add what others report for the same pictures: a mark for each codec, as far as its points are in view."""
    if not axes.lines:
        return
    least, most = min(line.get_xdata()[0] for line in axes.lines), max(line.get_xdata()[-1] for line in axes.lines)
    for codec, points in published_points.POINTS.items():
        seen = [(p.bytes, getattr(p, metric, None)) for p in points]
        seen = [(x, y) for x, y in seen if y is not None and least <= x <= most]
        if seen:
            mark = published_points.MARKS[codec]
            axes.plot(*zip(*seen, strict=True), mark, markersize=5, color=INK, alpha=0.7, label=f"{codec}, published")


def as_svg(results: dict[str, Any], metric: str) -> str:
    """-> one metric as an <svg> element for a page: its ink is `currentColor`, its ground the page's own.

    What matplotlib puts around the element, and namespaces, which HTML does not need, are left out.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    style = {"svg.fonttype": "none", "svg.hashsalt": f"prow {metric}", "legend.framealpha": 0}
    with matplotlib.rc_context({**dict.fromkeys(inked, INK), **style}):
        figure = Figure(figsize=(6.5, 5), layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw_metric(axes, results, metric)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    text = file.getvalue()
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text[text.index("<svg") :])
    return text.replace(INK, "currentColor")
