"""Rate and distortion of prow and of the codecs it is up against: `python -m benchmarks.rd --data DIR`.

Every codec gets every image at every budget; the rate is the length of the whole file. A codec with several
files to choose from (a "best downscale") is judged in each metric by the file that is best in this metric.
Prints tables, and writes into the output folder `rd.json` (all there is to know), `rd.png` (a plot) and
`rd.jsonl`, one line per finished (codec, image), from which a later run takes what it would otherwise repeat.
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import prow.image
from benchmarks import codecs, plot, tables
from benchmarks.metrics import METRICS, require
from benchmarks.summary import OURS, Point, compare, summarise
from prow.training.published import MissingPackageError, locate

BUDGETS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm")
SHIPPED = Path(__file__).parent / "results"  # its *.jsonl are reused by every run
DEFAULT_CODECS = ("prow", "anchor", *codecs.FORMATS)
DEFAULT_METRICS = ("psnr", "ms_ssim")

# A point has budget, reached (whether the codec can do it) and, if so, for each metric measured the value (None
# where it is not defined) and the file that it is from: bytes, the codec's setting, encode and decode seconds.
Wanted = dict[str, dict[int, list[str]]]  # metrics to measure, by codec and budget


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
        record = upgraded(record)
        points = self._points.setdefault(_key(record["codec"], record["settings"], record["image_sha256"]), {})
        for point in record["points"]:
            points[point["budget"]] = {**points.get(point["budget"], {}), **point}

    def add(self, record: dict[str, Any]) -> None:
        """Take a record and append it to the file."""
        self._take(record)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def points(self, codec: codecs.Codec, picture: Picture) -> dict[int, Point]:
        """-> what is known of a codec with its present settings on an image, by budget."""
        return self._points.get(_key(codec.name, codec.settings, picture.sha256), {})

    def missing(self, codec: codecs.Codec, picture: Picture, budgets: list[int], names: Sequence[str]) -> Wanted:
        """-> the metrics that are not known yet; without the budgets that lack none, empty if no budget does."""
        known = self.points(codec, picture)
        lacking = {
            b: [name for name in names if b not in known or (known[b]["reached"] and name not in known[b])]
            for b in budgets
        }
        lacking = {b: found for b, found in lacking.items() if found}
        return {codec.name: lacking} if lacking else {}


def upgraded(record: dict[str, Any]) -> dict[str, Any]:
    """-> a record of the first kind as one of today's; others as they are.

    The first kind chose among downscale factors by PSNR for all metrics. So its PSNR is still right, and where
    there was a choice, its MS-SSIM is not: that one is left out, to be measured again.
    """
    if "best_by" not in record["settings"] or record["settings"]["best_by"] == codecs.BEST_BY:
        return record
    names = ("psnr",) if len(record["settings"]["factors"]) > 1 else ("psnr", "ms_ssim")
    points = []
    for old in record["points"]:
        point: Point = {"budget": old["budget"], "reached": old["bytes"] is not None}
        if point["reached"]:
            file = {name: old[name] for name in ("bytes", "factor", "quality")}
            point.update({name: {"value": old[name], **file} for name in names})
        points.append(point)
    return {**record, "settings": {**record["settings"], "best_by": codecs.BEST_BY}, "points": points}


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
        pictures.append(Picture(path, pixels.shape[1], pixels.shape[0], pixels_sha256(pixels)))
    return pictures


def pixels_sha256(pixels: np.ndarray) -> str:
    """-> what a picture [H, W, 3] uint8 is known by."""
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


class Scores:
    """Metrics of pictures against one original [H, W, 3] uint8, each measured once: files come up repeatedly."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = image
        self._known: dict[tuple[str, bytes], float | None] = {}

    def of(self, name: str, picture: np.ndarray) -> float | None:
        """-> a metric's value."""
        key = name, hashlib.sha256(picture.tobytes()).digest()
        if key not in self._known:
            self._known[key] = METRICS[name].of(self.image, picture)
        return self._known[key]


def measure(codec: codecs.Codec, budget: int, names: Sequence[str], scores: Scores) -> Point:
    """Code the original at a budget in bytes and compare. This is where a rate is taken: len(file)."""
    files = codec.code(scores.image, budget)
    for coded in files:
        if len(coded.data) > budget:
            raise AssertionError(f"{codec.name} gave {len(coded.data)} bytes for a budget of {budget}")
    point: Point = {"budget": budget, "reached": bool(files)}
    return point | ({name: _best(files, name, scores) for name in names} if files else {})


