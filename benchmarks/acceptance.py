"""Does prow keep its promises on real pictures? `python -m benchmarks.acceptance --data DIR`.

    budgets      every file is within its budget, and is short of it only if the model has no more to say
    prefixes     random prefixes of every file decode, and the mean PSNR never falls by more than 0.1 dB
                 as a prefix grows by 10 %
    tokens       1 and 2 threads give the same file; a reader whose weights are all off reads the same tokens
    seams        mean step across tile borders over the mean step elsewhere (aim: at most 1.10)
    allocation   what choosing each tile's prefix by slope gains over the same number of tokens for all
    cuts         what a file of 4,096 bytes that is cut loses against one made for the smaller size
    anchor       what the network gains over the linear anchor alone (aim: 0.6 dB or more)

The first three are hard: if one fails, the exit code is 1. Prints tables; --out writes all there is to know.
Most of the time goes into decoding prefixes: images x budgets x (--prefixes + 1) decodes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import prow
from benchmarks import promises
from benchmarks.metrics import psnr
from benchmarks.output import check_place, write
from benchmarks.promises import FALL, Files, Images, Report, Workers, encode_all, score
from benchmarks.rd import find_pictures
from benchmarks.tables import plain
from prow import container, rate, registry
from prow.base_codec import Coded, Wanted
from prow.codec import Codec, to_image
from prow.geometry import Level
from prow.image import load_rgb

BUDGETS = (64, 128, 256, 512, 1024, 2048, 4096)
ALLOCATION_BUDGETS = (256, 1024, 4096)
ANCHOR_BUDGETS = (128, 256, 512)
SEAM_BUDGET = 2048  # bytes
SEAM_AIM, GAIN_AIM = 1.10, 0.6  # ratio, dB


# -- quality -------------------------------------------------------------------------------------------------------


def steps_by_place(image: np.ndarray, tile: int) -> tuple[float, float]:
    """Mean absolute step of neighbouring pixels, across the borders of full-resolution tiles and elsewhere."""
    level = Level(image.shape[1], image.shape[0], tile)
    pixels = image.astype(float)
    across, inside = [], []
    for axis, parts in ((1, level.columns), (0, level.rows)):
        step = np.abs(np.diff(pixels, axis=axis))
        border = np.zeros(step.shape[axis], bool)
        border[np.cumsum(parts)[:-1] - 1] = True
        across.append(np.compress(border, step, axis=axis).ravel())
        inside.append(np.compress(~border, step, axis=axis).ravel())
    return float(np.concatenate(across).mean()), float(np.concatenate(inside).mean())


def measure_seams(images: Images, files: Files, tile: int) -> Report:
    """The ratio of mean steps over all images of more than one tile, decoded and original; empty without any."""
    rows = {}
    for name, image in images.items():
        if max(image.shape[:2]) <= tile:
            continue
        decoded = steps_by_place(np.asarray(prow.decode(files[name, SEAM_BUDGET])), tile)
        rows[name] = [*decoded, *steps_by_place(image, tile)]
    if not rows:
        return {}
    across, inside, original_across, original_inside = np.mean(list(rows.values()), axis=0)
    return {
        "budget": SEAM_BUDGET,
        "ratio": round(across / inside, 4),
        "ratio_of_originals": round(original_across / original_inside, 4),
        "worst": max((round(r[0] / r[1], 4), name) for name, r in rows.items()),
        "by_image": {name: [round(x, 4) for x in row] for name, row in rows.items()},
    }


class EvenCodec(Codec):
    """Gives all tiles of a pass the same number of tokens, the best one."""

    def encode_many(self, size: tuple[int, int], batch: Sequence[Wanted], **options: Any) -> list[Coded]:
        return super().encode_many(size, batch, **{**options, "allocation": "even"})


KINDS = {"slope": Codec, "even": EvenCodec}


def measure_allocation(images: Images, model: str, device: str, workers: Workers) -> Report:
    """PSNR at exactly the same bytes, both through the rate control of `prow.rate`."""
    report: Report = {}
    for budget in ALLOCATION_BUDGETS:
        cases = [(image, budget, name, model, device) for image in images.values() for name in KINDS]
        found = workers.map("allocation", _score_allocation, cases)
        scores = {name: found[i :: len(KINDS)] for i, name in enumerate(KINDS)}
        means = {name: round(float(np.mean(values)), 4) for name, values in scores.items()}
        report[str(budget)] = {**means, "gain": round(means["slope"] - means["even"], 4)}
    return report


def _score_allocation(case: tuple[np.ndarray, int, str, str, str]) -> float:
    image, budget, kind, model, device = case
    found = registry.load(model)
    codec = KINDS[kind](found.network(device), found.tables)
    tokens = rate.at_bytes(codec, [image], budget - container.SMALL_HEADER_BYTES, 3)[0].tokens
    return psnr(image, to_image(codec.decode(tokens)))


def measure_cuts(images: Images, files: Files, workers: Workers) -> Report:
    """Mean PSNR of the largest files, truncated, and of those made for the smaller budgets."""
    *smaller, largest = BUDGETS
    report: Report = {}
    for budget in smaller:
        cases = [(image, files[name, budget]) for name, image in images.items()]
        cases += [(image, prow.truncate(files[name, largest], budget)) for name, image in images.items()]
        scores = np.reshape(workers.map(f"cuts to {budget}", _score_file, cases), (2, -1)).mean(1)
        report[str(budget)] = {
            "made": round(float(scores[0]), 4),
            "cut": round(float(scores[1]), 4),
            "loss": round(float(scores[0] - scores[1]), 4),
        }
    return report


def _score_file(case: tuple[np.ndarray, bytes]) -> float:
    return score(*case)


def measure_anchor(images: Images, files: Files, workers: Workers) -> Report:
    """Mean PSNR of the files at hand and of files of the linear anchor."""
    linear = encode_all(images, ANCHOR_BUDGETS, "anchor", workers)
    report: Report = {}
    for budget in ANCHOR_BUDGETS:
        ours = float(np.mean([score(image, files[name, budget]) for name, image in images.items()]))
        anchor = float(np.mean([score(image, linear[name, budget]) for name, image in images.items()]))
        report[str(budget)] = {"network": round(ours, 4), "anchor": round(anchor, 4), "gain": round(ours - anchor, 4)}
    return report


# -- report --------------------------------------------------------------------------------------------------------


def show(results: Report) -> str:
    """The whole report as text."""
    corpus, sections = results["corpus"], results["sections"]
    lines = [f"model {results['model']} on {corpus['images']} images of {corpus['name']}", ""]
    for name, section in sections.items():
        verdict = {True: "passed", False: "FAILED"}.get(section.get("passed"), "measured")
        lines += [f"{name}: {verdict}", *SHOWN[name](section), ""]
    return "\n".join(lines).rstrip()


def _show_budgets(section: Report) -> list[str]:
    listed = [f"  too long: {n} at {b} bytes has {size}" for n, b, size in section["over"]]
    listed += [f"  nothing left to say: {n} at {b} bytes has {size}" for n, b, size in section["short"]]
    listed += [f"  too short: {n} at {b} bytes has {size}" for n, b, size in section["lazy"]]
    exact = section["files"] - len(listed)
    return [f"  {exact} of {section['files']} files have exactly their budget", *listed]


def _show_prefixes(section: Report) -> list[str]:
    rows = [["bytes", "PSNR of the whole, dB", "worst fall of the mean", "from-to", "worst of one image", "which"]]
    for budget, report in section["by_budget"].items():
        start, end = report["worst_mean_fall_bytes"]
        name, single_start, single_end = report["worst_single"]
        mean, single = report["worst_mean_fall_db"], report["worst_single_fall_db"]
        where = f"{name} {single_start}-{single_end}"
        rows.append(
            [str(budget), f"{report['mean_psnr'][-1]:.2f}", f"{mean:.3f}", f"{start}-{end}", f"{single:.3f}", where]
        )
    failures = [f"  does not decode: {n} at {b} bytes, first {cut}: {e}" for n, b, cut, e in section["failures"]]
    return [f"  falls in dB per 10 % of growth; {FALL} of the mean is allowed", plain(rows), *failures]


def _show_tokens(section: Report) -> list[str]:
    lines = [f"  {name.replace('_', ' ')}: {value}" for name, value in section.items() if name != "passed"]
    return [line.replace("[]", "none") for line in lines]


def _show_seams(section: Report) -> list[str]:
    if not section:
        return ["  no image has more than one tile"]
    ratio, name = section["worst"]
    return [
        f"  at {section['budget']} bytes {section['ratio']:.3f} (aim: at most {SEAM_AIM:.2f}), "
        f"of the originals {section['ratio_of_originals']:.3f}, worst {ratio:.3f} ({name})"
    ]


def _show_pairs(section: Report) -> list[str]:
    names = list(next(iter(section.values())))
    rows = [["bytes", *names], *([b, *(f"{report[n]:.2f}" for n in names)] for b, report in section.items())]
    return [plain(rows)]


def _show_anchor(section: Report) -> list[str]:
    return [*_show_pairs(section), f"  (aim: a gain of {GAIN_AIM} dB)"]


SHOWN: dict[str, Callable[[Report], list[str]]] = {
    "budgets": _show_budgets,
    "prefixes": _show_prefixes,
    "threads": _show_tokens,
    "perturbation": _show_tokens,
    "seams": _show_seams,
    "allocation": _show_pairs,
    "cuts": _show_pairs,
    "anchor": _show_anchor,
}


FILES = {  # the budgets whose files a section looks at
    "budgets": BUDGETS,
    "seams": (SEAM_BUDGET,),
    "cuts": BUDGETS,
    "anchor": ANCHOR_BUDGETS,
    "prefixes": BUDGETS,
}


def run(
    images: Images, model: str, prefixes: int, wanted: list[str], device: str, workers: Workers
) -> Iterator[tuple[str, Report]]:
    """The wanted sections with their names, as they get done. Only files that they look at are made."""
    budgets = sorted({b for name in wanted for b in FILES.get(name, ())})
    files = encode_all(images, budgets, model, workers)
    tile = registry.load(model).config.tile
    sections: dict[str, Callable[[], Report]] = {
        "budgets": lambda: promises.check_budgets(images, files, model),
        "threads": lambda: promises.check_threads(images, model),
        "perturbation": lambda: promises.check_perturbation(images, model, device),
        "seams": lambda: measure_seams(images, files, tile),
        "allocation": lambda: measure_allocation(images, model, device, workers),
        "cuts": lambda: measure_cuts(images, files, workers),
        "anchor": lambda: measure_anchor(images, files, workers),
        "prefixes": lambda: promises.check_prefixes(images, files, prefixes, workers),
    }
    yield from ((name, section()) for name, section in sections.items() if name in wanted)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The options, checked."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.acceptance", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of images")
    parser.add_argument("--model", default="default", metavar="NAME", help="default: the installed default model")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N images only")
    parser.add_argument("--prefixes", type=int, default=20, metavar="N", help="per file; default: %(default)s")
    parser.add_argument("--sections", default=",".join(SHOWN), metavar="LIST", help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes; default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the results as JSON")
    args = parser.parse_args(argv)
    args.sections = args.sections.split(",")
    if unknown := [name for name in args.sections if name not in SHOWN]:
        parser.error(f"unknown section {unknown[0]!r}: wanted some of {', '.join(SHOWN)}")
    if min(args.prefixes, args.jobs, 1 if args.limit is None else args.limit) < 1:
        parser.error("--prefixes, --jobs and --limit must be 1 or more")
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
    for name, section in run(images, info.name, args.prefixes, args.sections, device, Workers(args.jobs)):
        results["sections"][name] = section
        results["seconds"] = round(time.monotonic() - began, 1)
        if args.out:  # after each, for all of them take an hour
            write(args.out, json.dumps(results, indent=1) + "\n")
    print(show(results))
    return 0 if all(section.get("passed", True) for section in results["sections"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
