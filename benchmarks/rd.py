"""Rate and distortion of prow and of the codecs it is up against: `python -m benchmarks.rd --data DIR`.

Every codec gets every image at every budget; the rate is the length of the whole file. Prints tables,
and writes into the output folder `rd.json` (all there is to know), `rd.png` (a plot) and `rd.jsonl`, one
line per finished (codec, image), from which a later run takes what it would otherwise repeat.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import prow.image
from benchmarks import codecs, metrics, plot

BUDGETS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm")
SHIPPED = Path(__file__).parent / "results"  # its *.jsonl are reused by every run
METRICS = {"psnr": ("PSNR, dB", 2), "ms_ssim": ("MS-SSIM", 3)}  # title and decimals

Point = dict[str, Any]  # budget, bytes, psnr, ms_ssim and the codec's setting; bytes is None if not reached


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image of the corpus. `sha256` is that of its pixels, so that a copy elsewhere counts as the same."""

    path: Path
    width: int
    height: int
    sha256: str


class Records:
    """Finished measurements by (codec, its settings, image); kept as JSON lines."""

    def __init__(self, path: Path, reused: list[Path]) -> None:
        self._path = path
        self._points: dict[tuple[str, str, str], dict[int, Point]] = {}
        for source in [*reused, path]:
            for line in source.read_text().splitlines(keepends=True) if source.exists() else []:
                if line.endswith("\n"):  # a run that was killed may have left half a line
                    self._take(json.loads(line))
                else:
                    os.truncate(source, source.stat().st_size - len(line.encode()))

    def _take(self, record: dict[str, Any]) -> None:
        points = self._points.setdefault(_key(record["codec"], record["settings"], record["image_sha256"]), {})
        points.update({point["budget"]: point for point in record["points"]})

    def add(self, record: dict[str, Any]) -> None:
        """Take a record and append it to the file."""
        self._take(record)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def points(self, codec: codecs.Codec, picture: Picture) -> dict[int, Point]:
        """-> what is known of a codec with its present settings on an image, by budget."""
        return self._points.get(_key(codec.name, codec.settings, picture.sha256), {})


def _key(codec: str, settings: dict[str, Any], image_sha256: str) -> tuple[str, str, str]:
    return codec, json.dumps(settings, sort_keys=True), image_sha256


def find_pictures(folder: Path, limit: int | None = None) -> list[Picture]:
    """-> the images in a folder, by name. Raises SystemExit if there are none."""
    paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES)[:limit]
    if not paths:
        raise SystemExit(f"no images in {folder}: wanted files ending in {', '.join(SUFFIXES)}")
    pictures = []
    for path in paths:
        pixels = prow.image.load_rgb(path)
        digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
        pictures.append(Picture(path, pixels.shape[1], pixels.shape[0], digest))
    return pictures


def measure(codec: codecs.Codec, image: np.ndarray, budget: int) -> Point:
    """Code image [H, W, 3] at a budget in bytes and compare. This is where a rate is taken: len(file)."""
    coded = codec.code(image, budget)
    if coded is None:
        return {"budget": budget, "bytes": None, "psnr": None, "ms_ssim": None}
    if len(coded.data) > budget:
        raise AssertionError(f"{codec.name} gave {len(coded.data)} bytes for a budget of {budget}")
    similarity = metrics.ms_ssim(image, coded.image)
    return {
        "budget": budget,
        "bytes": len(coded.data),
        "psnr": round(metrics.psnr(image, coded.image), 4),
        "ms_ssim": None if similarity is None else round(similarity, 5),
        **coded.setting,
    }


@functools.cache
def family_codecs(family: str) -> list[codecs.Codec]:
    """-> the codecs of a family, made once per process, so that they can share encodes."""
    return codecs.FAMILIES[family]()


def run_unit(family: str, picture: Picture, wanted: dict[str, list[int]]) -> list[dict[str, Any]]:
    """-> one record per codec of a family: an image at the wanted budgets, by codec name."""
    image = prow.image.load_rgb(picture.path)
    records = []
    for codec in family_codecs(family):
        if budgets := wanted.get(codec.name):
            records.append(
                {
                    "codec": codec.name,
                    "settings": codec.settings,
                    "image": picture.path.name,
                    "image_sha256": picture.sha256,
                    "points": [measure(codec, image, budget) for budget in budgets],
                }
            )
    return records


def run(families: list[str], pictures: list[Picture], budgets: list[int], records: Records, jobs: int) -> None:
    """Measure what the records do not know yet, a line on stderr per (family, image)."""
    units = []
    for family in families:
        for picture in pictures:
            missing = {
                codec.name: [b for b in budgets if b not in records.points(codec, picture)]
                for codec in family_codecs(family)
            }
            if any(missing.values()):
                units.append((family, picture, missing))
    print(f"{len(families) * len(pictures) - len(units)} results known, {len(units)} to do", file=sys.stderr)
    for done, found in enumerate(_results(units, jobs), start=1):
        for record in found:
            records.add(record)
        print(f"{done}/{len(units)} {found[0]['codec']} {found[0]['image']}", file=sys.stderr, flush=True)