def best_file(files: list[codecs.Coded], name: str, scores: Scores) -> tuple[codecs.Coded, float | None]:
    """-> the file that is best in a metric, and its value; the first one where the metric is not defined."""
    best, value = files[0], scores.of(name, files[0].image)
    for coded in files[1:]:
        other = scores.of(name, coded.image)
        if other is not None and (value is None or METRICS[name].is_better(other, value)):
            best, value = coded, other
    return best, value


def _best(files: list[codecs.Coded], name: str, scores: Scores) -> dict[str, Any]:
    """-> the best value of a metric among files, and what is to be known of the file that has it."""
    best, value = best_file(files, name, scores)
    return {
        "value": None if value is None else round(value, METRICS[name].kept),
        "bytes": len(best.data),
        **best.setting,
        "encode_seconds": round(best.encode_seconds, 4),
        "decode_seconds": round(best.decode_seconds, 4),
    }


@functools.cache
def family_codecs(family: str) -> list[codecs.Codec]:
    """-> the codecs of a family, made once per process, so that they can share encodes."""
    return codecs.FAMILIES[family]()


def run_unit(family: str, picture: Picture, wanted: Wanted) -> list[dict[str, Any]]:
    """-> one record per codec of a family: an image at the wanted budgets in the wanted metrics."""
    scores = Scores(prow.image.load_rgb(picture.path))
    records = []
    for codec in family_codecs(family):
        if budgets := wanted.get(codec.name):
            records.append(
                {
                    "codec": codec.name,
                    "settings": codec.settings,
                    "image": picture.path.name,
                    "image_sha256": picture.sha256,
                    "points": [measure(codec, b, names, scores) for b, names in budgets.items()],
                }
            )
    return records


def run(
    families: list[str],
    pictures: list[Picture],
    budgets: list[int],
    names: Sequence[str],
    records: Records,
    jobs: int,
) -> None:
    """Measure what the records do not know yet; progress goes to stderr."""
    units = []
    for family in families:
        for picture in pictures:
            wanted: Wanted = {}
            for codec in family_codecs(family):
                wanted |= records.missing(codec, picture, budgets, names)
            if wanted:
                units.append((family, picture, wanted))
    print(f"{len(families) * len(pictures) - len(units)} results known, {len(units)} to do", file=sys.stderr)
    for found in shown(results_of(run_unit, units, jobs), len(units)):
        for record in found:
            records.add(record)


def shown(results: Iterator[list[dict[str, Any]]], total: int) -> Iterator[list[dict[str, Any]]]:
    """-> the same results; shows a bar if stderr is a terminal, else a line per (family, image)."""
    if total and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        yield from track(results, "measuring", total, console=Console(stderr=True))
        return
    for done, found in enumerate(results, start=1):
        yield found
        print(f"{done}/{total} {found[0]['codec']} {found[0]['image']}", file=sys.stderr, flush=True)


def results_of(
    function: Callable[..., list[dict[str, Any]]], units: list[tuple], jobs: int
) -> Iterator[list[dict[str, Any]]]:
    """-> the records that a function makes of each unit as they get done; in this process if jobs is 1."""
    if jobs == 1:
        yield from (function(*unit) for unit in units)
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the workers, which start anew
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for future in concurrent.futures.as_completed([pool.submit(function, *unit) for unit in units]):
            yield future.result()


def collect(
    families: list[str],
    pictures: list[Picture],
    budgets: list[int],
    names: Sequence[str],
    records: Records,
    corpus: str,
) -> dict[str, Any]:
    """-> the whole results: corpus, versions, codecs, summaries, comparisons of prow with others, all records."""
    results: dict[str, Any] = {
        "schema": 2,
        "corpus": describe(corpus, pictures),
        "budgets": budgets,
        "metrics": list(names),
        "commit": checkout(),
        "versions": versions(metric.package for metric in METRICS.values() if metric.package),
        "codecs": {},
        "summary": {},
        "comparison": {},
        "records": [],
    }
    points: dict[str, dict[int, list[Point]]] = {}
    for codec in (codec for family in families for codec in family_codecs(family)):
        known = {picture: records.points(codec, picture) for picture in pictures}
        points[codec.name] = {b: [_part(found[b], names) for found in known.values()] for b in budgets}
        results["codecs"][codec.name] = codec.settings
        results["summary"][codec.name] = {str(b): summarise(points[codec.name][b], names) for b in budgets}
        for i, picture in enumerate(pictures):
            who = {"codec": codec.name, "image": picture.path.name, "image_sha256": picture.sha256}
            size = {"width": picture.width, "height": picture.height}
            results["records"].append({**who, **size, "points": [points[codec.name][b][i] for b in budgets]})
    results["comparison"] = compare(points, budgets, names)
    return results


