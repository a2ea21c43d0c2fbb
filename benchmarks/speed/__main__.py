"""How long prow takes and how much memory, beside WebP and AVIF in the same run: `python -m benchmarks.speed`.

    commands   whole new processes: prow's command line against Python with Pillow, 1,000 bytes
    warm       calls in a process that has made one before, 1,000 bytes
    sizes      warm, 0.1 to 24 megapixels, 8,192 bytes
    budgets    warm, 128 to 16,384 bytes
    efforts    warm, encoding with effort 1 to 9: seconds against dB, 1,000 bytes; with --photos their means as well

The first two are measured with each of --threads, the others with the most of them. The picture has 768 x 512 px and
is made larger or smaller for `sizes`: enlarged photos are smoother than large ones. WebP (method 6) and AVIF (speed 4)
have the highest quality that fits into the budget, or their lowest if none does; the search for it is not measured:
it is one call to write a file and one to read it. Pillow cannot give WebP more than one thread.

Prints tables and what is aimed at; the exit code is 1 only if something could not be measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import prow
from benchmarks.codecs.classical import FORMATS
from benchmarks.common.corpus import find_pictures, pixels_sha256, read_original
from benchmarks.common.machine import checkout, cores, cpu_model, gpu_model, versions
from benchmarks.common.options import MOST_BYTES, check_counts, check_names, numbers, parser_of
from benchmarks.common.output import check_place, write
from benchmarks.speed import tables
from benchmarks.speed.sections import CLASSICAL, HEIGHT, SECTIONS, WIDTH, Bench
from prow import registry
from prow.backends import onnx_backend, select
from prow.format.container import MIN_BYTES

BACKENDS = ("onnx", "torch", "triton")  # the first two on the CPU, the last one on a GPU
LARGEST = 89  # megapixels; Pillow warns of larger pictures


def collect(args: argparse.Namespace, name: str, original: np.ndarray) -> dict[str, Any]:
    """-> the whole results: machine, versions, model, picture, and the rows of each section."""
    began, load = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="prow-speed-") as folder:
        bench = Bench(args, Image.fromarray(original), Path(folder))
        sections = {section: SECTIONS[section](bench) for section in args.sections}
    info = next(m for m in prow.models() if m.name == args.model)
    of_packages = versions(["pillow", "onnxruntime", *(["triton"] if "triton" in args.backends else [])])
    results = {
        "schema": 1,
        "commit": checkout(),
        "versions": of_packages | {k: v for c in CLASSICAL for k, v in FORMATS[c].versions().items()},
        "cpu": cpu_model(),
        "cores": cores(),
        "gpu": gpu_model() if "triton" in args.backends else None,
        "load_before": round(load, 2),
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith(("MALLOC_", "OMP_W", "MKL_"))},
        "model": info.name,
        "sha256": info.sha256,
        "image": {"name": name, "sha256": pixels_sha256(original), "width": WIDTH, "height": HEIGHT},
        "threads": args.threads,
        "backends": args.backends,
        "repeats": args.repeats,
        "sections": sections,
    }
    return {**results, "aims": tables.aims(results), "seconds": round(time.monotonic() - began, 1)}


def why_not(name: str, model: str) -> str:
    """-> why a backend cannot run here; empty if it can."""
    graph = onnx_backend.graph_file(registry.load(model).config, "inverse")
    if name == "onnx" and (importlib.util.find_spec("onnxruntime") is None or not graph.is_file()):
        return f"ONNX Runtime or graphs for model {model} are missing"
    if name == "triton":
        if not select.gpu_in_sight() or importlib.util.find_spec("triton") is None:
            return "there is no GPU or no triton"
        import torch

        if not torch.cuda.is_available():
            return "torch finds no GPU"
    return ""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """-> the options, checked; lists are lists, "default" and "auto" are what they stand for."""
    parser = parser_of("speed", __doc__)
    parser.add_argument("--image", type=Path, metavar="FILE", help="default: a photo that ships with scikit-image")
    parser.add_argument("--sections", default=",".join(SECTIONS), metavar="LIST", help="default: %(default)s")
    parser.add_argument(
        "--backends", default="auto", metavar="LIST", help=f"some of {', '.join(BACKENDS)}; default: all that run here"
    )
    parser.add_argument("--threads", default="1,2", metavar="LIST", help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--sizes", default="0.1,0.4,1.6,6,24", metavar="LIST", help="megapixels; default: %(default)s")
    parser.add_argument(
        "--budgets", default="128,512,1024,4096,16384", metavar="LIST", help="bytes; default: %(default)s"
    )
    parser.add_argument("--photos", type=Path, metavar="DIR", help="more pictures for efforts; default: none")
    parser.add_argument("--model", default="default", metavar="NAME", help="default: the installed default model")
    parser.add_argument(
        "--out", type=Path, default=Path("build/speed/speed.json"), metavar="FILE.json", help="default: %(default)s"
    )
    args = parser.parse_args(argv)
    try:
        args.model = registry.load(args.model).config.name
    except prow.ModelError as error:
        parser.error(str(error))
    if args.backends == "auto":
        args.backends = ",".join(name for name in BACKENDS if not why_not(name, args.model))
    check_names(parser, args, {"sections": SECTIONS, "backends": BACKENDS})
    for name in args.backends:
        if reason := why_not(name, args.model):
            parser.error(f"backend {name!r} cannot run here: {reason}")
    args.threads = numbers(parser, "threads", args.threads, int, 1, 1024)
    args.sizes = numbers(parser, "sizes", args.sizes, float, 1e-4, LARGEST)
    args.budgets = numbers(parser, "budgets", args.budgets, int, MIN_BYTES, MOST_BYTES)
    args.photos = [picture.path for picture in find_pictures(args.photos)] if args.photos else []
    check_counts(parser, args, "repeats")
    if args.out.suffix != ".json":
        parser.error(f"--out is {args.out}: wanted the name of a file that ends in .json")
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; 1 if something could not be measured, whatever the times are."""
    args = parse_args(argv)
    try:
        name, original = read_original(args.image)
    except prow.InputError as error:
        raise SystemExit(f"speed: {error}") from None
    check_place(args.out, "speed")
    results = collect(args, name, original)
    write(args.out, json.dumps(results, indent=1) + "\n")
    print(tables.show(results))
    print(f"\n{args.out}: {results['seconds']:.0f} s")
    return int(any("error" in row for rows in results["sections"].values() for row in rows))


if __name__ == "__main__":
    sys.exit(main())