def _results(units: list[tuple], jobs: int) -> Iterator[list[dict[str, Any]]]:
    """-> the records of each unit as they get done; in this process if jobs is 1."""
    if jobs == 1:
        yield from (run_unit(*unit) for unit in units)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the workers, which start anew
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for future in concurrent.futures.as_completed([pool.submit(run_unit, *unit) for unit in units]):
            yield future.result()


def summarise(points: list[Point]) -> dict[str, Any]:
    """-> one codec at one budget: images reached, and means over these (None without any)."""
    reached = [point for point in points if point["bytes"] is not None]
    cell: dict[str, Any] = {"reached": len(reached)}
    for name, decimals in (("bytes", 1), ("psnr", 4), ("ms_ssim", 5)):
        values = [point[name] for point in reached if point[name] is not None]
        cell[name] = round(sum(values) / len(values), decimals) if values else None
    return cell


def collect(
    families: list[str], pictures: list[Picture], budgets: list[int], records: Records, name: str
) -> dict[str, Any]:
    """-> the whole results: corpus, versions, codecs, a summary by codec and budget, and all records."""
    corpus = hashlib.sha256("".join(f"{p.path.name} {p.sha256}\n" for p in pictures).encode()).hexdigest()
    results: dict[str, Any] = {
        "schema": 1,
        "corpus": {"name": name, "images": len(pictures), "sha256": corpus},
        "budgets": budgets,
        "commit": _commit(),
        "versions": _versions(),
        "codecs": {},
        "summary": {},
        "records": [],
    }
    for codec in (codec for family in families for codec in family_codecs(family)):
        known = {picture: records.points(codec, picture) for picture in pictures}
        results["codecs"][codec.name] = codec.settings
        results["summary"][codec.name] = {str(b): summarise([points[b] for points in known.values()]) for b in budgets}
        for picture, points in known.items():
            who = {"codec": codec.name, "image": picture.path.name, "image_sha256": picture.sha256}
            size = {"width": picture.width, "height": picture.height}
            results["records"].append({**who, **size, "points": [points[b] for b in budgets]})
    return results


def _versions() -> dict[str, str]:
    names = ("prow", "numpy", "torch", "pytorch-msssim")
    found = {name: codecs.version_of(name) for name in names}
    return {"python": platform.python_version(), "machine": platform.machine(), **found}


def _commit() -> str | None:
    """-> the commit of this checkout, with "+changes" if files differ from it; None outside of git."""
    here = Path(__file__).parent
    try:
        git = functools.partial(subprocess.run, cwd=here, capture_output=True, text=True, check=True)
        commit = git(["git", "rev-parse", "--verify", "HEAD"]).stdout.strip()
        changed = git(["git", "status", "--porcelain", "--untracked-files=no"]).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changed else "")


def table(results: dict[str, Any], metric: str) -> str:
    """-> a Markdown table: a row per codec, a column per budget, "(n)" where only n images got there."""
    title, decimals = METRICS[metric]
    rows = [[title, *(f"{b} B" for b in results["budgets"])]]
    for codec, summary in results["summary"].items():
        row = [codec.replace("-scaled", ", best downscale")]
        for cell in summary.values():
            part = "" if cell["reached"] == results["corpus"]["images"] else f" ({cell['reached']})"
            row.append("-" if cell[metric] is None else f"{cell[metric]:.{decimals}f}{part}")
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) + " |" for row in rows]
    rule = "|" + "|".join(["-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:])]) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """-> the options, checked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rd", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of images")
    parser.add_argument("--codecs", default=",".join(codecs.FAMILIES), help="default: %(default)s")
    parser.add_argument("--budgets", default=",".join(map(str, BUDGETS)), help="bytes; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("build/rd"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N images only")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes; default: %(default)s")
    parser.add_argument("--fresh", action="store_true", help="do not reuse the results shipped with prow")
    args = parser.parse_args(argv)
    args.codecs = list(dict.fromkeys(args.codecs.split(",")))
    if unknown := [name for name in args.codecs if name not in codecs.FAMILIES]:
        parser.error(f"unknown codec {unknown[0]!r}: wanted some of {', '.join(codecs.FAMILIES)}")
    try:
        args.budgets = sorted({int(b) for b in args.budgets.split(",")})
    except ValueError:
        parser.error(f"--budgets is {args.budgets!r}: wanted whole numbers with commas between them")
    if min([*args.budgets, args.jobs, 1 if args.limit is None else args.limit]) < 1:
        parser.error("--budgets, --jobs and --limit must be 1 or more")
    return args


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark; see the module's docstring."""
    args = parse_args(argv)
    pictures = find_pictures(args.data, args.limit)
    shipped = [] if args.fresh else sorted(SHIPPED.glob("*.jsonl"))
    records = Records(args.out / "rd.jsonl", shipped)
    run(args.codecs, pictures, args.budgets, records, args.jobs)
    results = collect(args.codecs, pictures, args.budgets, records, args.data.resolve().name)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "rd.json").write_text(json.dumps(results, indent=1) + "\n")
    plot.draw(results, args.out / "rd.png")
    for metric in METRICS:
        print(table(results, metric) + "\n")
    print(f"{args.out / 'rd.json'}: {len(pictures)} images, corpus {results['corpus']['sha256'][:16]}")


if __name__ == "__main__":
    main()
