"""Rate and distortion of prow and of the codecs it is up against: `python -m benchmarks.rd --data DIR`.

Every codec gets every image at every budget; the rate is the length of the whole file. A codec with several
files to choose from (a "best downscale") is judged in each metric by the file that is best in this metric.
Prints tables, and writes into the output folder `rd.json` (all there is to know), `rd.png` (a plot) and
`rd.jsonl`, one line per finished (codec, image), from which a later run takes what it would otherwise repeat.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from prow.training.published import MissingPackageError, locate

BUDGETS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
DEFAULT_CODECS = ("prow", "anchor", *USUAL, "vvc")
DEFAULT_METRICS = ("psnr", "ms_ssim")


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


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """-> the options, checked."""
    parser = parser_of("rd", __doc__)
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
    check_names(parser, args, {"codecs": FAMILIES, "metrics": METRICS})
    check_counts(parser, args, "limit", "jobs")
    args.budgets = numbers(parser, "budgets", args.budgets, int, 1, MOST_BYTES)
    return args


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark; see the module's docstring."""
    args = parse_args(argv)
    pictures = find_pictures(args.data, args.limit)
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
