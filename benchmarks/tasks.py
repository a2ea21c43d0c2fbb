"""What a picture is still good for: `python -m benchmarks.tasks --data DIR --codecs prow,webp --out FILE.json`.

Two tasks, in the manner of One-D-Piece (arXiv:2501.10064), which asks a classifier about its pictures:

- `top1`: does EfficientNet-Lite0 see the same in the decoded picture as in the original? For the pictures in DIR.
- `words`: the share of words that an OCR network reads. For pictures of text that are drawn here, see
  text_pictures.py, whatever is in DIR.

As in rd.py every codec gets every picture at every budget, and the rate is the length of the whole file. Of several
files (a "best downscale") the one with the best PSNR counts: its maker does not know what the picture is for.
Prints tables and where prow loses. FILE.json has all there is to know; beside it are FILE.jsonl, from which a later
run takes what it would otherwise repeat, and the pictures of text.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import prow.image
from benchmarks import codecs, ocr, task_tables, text_pictures, top1
from benchmarks.metrics import psnr
from benchmarks.rd import (
    SHIPPED,
    Picture,
    Records,
    Wanted,
    check_args,
    checkout,
    describe,
    family_codecs,
    find_pictures,
    results_of,
    shown,
    versions,
)
from benchmarks.summary import OURS, Point, mean_cell, values_of
from prow.training.published import MissingPackageError, locate

BUDGETS = (256, 512, 1024, 2048, 4096)
DEFAULT_CODECS = ("prow", *codecs.FORMATS)
CHOSEN_BY = "psnr"  # which of several files counts
KEPT = 4  # decimals of shares


@dataclasses.dataclass(frozen=True)
class Task:
    """What is to be done with a picture. `score(name, original, picture)` is the share of it that succeeds, 0 to 1,
    and what to note of it; pictures are [H, W, 3] uint8, `name` is that of the file. `settings` are all else that
    the score depends on.
    """

    title: str
    packages: tuple[str, ...]
    settings: dict[str, Any]
    score: Callable[[str, np.ndarray, np.ndarray], tuple[float, dict[str, Any]]]


def same_class(name: str, original: np.ndarray, picture: np.ndarray) -> tuple[float, dict[str, Any]]:
    """-> 1 if the network sees the same class in both, else 0; and the two classes."""
    wanted, got = _class_of(original.tobytes(), *original.shape[:2]), top1.classify(picture)
    return float(wanted == got), {"class": got, "wanted": wanted}


@functools.lru_cache(maxsize=1)
def _class_of(pixels: bytes, height: int, width: int) -> int:
    """-> the class of the original, kept while one decoded picture after the other is compared with it."""
    return top1.classify(np.frombuffer(pixels, np.uint8).reshape(height, width, 3))


def words_read(name: str, original: np.ndarray, picture: np.ndarray) -> tuple[float, dict[str, Any]]:
    """-> the share of the words of a text picture that are read, letter for letter, in the line that has them."""
    wanted = {text.name: text for text in text_pictures.text_pictures()}[name]
    read = 0
    for line, box in zip(wanted.lines, wanted.boxes, strict=True):
        found = ocr.read_line(picture, box).split()
        for word in line.split():
            if word in found:
                found.remove(word)
                read += 1
    return read / wanted.words, {"read": read, "words": wanted.words}


TASKS = {
    "top1": Task(
        "same top-1 class, % of images",
        (top1.PACKAGE,),
        {"model": Path(top1.WEIGHTS).name, "sha256": top1.WEIGHTS_SHA256, "side": top1.SIDE},
        same_class,
    ),
    "words": Task(
        "words read, %",
        ocr.PACKAGES,
        {"model": Path(ocr.MODEL).name, "sha256": ocr.MODEL_SHA256, "words": "in their line, whole"},
        words_read,
    ),
}


@dataclasses.dataclass(frozen=True)
class Trial:
    """A codec at a task: what the records know results by."""

    codec: codecs.Codec
    task: str

    @property
    def name(self) -> str:
        """The codec's name."""
        return self.codec.name

    @property
    def settings(self) -> dict[str, Any]:
        """All that results depend on."""
        own = {key: value for key, value in self.codec.settings.items() if key != "best_by"}
        task = {"name": self.task, **TASKS[self.task].settings}
        return {"codec": own, "chosen_by": CHOSEN_BY, "task": task}

    def code(self, image: np.ndarray, budget: int) -> list[codecs.Coded]:
        """See Codec."""
        return self.codec.code(image, budget)


