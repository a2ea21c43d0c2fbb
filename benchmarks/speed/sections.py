"""The sections of benchmarks.speed: which jobs are run on which picture, and what is noted of each: a row.

A row has the job (codec, operation, backend, threads), the picture's size, the budget, the bytes of the file, all
seconds (wall clock and processor) and peak memory; one of prow also how many times as long it took as the others.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

import prow
from benchmarks.codecs.classical import FORMATS, Encodes
from benchmarks.quality.metrics import psnr
from benchmarks.speed.jobs import Job, cold, warm
from prow.format.container import MIN_BYTES
from prow.image import load_rgb
from prow.search import effort as efforts

WIDTH, HEIGHT = 768, 512  # px
BUDGET, SIZES_BUDGET = 1000, 8192  # bytes
EFFORTS = range(1, 10)
CLASSICAL = ("webp", "avif")

Row = dict[str, Any]
Run = Callable[[list[Job], int], list[dict[str, Any]]]


class Photo:
    """A picture as a PNG file, and the qualities at which classical formats come closest to a budget."""

    def __init__(self, pixels: np.ndarray, path: Path) -> None:
        self.pixels, self.path = pixels, path  # [H, W, 3] uint8
        self._encodes = {name: Encodes(FORMATS[name]) for name in CLASSICAL}
        Image.fromarray(pixels).save(path, compress_level=1)

    @property
    def size(self) -> dict[str, Any]:
        """-> the part of a row that says how large the picture is."""
        height, width = self.pixels.shape[:2]
        return {"width": width, "height": height, "megapixels": round(width * height / 1e6, 4)}

    def quality(self, name: str, budget: int) -> float:
        """-> the highest quality that fits into so many bytes; the lowest there is if none does."""
        rung = self._encodes[name].best_rung(self.pixels, 1, budget)
        return FORMATS[name].quality(FORMATS[name].lowest * FORMATS[name].steps if rung is None else rung)


class Bench:
    """What all sections share: options, the model's name, the picture, a folder for files."""

    def __init__(self, args: argparse.Namespace, photo: Image.Image, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.original = photo
        self.photo = self.resized(WIDTH, HEIGHT)

    def resized(self, width: int, height: int) -> Photo:
        """-> the middle of the original at another size."""
        image = ImageOps.fit(self.original, (width, height), Image.Resampling.LANCZOS)
        return Photo(np.asarray(image), self.new_folder() / "photo.png")

    def new_folder(self) -> Path:
        """-> an empty folder: no job may find what another one left."""
        return Path(tempfile.mkdtemp(dir=self.folder))


# -- sections ------------------------------------------------------------------------------------------------------


def measure_threads(bench: Bench, run: Run) -> list[Row]:
    """-> rows of whole processes or calls, with each number of threads."""
    return [row for n in bench.args.threads for row in measure(bench, bench.photo, BUDGET, n, run)]


def measure_sizes(bench: Bench) -> list[Row]:
    """-> rows of calls for pictures of several sizes."""
    rows, threads = [], max(bench.args.threads)
    for megapixels in bench.args.sizes:
        height = max(1, round(math.sqrt(megapixels * 1e6 * HEIGHT / WIDTH)))
        photo = bench.resized(max(1, round(height * WIDTH / HEIGHT)), height)
        rows += measure(bench, photo, SIZES_BUDGET, threads, warm)
    return rows


def measure_budgets(bench: Bench) -> list[Row]:
    """-> rows of calls for files of several sizes."""
    threads = max(bench.args.threads)
    return [row for budget in bench.args.budgets for row in measure(bench, bench.photo, budget, threads, warm)]


def measure_efforts(bench: Bench) -> list[Row]:
    """-> rows of prow's encodes, with the PSNR of what came out; one process after the other."""
    rows, threads = [], max(bench.args.threads)
    for effort in EFFORTS:
        name = "torch" if efforts.EFFORTS[effort].rounds else bench.args.backends[0]  # gradients take torch
        job = encode_job(bench, name, bench.photo, BUDGET, threads, bench.new_folder(), effort=effort)
        (row,) = run_jobs(bench, bench.photo, BUDGET, warm, [job])
        if "error" not in row:
            row["psnr"] = round(psnr(bench.photo.pixels, np.asarray(prow.decode(job.out.read_bytes()))), 3)
        rows.append({**row, "effort": effort, **measure_photos(bench, effort)})
    return rows


def measure_photos(bench: Bench, effort: int) -> dict[str, Any]:
    """-> how many photos of --photos there are, mean seconds to encode one in this process, and their mean PSNR."""
    pictures = [load_rgb(path) for path in bench.args.photos]
    if not pictures:
        return {}
    prow.encode(pictures[0], bytes=BUDGET, model=bench.args.model, effort=effort)  # what is imported first
    start = time.perf_counter()
    files = [prow.encode(pixels, bytes=BUDGET, model=bench.args.model, effort=effort) for pixels in pictures]
    seconds = (time.perf_counter() - start) / len(files)
    decibels = [psnr(pixels, np.asarray(prow.decode(file))) for pixels, file in zip(pictures, files, strict=True)]
    means = {"seconds_photos": round(seconds, 3), "psnr_photos": round(statistics.fmean(decibels), 3)}
    return {"photos": len(files), **means}


SECTIONS: dict[str, Callable[[Bench], list[Row]]] = {
    "commands": lambda bench: measure_threads(bench, cold),
    "warm": lambda bench: measure_threads(bench, warm),
    "sizes": measure_sizes,
    "budgets": measure_budgets,
    "efforts": measure_efforts,
}


def measure(bench: Bench, photo: Photo, budget: int, threads: int, run: Run) -> list[Row]:
    """-> rows of every operation of every codec on a picture at a budget in bytes; cold ones also of small commands."""
    folder = bench.new_folder()
    encodes = [encode_job(bench, name, photo, budget, threads, folder) for name in bench.args.backends]
    encodes += [classical_job(name, photo, budget, threads, folder) for name in CLASSICAL]
    rows = run_jobs(bench, photo, budget, run, encodes)
    file = encodes[0].out
    decodes = [Job("prow", "decode", n, threads, file, folder / f"{n}.png") for n in bench.args.backends]
    decodes += [Job(job.codec, "decode", "", threads, job.out, folder / f"{job.codec}.png") for job in encodes[-2:]]
    rows += run_jobs(bench, photo, budget, run, decodes)
    if run is cold:
        half = {"bytes": max(MIN_BYTES, budget // 2)}
        rows += run_jobs(bench, photo, budget, run, [Job("prow", "info", "", threads, file, folder / "none")])
        cut = Job("prow", "truncate", "", threads, file, folder / "cut.prow", half)
        rows += run_jobs(bench, photo, budget, run, [cut])
    return rows


def encode_job(bench: Bench, name: str, photo: Photo, budget: int, threads: int, folder: Path, **options: Any) -> Job:
    """-> prow's encode with one of its backends."""
    options = {"bytes": budget, "model": bench.args.model, **options}
    return Job("prow", "encode", name, threads, photo.path, folder / f"{name}.prow", options)


def classical_job(name: str, photo: Photo, budget: int, threads: int, folder: Path) -> Job:
    """-> one call of Pillow for a file that comes closest to a budget."""
    (options,) = FORMATS[name].options
    if "max_threads" in options:
        options = {**options, "max_threads": threads}
    options = {**options, "quality": photo.quality(name, budget)}
    return Job(name, "encode", "", threads, photo.path, folder / f"photo.{name}", options)


def run_jobs(bench: Bench, photo: Photo, budget: int, run: Run, jobs: list[Job]) -> list[Row]:
    """-> a row for each of the jobs, which take turns; progress goes to stderr."""
    began = time.monotonic()
    outcomes = run(jobs, bench.args.repeats)
    what = f"{jobs[0].operation}, {photo.size['megapixels']:g} Mpx, {budget:,} bytes, threads: {jobs[0].threads}"
    print(f"{what}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    rows = [row_of(job, photo, budget, taken) for job, taken in zip(jobs, outcomes, strict=True)]
    for row in rows:
        if row["codec"] == "prow" and "error" not in row:
            others = {r["codec"]: r["seconds"] for r in rows if r["codec"] != "prow" and "error" not in r}
            row |= {f"times_{name}": ratio(row["seconds"], seconds) for name, seconds in others.items()}
    return rows


def row_of(job: Job, photo: Photo, budget: int, taken: dict[str, Any]) -> Row:
    """-> what a job was, and what it took by pixels and by bytes of its file."""
    row = {name: getattr(job, name) for name in ("codec", "operation", "backend", "threads")}
    row |= {**photo.size, "budget": budget, **taken}
    if "quality" in job.options:
        row["quality"] = job.options["quality"]
    if "error" in taken:
        return row
    size = (job.out if job.operation in ("encode", "truncate") else job.source).stat().st_size
    median = statistics.median(taken["seconds"])
    return row | {
        "bytes": size,
        "best": min(taken["seconds"]),
        "median": round(median, 6),
        "cpu": round(statistics.median(taken["cpu_seconds"]), 6),
        "per_megapixel": round(median / (photo.pixels.shape[0] * photo.pixels.shape[1] / 1e6), 6),
        "per_kilobyte": round(median / (size / 1000), 6),
    }


def ratio(ours: list[float], theirs: list[float]) -> float:
    """-> the median over the repeats of how many times as long we took."""
    return round(statistics.median(a / max(b, 1e-6) for a, b in zip(ours, theirs, strict=True)), 2)
