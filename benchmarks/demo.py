"""A photo in 1,000 bytes, beside JPEG and WebP at that size: `python -m benchmarks.demo` (or `make demo`).

Writes photo.prow, photo.png and comparison.png under build/demo.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage import data as photos

import prow
from benchmarks.codecs import FORMATS, Classical, Encodes
from benchmarks.metrics import psnr

BUDGET_BYTES = 1000
FACTORS = (1, 2, 4, 8)  # downscale factors that JPEG and WebP may choose from
CAPTION_PX = 34
GAP_PX = 8


@dataclass(frozen=True)
class Result:
    """One codec's picture of the photo: [H, W, 3] uint8, and the bytes of its whole file."""

    name: str
    file_bytes: int
    psnr: float  # dB
    picture: np.ndarray

    @property
    def caption(self) -> str:
        return f"{self.name}: {self.file_bytes:,} bytes, {self.psnr:.2f} dB"


def with_prow(photo: np.ndarray, out: Path) -> Result:
    """The photo through a prow file of BUDGET_BYTES; leaves photo.prow and photo.png in the folder `out`."""
    start = time.perf_counter()
    data = prow.encode(photo, bytes=BUDGET_BYTES)
    middle = time.perf_counter()
    image = prow.decode(data)
    print(f"prow: encoded in {middle - start:.1f} s, decoded in {time.perf_counter() - middle:.1f} s")
    (out / "photo.prow").write_bytes(data)
    image.save(out / "photo.png")
    picture = np.asarray(image)
    return Result("prow", len(data), psnr(photo, picture), picture)


def with_classical(photo: np.ndarray, name: str) -> Result:
    """The best that a classical format does in BUDGET_BYTES: its best downscale factor by PSNR, there its best quality.

    Raises ValueError if not even the largest factor and the lowest quality fit.
    """
    files = Classical(name, Encodes(FORMATS[name.lower()]), FACTORS).code(photo, BUDGET_BYTES)
    if not files:
        raise ValueError(f"{name} cannot hold the photo in {BUDGET_BYTES:,} bytes")
    coded = max(files, key=lambda file: psnr(photo, file.image))
    factor = coded.setting["factor"]
    label = name if factor == 1 else f"{name}, downscaled by {factor}"
    return Result(label, len(coded.data), psnr(photo, coded.image), coded.image)


def comparison(photo: np.ndarray, results: list[Result]) -> Image.Image:
    """The original and the results with their captions, two in a row."""
    height, width, _ = photo.shape
    panels = [(f"original: {width} x {height} px", photo)]
    panels += [(result.caption, result.picture) for result in results]
    step_x, step_y = width + GAP_PX, height + CAPTION_PX
    rows = -(-len(panels) // 2)
    sheet = Image.new("RGB", (2 * step_x + GAP_PX, rows * step_y + GAP_PX), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=20)
    for index, (caption, picture) in enumerate(panels):
        x, y = GAP_PX + index % 2 * step_x, index // 2 * step_y
        draw.text((x, y + CAPTION_PX // 2), caption, fill="black", font=font, anchor="lm")
        sheet.paste(Image.fromarray(picture), (x, y + CAPTION_PX))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder for the results")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    photo = photos.coffee()  # part of scikit-image, so nothing is downloaded
    results = [with_prow(photo, out), *(with_classical(photo, name) for name in ("JPEG", "WebP"))]
    comparison(photo, results).save(out / "comparison.png")

    print(f"\n{f'coffee, {photo.shape[1]} x {photo.shape[0]} px':<24} {'bytes':>6} {'PSNR':>9}")
    for result in results:
        print(f"{result.name:<24} {result.file_bytes:>6,} {result.psnr:>6.2f} dB")
    print(f"\nWritten to {out}: photo.prow, photo.png, comparison.png (look at this one)")


if __name__ == "__main__":
    main()