def measure(trial: Trial, name: str, image: np.ndarray, budget: int) -> Point:
    """-> the point of a picture [H, W, 3] uint8 at a budget in bytes. The rate is taken here: len(file)."""
    files = trial.code(image, budget)
    point: Point = {"budget": budget, "reached": bool(files)}
    if not files:
        return point
    best = max(files, key=lambda coded: psnr(image, coded.image))
    if len(best.data) > budget:
        raise AssertionError(f"{trial.name} gave {len(best.data)} bytes for a budget of {budget}")
    value, notes = TASKS[trial.task].score(name, image, best.image)
    return point | {
        trial.task: {
            "value": round(value, KEPT),
            **notes,
            "bytes": len(best.data),
            **best.setting,
            "psnr": round(psnr(image, best.image), KEPT),
            "encode_seconds": round(best.encode_seconds, 4),
            "decode_seconds": round(best.decode_seconds, 4),
        }
    }


def run_unit(family: str, task: str, picture: Picture, wanted: Wanted) -> list[dict[str, Any]]:
    """-> one record per codec of a family: a picture at the wanted budgets."""
    image = prow.image.load_rgb(picture.path)
    records = []
    for trial in (Trial(codec, task) for codec in family_codecs(family)):
        if budgets := wanted.get(trial.name):
            records.append(
                {
                    "codec": trial.name,
                    "settings": trial.settings,
                    "image": picture.path.name,
                    "image_sha256": picture.sha256,
                    "points": [measure(trial, picture.path.name, image, budget) for budget in budgets],
                }
            )
    return records


Corpora = dict[str, list[Picture]]  # the pictures of each task


def run(families: list[str], corpora: Corpora, budgets: list[int], records: Records, jobs: int) -> None:
    """Measure what the records do not know yet; progress goes to stderr."""
    units, known = [], 0
    for task, pictures in corpora.items():
        for family in families:
            for picture in pictures:
                wanted: Wanted = {}
                for codec in family_codecs(family):
                    wanted |= records.missing(Trial(codec, task), picture, budgets, [task])
                if wanted:
                    units.append((family, task, picture, wanted))
                known += not wanted
    print(f"{known} results known, {len(units)} to do", file=sys.stderr)
    for found in shown(results_of(run_unit, units, jobs), len(units)):
        for record in found:
            records.add(record)


def summarise(points: list[Point], task: str) -> dict[str, Any]:
    """-> one codec at one budget: images reached, mean share among these, its interval, mean bytes."""
    files = [point[task] for point in points if point["reached"]]
    size = round(sum(file["bytes"] for file in files) / len(files), 1) if files else None
    return {"images": len(files), **mean_cell([file["value"] for file in files], KEPT), "bytes": size}


def difference(ours: list[Point], theirs: list[Point], task: str) -> dict[str, Any]:
    """-> by how much our share is higher (below 0: lower) than theirs, image by image, where both have one."""
    both = zip(values_of(ours, task), values_of(theirs, task), strict=True)
    found = [a - b for a, b in both if a is not None and b is not None]
    return {"images": len(found), **mean_cell(found, KEPT)}


