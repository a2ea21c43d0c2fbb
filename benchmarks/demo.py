"""A photo in 1,000 bytes, beside JPEG and WebP at that size: `python -m benchmarks.demo` (or `make demo`).

Writes photo.prow, photo.png and comparison.png under build/demo.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from skimage import data as photos

from benchmarks.codecs.families import find_codecs
from benchmarks.common.options import parser_of
from benchmarks.common.sheet import Panel, sheet
from benchmarks.quality.measure import best_by_psnr
from benchmarks.quality.metrics import psnr

BUDGET = 1000  # bytes
CODECS = {"prow": "prow", "jpeg-scaled": "JPEG", "webp-scaled": "WebP"}  # the latter two with their best downscale


def main(argv: list[str] | None = None) -> None:
    """Make the pictures, and print a table of what they took."""
    parser = parser_of("demo", __doc__)
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder for the results")
    out = parser.parse_args(argv).out
    out.mkdir(parents=True, exist_ok=True)

    photo = photos.coffee()  # part of scikit-image, so nothing is downloaded
    size = f"{photo.shape[1]} x {photo.shape[0]} px"
    panels: list[Panel] = [(f"original: {size}", photo)]
    lines = [f"\n{f'coffee, {size}':<24} {'bytes':>6} {'PSNR':>9}"]
    for codec in find_codecs(list(CODECS)):
        coded = best_by_psnr(codec, photo, BUDGET)
        if coded is None:
            raise SystemExit(f"demo: {codec.name} cannot hold the photo in {BUDGET:,} bytes")
        if codec.name == "prow":
            print(f"prow: encoded in {coded.encode_seconds:.1f} s, decoded in {coded.decode_seconds:.1f} s")
            (out / "photo.prow").write_bytes(coded.data)
            Image.fromarray(coded.image).save(out / "photo.png")
        factor = coded.setting.get("factor", 1)
        name = CODECS[codec.name] + ("" if factor == 1 else f", downscaled by {factor}")
        decibels = f"{psnr(photo, coded.image):.2f} dB"
        panels.append((f"{name}: {len(coded.data):,} bytes, {decibels}", coded.image))
        lines.append(f"{name:<24} {len(coded.data):>6,} {decibels:>9}")
    sheet([panels[:2], panels[2:]]).save(out / "comparison.png")
    print(*lines, f"\nWritten to {out}: photo.prow, photo.png, comparison.png (look at this one)", sep="\n")


if __name__ == "__main__":
    main()
