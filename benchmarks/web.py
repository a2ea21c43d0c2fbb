"""The decoder for browsers: what a page loads and how long it decodes, in Chromium without a window.

    python -m benchmarks.web --json benchmarks/results/web.json    # after `make web`

The pictures are of the photo in scikit-image's `data.coffee`: 768 x 512 px in 1,000 bytes, and 64 x 64 px in a bare
placeholder of 48 bytes, beside ThumbHash and BlurHash of the same 64 x 64 px, decoded by their authors' packages in the
same page. Times are of one thread, of decodes one after the other when all is warm. The machine should be free.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage import data as photos

import prow
from benchmarks.common.browser import CHROMIUM, seen_in_chromium
from benchmarks.common.machine import checkout, cores, cpu_model
from benchmarks.common.options import check_counts, parser_of
from benchmarks.common.output import check_place, write

PACKAGE = Path(__file__).parents[1] / "codec" / "prow_js"
RUNTIME = PACKAGE / "node_modules" / "onnxruntime-web" / "dist"
SIZE, BUDGET = (768, 512), 1000
SMALL, PLACEHOLDER = (64, 64), 48
COMPONENTS = 4, 4  # of BlurHash
WARM = 5000  # ms of each job before it is timed: browsers compile WebAssembly well only after a while
FILES = {
    "/prow-decode.js": PACKAGE / "dist" / "prow-decode.js",
    "/prow-small.prowmodel": PACKAGE / "dist" / "prow-small.prowmodel",
    "/ort.wasm.bundle.min.mjs": RUNTIME / "ort.wasm.bundle.min.mjs",
    "/ort-wasm-simd-threaded.wasm": RUNTIME / "ort-wasm-simd-threaded.wasm",
    "/thumbhash.mjs": PACKAGE / "node_modules" / "thumbhash" / "thumbhash.js",
    "/blurhash.mjs": PACKAGE / "node_modules" / "blurhash" / "dist" / "esm" / "index.js",
}
PAGE = """<!doctype html><meta charset="utf-8">
<script type="importmap">{"imports": {"onnxruntime-web/wasm": "/ort.wasm.bundle.min.mjs"}}</script>
<body></body>"""
PROBE = """
(async () => {
  const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const files = Object.fromEntries(Object.entries(GIVEN.files).map(([name, text]) => [name, bytesOf(text)]));
  const timed = async (work) => {
    const start = performance.now();
    await work();
    return performance.now() - start;
  };
  const { ProwDecoder } = await import("/prow-decode.js");
  const thumbhash = await import("/thumbhash.mjs"), blurhash = await import("/blurhash.mjs");
  let decoder;
  const seen = { load: [await timed(async () => (decoder = await ProwDecoder.load("/prow-small.prowmodel")))] };
  const jobs = {
    placeholder: () => decoder.decode(files.placeholder),
    picture: () => decoder.decode(files.picture),
    "placeholder tokens": async () => decoder.tokens(files.placeholder),
    "picture tokens": async () => decoder.tokens(files.picture),
    thumbhash: async () => thumbhash.thumbHashToRGBA(files.thumbhash),
    blurhash: async () => blurhash.decode(GIVEN.blurhash, ...GIVEN.small),
  };
  for (const [name, job] of Object.entries(jobs)) {
    seen[`${name}, first`] = [await timed(job)];
    for (const end = performance.now() + GIVEN.warm; performance.now() < end; ) await job();
    seen[name] = [];
    for (let i = 0; i < GIVEN.runs; i++) seen[name].push(await timed(job));
  }
  return JSON.stringify({ seen, agent: navigator.userAgent });
})().catch((error) => JSON.stringify(String(error.stack))).then((body) => fetch("/", { method: "POST", body }));
"""


def sizes() -> dict[str, dict[str, int]]:
    """-> bytes of each file that a page loads, as it is and gzipped."""
    return {
        path.name: {"bytes": len(content := path.read_bytes()), "gzipped": len(gzip.compress(content, 9))}
        for path in list(FILES.values())[:4]
    }


def measure(runs: int) -> dict[str, Any]:
    """-> what the page saw: milliseconds of each run, by job."""
    from blurhash import encode as blurhash_of
    from thumbhash import rgba_to_thumb_hash

    photo = Image.fromarray(photos.coffee())
    small = photo.resize(SMALL, Image.Resampling.LANCZOS)
    files = {
        "picture": prow.encode(np.asarray(photo.resize(SIZE, Image.Resampling.LANCZOS)), bytes=BUDGET),
        "placeholder": prow.placeholder(small, PLACEHOLDER),
        "thumbhash": bytes(rgba_to_thumb_hash(*SMALL, list(small.convert("RGBA").tobytes()))),
    }
    blurhash = blurhash_of(np.asarray(small).tolist(), *COMPONENTS)
    given = {
        "files": {name: base64.b64encode(content).decode() for name, content in files.items()},
        "blurhash": blurhash,
        "small": SMALL,
        "runs": runs,
        "warm": WARM,
    }
    served = {place: path.read_bytes() for place, path in FILES.items()}
    with tempfile.TemporaryDirectory() as folder:
        found = seen_in_chromium(PAGE, f"const GIVEN = {json.dumps(given)};{PROBE}", Path(folder), served)
    if not isinstance(found, dict):
        raise SystemExit(f"web: the page's script failed: {found}")
    return {**found, "file_bytes": {**{k: len(v) for k, v in files.items()}, "blurhash": len(blurhash)}}


def main(argv: list[str] | None = None) -> None:
    """Run it; see the module's docstring."""
    parser = parser_of("web", __doc__)
    parser.add_argument("--runs", type=int, default=20, help="of each job; default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here too")
    args = parser.parse_args(argv)
    check_counts(parser, args, "runs")
    if args.json is not None:
        check_place(args.json, "web")
    if CHROMIUM is None:
        raise SystemExit("web: chromium is not installed, and nothing can be measured without it")
    if missing := [path for path in FILES.values() if not path.is_file()]:
        raise SystemExit(f"web: {missing[0]} is missing: run `make web`")
    loaded, found = sizes(), measure(args.runs)
    times = {
        name: {"median_ms": round(float(np.median(ms)), 2), "least_ms": round(min(ms), 2), "runs": len(ms)}
        for name, ms in found["seen"].items()
    }
    for name, size in loaded.items():
        print(f"{name:<32} {size['bytes']:>12,} bytes {size['gzipped']:>12,} gzipped")
    for name, row in times.items():
        print(f"{name:<32} {row['median_ms']:>9.2f} ms median {row['least_ms']:>9.2f} ms least of {row['runs']}")
    machine = {"cpu": cpu_model(), "cores": cores(), "load": os.getloadavg()[0]}
    machine |= {"browser": found["agent"], "commit": checkout()}
    if machine["load"] > machine["cores"]:
        print(f"the machine was busy (load {machine['load']:.0f} on {machine['cores']} cores): times are too long")
    result = {"sizes": loaded, "files": found["file_bytes"], "times": times, "machine": machine}
    if args.json is not None:
        write(args.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
