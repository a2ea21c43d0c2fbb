"""Results as text: a table per section, and what was measured beside what is aimed at."""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks.common.tables import Rows, plain

AIM_THREADS = 2  # what the aims are about
TITLES = {
    "commands": "whole new processes",
    "warm": "calls in a process that has made one before",
    "sizes": "the same for pictures of several sizes",
    "budgets": "the same for files of several sizes",
    "efforts": "prow's effort: seconds against dB",
}
LABELS = {"prow": "prow", "webp": "WebP", "avif": "AVIF"}


@dataclasses.dataclass(frozen=True)
class Aim:
    """At most so many seconds or MiB (`value` of a row) for an operation of prow; for `sizes`, at 24 megapixels."""

    section: str
    operation: str
    value: str
    most: float
    words: str


AIMS = (
    Aim("commands", "encode", "median", 3.0, "prow encode --bytes 1k, new process"),
    Aim("commands", "decode", "median", 1.0, "prow decode, new process"),
    Aim("commands", "info", "median", 0.2, "prow info, new process"),
    Aim("commands", "truncate", "median", 0.2, "prow truncate, new process"),
    Aim("warm", "decode", "median", 0.25, "decode, warm"),
    Aim("sizes", "encode", "median", 60, "encode 24 megapixels to 8 KB"),
    Aim("sizes", "encode", "peak_mib", 2048, "encode 24 megapixels to 8 KB"),
    Aim("sizes", "decode", "median", 20, "decode 24 megapixels from 8 KB"),
    Aim("sizes", "decode", "peak_mib", 1536, "decode 24 megapixels from 8 KB"),
)


def aims(results: dict[str, Any]) -> list[dict[str, Any]]:
    """-> for each aim that was measured: what it is about, the measured value, the most it should be, whether it is.

    On the CPU with two threads, with the backend that prow takes there by itself.
    """
    judged = []
    for aim in AIMS:
        for row in results["sections"].get(aim.section, []):
            if _is_about(aim, row, results) and "error" not in row:
                unit = "s" if aim.value == "median" else "MiB"
                measured = {"words": aim.words, "measured": row[aim.value], "aim": aim.most, "unit": unit}
                judged.append({**measured, "met": row[aim.value] <= aim.most})
    return judged


def _is_about(aim: Aim, row: dict[str, Any], results: dict[str, Any]) -> bool:
    """-> whether an aim is about a row of its section."""
    backend = "onnx" if "onnx" in results["backends"] else "torch"
    wanted = backend if aim.operation in ("encode", "decode") else ""
    same = (row["codec"], row["operation"], row["backend"]) == ("prow", aim.operation, wanted)
    return same and row["threads"] == AIM_THREADS and (aim.section != "sizes" or round(row["megapixels"], 1) == 24)


def show(results: dict[str, Any]) -> str:
    """-> the whole results as text."""
    image, gpu = results["image"], f", {results['gpu']}" if results["gpu"] else ""
    lines = [
        f"model {results['model']} on {image['name']}, {image['width']} x {image['height']} px",
        f"{results['cpu']}, {results['cores']} cores{gpu}, load {results['load_before']} before; "
        f"medians of {results['repeats']}",
        "x WebP, x AVIF: how many times as long prow takes; see the bytes, they cannot make every file as small",
    ]
    for name, rows in results["sections"].items():
        lines += ["", f"{name}: {TITLES[name]}", plain(section_rows(name, rows))]
        lines += [f"  failed: {_what(name, row)}: {row['error']}" for row in rows if "error" in row]
    if results["aims"]:
        lines += ["", "aims, on the CPU with two threads", plain(aim_rows(results["aims"]))]
    return "\n".join(lines)


def section_rows(name: str, rows: list[dict[str, Any]]) -> Rows:
    """-> a section's table, ordered so that cost grows downwards."""
    columns = {"threads": "{:d}", "median": "{:.4f}", "best": "{:.4f}", "cpu": "{:.4f}"}
    columns |= {"per_megapixel": "{:.4f}", "per_kilobyte": "{:.4f}", "peak_mib": "{:,.0f}", "gpu_mib": "{:,.0f}"}
    columns |= {"bytes": "{:,d}", "times_webp": "{:.1f}", "times_avif": "{:.1f}", "psnr": "{:.2f}"}
    columns |= {"seconds_photos": "{:.3f}", "psnr_photos": "{:.2f}"}
    heads = {"median": "seconds", "cpu": "of CPU", "per_megapixel": "s/Mpx", "per_kilobyte": "s/kB", "peak_mib": "MiB"}
    heads |= {"gpu_mib": "MiB of GPU", "times_webp": "x WebP", "times_avif": "x AVIF", "psnr": "PSNR, dB"}
    heads |= {"seconds_photos": "photos, s", "psnr_photos": "photos, dB"}
    shown = [column for column in columns if any(column in row for row in rows)]
    order = list(dict.fromkeys((row["operation"], row["codec"], row["backend"]) for row in rows))
    ordered = sorted(rows, key=lambda row: order.index((row["operation"], row["codec"], row["backend"])))
    cells = [[columns[c].format(row[c]) if c in row else "-" for c in shown] for row in ordered]
    table = [[_what(name, row), *row_cells] for row, row_cells in zip(ordered, cells, strict=True)]
    return [["", *(heads.get(column, column) for column in shown)], *table]


def aim_rows(judged: list[dict[str, Any]]) -> Rows:
    """-> the table of aims."""
    rows = [["", "measured", "aim", ""]]
    for aim in judged:
        digits = 2 if aim["unit"] == "s" else 0
        measured, most = (f"{aim[key]:,.{digits}f} {aim['unit']}" for key in ("measured", "aim"))
        rows.append([aim["words"], measured, most, "met" if aim["met"] else "missed"])
    return rows


def _what(section: str, row: dict[str, Any]) -> str:
    """-> a row's first cell: operation, codec and, where it is what differs, the size or the effort."""
    words = f"{row['operation']}, {LABELS[row['codec']]}" + (f" ({row['backend']})" if row["backend"] else "")
    ends = {"sizes": f", {row['megapixels']:g} Mpx", "budgets": f", {row['budget']:,} B"}
    if section == "efforts":
        return f"{words}, effort {row['effort']}"
    return words + ends.get(section, "")
