"""Rate and distortion of prow and of the codecs it is up against: `python -m benchmarks.rd --data DIR`.

Every codec gets every image at every budget; the rate is the length of the whole file. A codec with several
files to choose from (a "best downscale") is judged in each metric by the file that is best in this metric.
With `--model NAME` it is about one model, such as an imported one, beside prow: sizes are those of 10 to 256 tokens of
12 bits, and one more metric is whether a classifier sees the same. With `--crop 256` pictures are prepared as those of
One-D-Piece's paper are: the shorter side becomes 256 px, and the middle square counts.
Prints tables, and writes into the output folder `rd.json` (all there is to know), `rd.png` (a plot) and
`rd.jsonl`, one line per finished (codec, image), from which a later run takes what it would otherwise repeat.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

import prow
from benchmarks.codecs.classical import USUAL
from benchmarks.codecs.families import FAMILIES, family_codecs
from benchmarks.common.corpus import Picture, describe, find_pictures
from benchmarks.common.machine import checkout, versions
from benchmarks.common.options import MOST_BYTES, check_counts, check_names, numbers, parser_of
from benchmarks.quality import plot
from benchmarks.quality.measure import measure_family
from benchmarks.quality.metrics import METRICS, require
from benchmarks.quality.records import Point, Records
from benchmarks.quality.summary import OURS, compare, summarise
from benchmarks.quality.tables import all_tables
from prow.image import load_rgb
from prow.training.published import MissingPackageError, locate

BUDGETS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
DEFAULT_CODECS = ("prow", "anchor", *USUAL, "vvc")
DEFAULT_METRICS = ("psnr", "ms_ssim")
MODEL_BUDGETS = (32, 40, 64, 112, 208, 401)  # a header of 16 bytes, and 10, 16, 32, 64, 128 and 256 tokens of 12 bits
MODEL_METRICS = (*DEFAULT_METRICS, "top1")


def run(args: argparse.Namespace, pictures: list[Picture], records: Records) -> None:
    """Measure what the records do not know yet."""
    units = [
        (family, picture, records.missing(family_codecs(family), picture, args.budgets, args.metrics))
        for family in args.codecs
        for picture in pictures
    ]
    records.fill(measure_family, units, args.jobs)


def collect(args: argparse.Namespace, pictures: list[Picture], records: Records) -> dict[str, Any]:
    """-> the whole results: corpus, versions, codecs, summaries, comparisons of prow with others, all records."""
    budgets, names = args.budgets, args.metrics
    codecs = [codec for family in args.codecs for codec in family_codecs(family)]
    points = {c.name: {b: [_part(records.points(c, p)[b], names) for p in pictures] for b in budgets} for c in codecs}
    return {
        "schema": 2,
        "corpus": describe(args.data.resolve().name, pictures),
        "budgets": budgets,
        "metrics": names,
        "commit": checkout(),
        "versions": versions(metric.package for metric in METRICS.values() if metric.package),
        "codecs": {codec.name: codec.settings for codec in codecs},
        "summary": {name: {str(b): summarise(own[b], names) for b in budgets} for name, own in points.items()},
        "comparison": compare(points, budgets, names),
        "records": [
            {
                **{"codec": name, "image": p.path.name, "image_sha256": p.sha256, "width": p.width, "height": p.height},
                "points": [own[b][i] for b in budgets],
            }
            for name, own in points.items()
            for i, p in enumerate(pictures)
        ],
    }


def _part(point: Point, names: Sequence[str]) -> Point:
    """-> a point with these metrics only."""
    return {key: point[key] for key in ("budget", "reached", *names) if key in point}


def cropped(pictures: list[Picture], side: int, folder: Path) -> list[Picture]:
    """-> the middle squares of pictures whose shorter side is made `side` px, as PNGs in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    for picture in pictures:
        square = ImageOps.fit(Image.fromarray(load_rgb(picture.path)), (side, side), Image.Resampling.BICUBIC)
        square.save(folder / f"{picture.path.stem}.png")
    return find_pictures(folder)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """-> the options, checked."""
    parser = parser_of("rd", __doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of images")
    parser.add_argument("--model", metavar="NAME", help="a model as a codec of this name, such as an imported one")
    parser.add_argument("--crop", type=int, metavar="PX", help="the middle square of each image, so many px a side")
    defaults = {"codecs": DEFAULT_CODECS, "metrics": DEFAULT_METRICS, "budgets": BUDGETS}
    of_model = {"codecs": ("prow",), "metrics": MODEL_METRICS, "budgets": MODEL_BUDGETS}
    for option, usual in defaults.items():
        usual, other = (",".join(map(str, some)) for some in (usual, of_model[option]))
        parser.add_argument(f"--{option}", help=f"default: {usual}; with --model: {other}")
    parser.add_argument("--out", type=Path, default=Path("build/rd"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N images only")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes; default: %(default)s")
    parser.add_argument("--fresh", action="store_true", help="do not reuse the results shipped with prow")
    parser.add_argument("--json", action="store_true", help="print the results as JSON, not as tables")
    args = parser.parse_args(argv)
    for option, usual in (of_model if args.model else defaults).items():
        if getattr(args, option) is None:
            setattr(args, option, ",".join(map(str, usual)))
    check_names(parser, args, {"codecs": FAMILIES, "metrics": METRICS})
    check_counts(parser, args, "limit", "jobs", "crop")
    if args.model:
        if args.model not in (names := [info.name for info in prow.models()]):
            parser.error(f"--model is {args.model!r}: wanted one of {', '.join(names)}")
        args.codecs.insert(0, args.model)
    args.budgets = numbers(parser, "budgets", args.budgets, int, 1, MOST_BYTES)
    return args


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark; see the module's docstring."""
    args = parse_args(argv)
    pictures = find_pictures(args.data, args.limit)
    if args.crop:
        pictures = cropped(pictures, args.crop, args.out / f"cropped-{args.crop}")
    records = Records(args.out / "rd.jsonl", fresh=args.fresh)
    try:
        require(args.metrics)
        if set(args.codecs) & set(OURS):
            locate("bjontegaard", "comparing prow with others")
        run(args, pictures, records)
    except MissingPackageError as error:
        raise SystemExit(f"rd: {error}") from None
    results = collect(args, pictures, records)
    (args.out / "rd.json").write_text(json.dumps(results, indent=1) + "\n")
    plot.draw(results, args.out / "rd.png")
    if args.json:
        print(json.dumps(results))
        return
    for text in all_tables(results):
        print(text + "\n")
    print(f"{args.out / 'rd.json'}: {len(pictures)} images, corpus {results['corpus']['sha256'][:16]}")


if __name__ == "__main__":
    main()