def _part(point: Point, names: Sequence[str]) -> Point:
    """-> a point with these metrics only."""
    return {key: point[key] for key in ("budget", "reached", *names) if key in point}


def describe(corpus: str, pictures: list[Picture]) -> dict[str, Any]:
    """-> name, number and SHA-256 of the pictures of a corpus."""
    digest = hashlib.sha256("".join(f"{p.path.name} {p.sha256}\n" for p in pictures).encode()).hexdigest()
    return {"name": corpus, "images": len(pictures), "sha256": digest}


def versions(packages: Iterable[str]) -> dict[str, str]:
    """-> versions of Python, of what prow runs on and of these packages."""
    found = {name: codecs.version_of(name) for name in ("prow", "numpy", "torch", *packages)}
    return {"python": platform.python_version(), "machine": platform.machine(), **found}


def checkout() -> str | None:
    """-> the commit of this checkout, with "+changes" if files differ from it; None outside of git."""
    here = Path(__file__).parent
    try:
        git = functools.partial(subprocess.run, cwd=here, capture_output=True, text=True, check=True)
        found = git(["git", "rev-parse", "--verify", "HEAD"]).stdout.strip()
        changed = git(["git", "status", "--porcelain", "--untracked-files=no"]).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return found + ("+changes" if changed else "")


def check_names(parser: argparse.ArgumentParser, args: argparse.Namespace, lists: Mapping[str, Iterable[str]]) -> None:
    """Turn the `lists` (option to the names it may have) into lists; a usage error for a name that is unknown."""
    for option, known in lists.items():
        names = list(dict.fromkeys(getattr(args, option).split(",")))
        if unknown := [name for name in names if name not in known]:
            parser.error(f"unknown {option[:-1]} {unknown[0]!r}: wanted some of {', '.join(known)}")
        setattr(args, option, names)


def check_args(parser: argparse.ArgumentParser, args: argparse.Namespace, lists: Mapping[str, Iterable[str]]) -> None:
    """As check_names, and turn --budgets into a list of numbers."""
    check_names(parser, args, lists)
    try:
        args.budgets = sorted({int(b) for b in args.budgets.split(",")})
    except ValueError:
        parser.error(f"--budgets is {args.budgets!r}: wanted whole numbers with commas between them")
    if min([*args.budgets, args.jobs, 1 if args.limit is None else args.limit]) < 1:
        parser.error("--budgets, --jobs and --limit must be 1 or more")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """-> the options, checked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rd", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of images")
    parser.add_argument("--codecs", default=",".join(DEFAULT_CODECS), help="default: %(default)s")
    parser.add_argument("--metrics", default=",".join(DEFAULT_METRICS), help="default: %(default)s")
    parser.add_argument("--budgets", default=",".join(map(str, BUDGETS)), help="bytes; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("build/rd"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N images only")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes; default: %(default)s")
    parser.add_argument("--fresh", action="store_true", help="do not reuse the results shipped with prow")
    parser.add_argument("--json", action="store_true", help="print the results as JSON, not as tables")
    args = parser.parse_args(argv)
    check_args(parser, args, {"codecs": codecs.FAMILIES, "metrics": METRICS})
    return args


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark; see the module's docstring."""
    args = parse_args(argv)
    pictures = find_pictures(args.data, args.limit)
    shipped = [] if args.fresh else sorted(SHIPPED.glob("*.jsonl"))
    records = Records(args.out / "rd.jsonl", shipped)
    try:
        require(args.metrics)
        if set(args.codecs) & set(OURS):
            locate("bjontegaard", "comparing prow with others")
        run(args.codecs, pictures, args.budgets, args.metrics, records, args.jobs)
    except MissingPackageError as error:
        raise SystemExit(f"rd: {error}") from None
    results = collect(args.codecs, pictures, args.budgets, args.metrics, records, args.data.resolve().name)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "rd.json").write_text(json.dumps(results, indent=1) + "\n")
    plot.draw(results, args.out / "rd.png")
    if args.json:
        print(json.dumps(results))
        return
    for text in tables.all_tables(results):
        print(text + "\n")
    print(f"{args.out / 'rd.json'}: {len(pictures)} images, corpus {results['corpus']['sha256'][:16]}")


if __name__ == "__main__":
    main()
