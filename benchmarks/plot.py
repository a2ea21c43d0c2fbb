"""The picture of a results file: PSNR and MS-SSIM against bytes, one line per codec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

COLOURS = {
    "prow": "#d62728",
    "anchor": "#7f7f7f",
    "jpeg": "#1f77b4",
    "webp": "#2ca02c",
    "avif": "#9467bd",
    "jxl": "#ff7f0e",
}


def line_of(summary: dict[str, Any], metric: str, images: int) -> tuple[list[float], list[float]]:
    """-> mean file bytes and mean metric, at the budgets that the codec reached for all images."""
    cells = [cell for cell in summary.values() if cell["reached"] == images and cell[metric] is not None]
    return [cell["bytes"] for cell in cells], [cell[metric] for cell in cells]


def draw(results: dict[str, Any], path: Path) -> None:
    """Write a PNG of results (see rd.py). Points that a codec missed for some image are left out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(13, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    images = results["corpus"]["images"]
    for axes, metric, label in zip(figure.subplots(1, 2), ("psnr", "ms_ssim"), ("PSNR (dB)", "MS-SSIM"), strict=True):
        for codec, summary in results["summary"].items():
            x, y = line_of(summary, metric, images)
            family, _, scaled = codec.partition("-")
            axes.plot(
                x,
                y,
                marker="o",
                markersize=3.5,
                linestyle="-" if scaled or family in ("prow", "anchor") else ":",
                linewidth=2.5 if family == "prow" else 1.4,
                color=COLOURS.get(family, "black"),
                label=codec.replace("-scaled", ", best downscale"),
            )
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xlabel("bytes of the whole file (mean)")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
    names = f"{results['corpus']['name']}, {images} image{'s' if images != 1 else ''}"
    figure.suptitle(f"{names}; only points that a codec reached for every image", fontsize=10)
    figure.savefig(path, dpi=130)
