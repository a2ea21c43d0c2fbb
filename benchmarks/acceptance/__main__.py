"""Does prow keep its promises on real pictures? `python -m benchmarks.acceptance --data DIR`.

    budgets       every file is within its budget, and is short of it only if the model has no more to say
    prefixes      random prefixes of every file decode, and the mean PSNR never falls by more than 0.1 dB
                  as a prefix grows by 10 %
    threads       1 and 2 threads give the same file, and read the same tokens
    perturbation  what an encoder writes whose weights are all off is read as it was written
    seams         mean step across tile borders over the mean step elsewhere (aim: at most 1.10)
    cuts          what a file of 4,096 bytes that is cut loses against one made for the smaller size
    anchor        what the network gains over the linear anchor alone (aim: 0.6 dB or more)

The first four are hard: if one fails, the exit code is 1. Prints tables; --out writes all there is to know.
Most of the time goes into decoding prefixes: images x budgets x (--prefixes + 1) decodes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

import prow
from benchmarks.acceptance.figures import measure_anchor, measure_cuts, measure_seams
from benchmarks.acceptance.files import Images, Report, encode_all
from benchmarks.acceptance.promises import check_budgets, check_perturbation, check_prefixes, check_threads
from benchmarks.acceptance.text import SHOWN, show
from benchmarks.common.corpus import find_pictures
from benchmarks.common.options import check_counts, check_names, parser_of
from benchmarks.common.output import check_place, write
from prow import registry
from prow.image import load_rgb

BUDGETS = (64, 128, 256, 512, 1024, 2048, 4096)  # bytes
FILES = {  # the budgets whose files a section looks at
    "budgets": BUDGETS,
    "seams": (2048,),
    "cuts": BUDGETS,
    "anchor": (128, 256, 512),
    "prefixes": BUDGETS,
}


def run(
    images: Images, model: str, prefixes: int, wanted: list[str], device: str, jobs: int
) -> Iterator[tuple[str, Report]]:
    """The wanted sections with their names, as they get done. Only files that they look at are made."""
    budgets = sorted({b for name in wanted for b in FILES.get(name, ())})
    files = encode_all(images, budgets, model, jobs)
    tile = registry.load(model).config.tile
    sections: dict[str, Callable[[], Report]] = {
        "budgets": lambda: check_budgets(images, files, model),
        "threads": lambda: check_threads(images, model),
        "perturbation": lambda: check_perturbation(images, model, device),
        "seams": lambda: measure_seams(images, files, FILES["seams"][0], tile),
        "cuts": lambda: measure_cuts(images, files, FILES["cuts"], jobs),
        "anchor": lambda: measure_anchor(images, files, FILES["anchor"], jobs),
        "prefixes": lambda: check_prefixes(images, files, prefixes, jobs),
    }
    yield from ((name, section()) for name, section in sections.items() if name in wanted)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The options, checked."""
    parser = parser_of("acceptance", __doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of images")
    parser.add_argument("--model", default="default", metavar="NAME", help="default: the installed default model")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N images only")
    parser.add_argument("--prefixes", type=int, default=20, metavar="N", help="per file; default: %(default)s")
    parser.add_argument("--sections", default=",".join(SHOWN), metavar="LIST", help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes; default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the results as JSON")
    args = parser.parse_args(argv)
    check_names(parser, args, {"sections": SHOWN})
    check_counts(parser, args, "limit", "prefixes", "jobs")
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; 1 if a hard property fails."""
    args = parse_args(argv)
    try:
        info = {m.name: m for m in prow.models()}[registry.load(args.model).config.name]
    except prow.ModelError as error:
        raise SystemExit(f"acceptance: {error}") from None
    pictures = find_pictures(args.data, args.limit)
    images = {p.path.name: load_rgb(p.path) for p in pictures}
    if info.name == "anchor":
        args.sections = [name for name in args.sections if name != "anchor"]  # nothing to compare with
    device = "cuda" if torch.cuda.is_available() else "cpu"
    began = time.monotonic()
    results: Report = {
        "schema": 1,
        "model": info.name,
        "sha256": info.sha256,
        "device": device,
        "corpus": {"name": args.data.name, "images": len(images), "sha256": {p.path.name: p.sha256 for p in pictures}},
        "sections": {},
    }
    if args.out:
        check_place(args.out, "acceptance")
    for name, section in run(images, info.name, args.prefixes, args.sections, device, args.jobs):
        results["sections"][name] = section
        results["seconds"] = round(time.monotonic() - began, 1)
        if args.out:  # after each, for all of them take an hour
            write(args.out, json.dumps(results, indent=1) + "\n")
    print(show(results))
    return 0 if all(section.get("passed", True) for section in results["sections"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
