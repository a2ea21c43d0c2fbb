"""What a picture is still good for: `python -m benchmarks.tasks --data DIR --codecs prow,webp --out FILE.json`.

Three tasks, the first in the manner of One-D-Piece (arXiv:2501.10064), which asks a classifier about its pictures:

- `top1`: does EfficientNet-Lite0 see the same in the decoded picture as in the original? For the pictures in DIR.
- `words`: the share of words that an OCR network reads. For pictures of text that are drawn here, see
  text_pictures.py, whatever is in DIR.
- `faces`: the share of faces that a detector finds again. For those pictures in DIR in which it finds any.

As in rd.py every codec gets every picture at every budget, and the rate is the length of the whole file. Of several
files (a "best downscale") the one with the best PSNR counts: its maker does not know what the picture is for.
Prints tables and where prow loses. FILE.json has all there is to know; beside it are FILE.jsonl, from which a later
run takes what it would otherwise repeat, and the pictures of text.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.codecs.classical import USUAL
from benchmarks.codecs.families import FAMILIES, family_codecs
from benchmarks.common import faces
from benchmarks.common.corpus import Picture, describe, find_pictures
from benchmarks.common.machine import checkout, versions
from benchmarks.common.options import MOST_BYTES, check_counts, check_names, numbers, parser_of
from benchmarks.quality.records import Point, Records
from benchmarks.quality.summary import OURS, mean_cell, values_of
from benchmarks.tasks import text_pictures
from benchmarks.tasks.tables import all_tables
from benchmarks.tasks.trials import CHOSEN_BY, KEPT, TASKS, Trial, measure_family
from prow.image import load_rgb
from prow.training.published import MissingPackageError, locate

BUDGETS = (256, 512, 1024, 2048, 4096)
DEFAULT_CODECS = ("prow", *USUAL)

Corpora = dict[str, list[Picture]]  # the pictures of each task


def run(args: argparse.Namespace, corpora: Corpora, records: Records) -> None:
    """Measure what the records do not know yet."""
    units = [
        (family, task, picture, records.missing(trials_of([family], task), picture, args.budgets, [task]))
        for task, pictures in corpora.items()
        for family in args.codecs
        for picture in pictures
    ]
    records.fill(measure_family, units, args.jobs)


def trials_of(families: list[str], task: str) -> list[Trial]:
    """-> all codecs of these families at a task."""
    return [Trial(codec, task) for family in families for codec in family_codecs(family)]


def summarise(points: list[Point], task: str) -> dict[str, Any]:
    """-> one codec at one budget: images reached, mean share among these, its interval, mean bytes."""
    files = [point[task] for point in points if point["reached"]]
    size = round(sum(file["bytes"] for file in files) / len(files), 1) if files else None
    return {"images": len(files), **mean_cell([file["value"] for file in files], KEPT), "bytes": size}


def difference(ours: list[Point], theirs: list[Point], task: str) -> dict[str, Any]:
    """-> by how much our share is higher (below 0: lower) than theirs, image by image, where both have one."""
    both = zip(values_of(ours, task), values_of(theirs, task), strict=True)
    more = [a - b for a, b in both if a is not None and b is not None]
    return {"images": len(more), **mean_cell(more, KEPT)}


def collect_task(args: argparse.Namespace, task: str, pictures: list[Picture], records: Records) -> dict[str, Any]:
    """-> all results of a task: the originals' own share, summaries, differences to prow, all points."""
    budgets = args.budgets
    trials = trials_of(args.codecs, task)
    points = {t.name: {b: [records.points(t, p)[b] for p in pictures] for b in budgets} for t in trials}
    images = {picture.path.name: load_rgb(picture.path) for picture in pictures}
    originals = [TASKS[task].score(name, image, image)[0] for name, image in images.items()]
    return {
        "title": TASKS[task].title,
        "settings": TASKS[task].settings,
        "corpus": describe(pictures[0].path.parent.resolve().name, pictures),
        "originals": mean_cell(originals, KEPT),
        "summary": {name: {str(b): summarise(own[b], task) for b in budgets} for name, own in points.items()},
        "comparison": {
            ours: {
                name: {str(b): difference(points[ours][b], theirs[b], task) for b in budgets}
                for name, theirs in points.items()
                if name != ours
            }
            for ours in OURS
            if ours in points
        },
        "records": [
            {"codec": name, "image": p.path.name, "image_sha256": p.sha256, "points": [own[b][i] for b in budgets]}
            for name, own in points.items()
            for i, p in enumerate(pictures)
        ],
    }


def collect(args: argparse.Namespace, corpora: Corpora, records: Records) -> dict[str, Any]:
    """-> the whole results: versions, codecs, and by task what collect_task gives."""
    packages = [package for task in TASKS.values() for package in task.packages]
    return {
        "schema": 1,
        "budgets": args.budgets,
        "commit": checkout(),
        "versions": versions(["pillow", *packages]),
        "chosen_by": CHOSEN_BY,
        "codecs": {codec.name: codec.settings for family in args.codecs for codec in family_codecs(family)},
        "tasks": {task: collect_task(args, task, pictures, records) for task, pictures in corpora.items()},
    }


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """-> the options, checked."""
    parser = parser_of("tasks", __doc__)
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of images for the tasks top1 and faces")
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
    check_names(parser, args, {"codecs": FAMILIES, "tasks": TASKS})
    check_counts(parser, args, "limit", "jobs")
    args.budgets = numbers(parser, "budgets", args.budgets, int, 1, MOST_BYTES)
    if args.out.suffix != ".json":
        parser.error(f"--out is {args.out}: wanted the name of a file that ends in .json")
    for task in ("top1", "faces"):
        if task in args.tasks and args.data is None:
            parser.error(f"task {task!r} needs --data DIR, a folder of images")
    return args


def find_corpora(args: argparse.Namespace) -> Corpora:
    """-> the pictures of each task; draws those of text."""
    folders = {"top1": args.data, "words": args.out.with_name(f"{args.out.stem}-text"), "faces": args.data}
    if "words" in args.tasks:
        text_pictures.write(folders["words"])
    corpora = {task: find_pictures(folders[task], args.limit) for task in args.tasks}
    if "faces" in corpora:
        corpora["faces"] = [picture for picture in corpora["faces"] if faces.find(load_rgb(picture.path))]
        if not corpora["faces"]:
            raise SystemExit(f"tasks: no face was found in the pictures of {args.data}")
    return corpora


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark; see the module's docstring."""
    args = parse_args(argv)
    records = Records(args.out.with_suffix(".jsonl"), fresh=args.fresh)
    try:
        for task in args.tasks:
            for package in TASKS[task].packages:
                locate(package, f"task {task!r}")
        corpora = find_corpora(args)
        run(args, corpora, records)
    except MissingPackageError as error:
        raise SystemExit(f"tasks: {error}") from None
    results = collect(args, corpora, records)
    args.out.write_text(json.dumps(results, indent=1) + "\n")
    for text in all_tables(results):
        print(text + "\n")
    for task, of_task in results["tasks"].items():
        corpus = of_task["corpus"]
        print(f"{args.out}: {task}, {corpus['images']} images, corpus {corpus['sha256'][:16]}")


if __name__ == "__main__":
    main()