def collect_task(
    families: list[str], task: str, pictures: list[Picture], budgets: list[int], records: Records
) -> dict[str, Any]:
    """-> all results of a task: the originals' own share, summaries, differences to prow, all points."""
    trials = [Trial(codec, task) for family in families for codec in family_codecs(family)]
    points = {t.name: {b: [records.points(t, p)[b] for p in pictures] for b in budgets} for t in trials}
    images = {picture: prow.image.load_rgb(picture.path) for picture in pictures}
    originals = [TASKS[task].score(p.path.name, image, image)[0] for p, image in images.items()]
    return {
        "title": TASKS[task].title,
        "settings": TASKS[task].settings,
        "corpus": describe(pictures[0].path.parent.resolve().name, pictures),
        "originals": mean_cell(originals, KEPT),
        "summary": {name: {str(b): summarise(found[b], task) for b in budgets} for name, found in points.items()},
        "comparison": {
            ours: {
                name: {str(b): difference(points[ours][b], found[b], task) for b in budgets}
                for name, found in points.items()
                if name != ours
            }
            for ours in OURS
            if ours in points
        },
        "records": [
            {
                "codec": name,
                "image": picture.path.name,
                "image_sha256": picture.sha256,
                "points": [found[b][i] for b in budgets],
            }
            for name, found in points.items()
            for i, picture in enumerate(pictures)
        ],
    }


def collect(families: list[str], corpora: Corpora, budgets: list[int], records: Records) -> dict[str, Any]:
    """-> the whole results: versions, codecs, and by task what collect_task gives."""
    packages = [package for task in TASKS.values() for package in task.packages]
    return {
        "schema": 1,
        "budgets": budgets,
        "commit": checkout(),
        "versions": versions(["pillow", *packages]),
        "chosen_by": CHOSEN_BY,
        "codecs": {codec.name: codec.settings for family in families for codec in family_codecs(family)},
        "tasks": {task: collect_task(families, task, pictures, budgets, records) for task, pictures in corpora.items()},
    }


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """-> the options, checked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of images for the task top1")
    parser.add_argument("--codecs", default=",".join(DEFAULT_CODECS), help="default: %(default)s")
    parser.add_argument("--tasks", default=",".join(TASKS), help="default: %(default)s")
    parser.add_argument("--budgets", default=",".join(map(str, BUDGETS)), help="bytes; default: %(default)s")
    parser.add_argument(
        "--out", type=Path, default=Path("build/tasks/tasks.json"), metavar="FILE.json", help="default: %(default)s"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="the first N images of each task only")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes; default: %(default)s")
    parser.add_argument("--fresh", action="store_true", help="do not reuse the results shipped with prow")
    args = parser.parse_args(argv)
    check_args(parser, args, {"codecs": codecs.FAMILIES, "tasks": TASKS})
    if args.out.suffix != ".json":
        parser.error(f"--out is {args.out}: wanted the name of a file that ends in .json")
    if "top1" in args.tasks and args.data is None:
        parser.error("task 'top1' needs --data DIR, a folder of images")
    return args


def find_corpora(args: argparse.Namespace) -> Corpora:
    """-> the pictures of each task; draws those of text."""
    folders = {"top1": args.data, "words": args.out.with_name(f"{args.out.stem}-text")}
    if "words" in args.tasks:
        text_pictures.write(folders["words"])
    return {task: find_pictures(folders[task], args.limit) for task in args.tasks}


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark; see the module's docstring."""
    args = parse_args(argv)
    records = Records(args.out.with_suffix(".jsonl"), [] if args.fresh else sorted(SHIPPED.glob("*.jsonl")))
    try:
        for task in args.tasks:
            for package in TASKS[task].packages:
                locate(package, f"task {task!r}")
        corpora = find_corpora(args)
        run(args.codecs, corpora, args.budgets, records, args.jobs)
    except MissingPackageError as error:
        raise SystemExit(f"tasks: {error}") from None
    results = collect(args.codecs, corpora, args.budgets, records)
    args.out.write_text(json.dumps(results, indent=1) + "\n")
    for text in task_tables.all_tables(results):
        print(text + "\n")
    for task, found in results["tasks"].items():
        print(f"{args.out}: {task}, {found['corpus']['images']} images, corpus {found['corpus']['sha256'][:16]}")


if __name__ == "__main__":
    main()
