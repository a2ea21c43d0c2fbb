"""Photos in a few hundred bytes, codec beside codec: `python -m benchmarks.strip`, the pictures in the README.

The photos are those that ship in scikit-image, shrunk to a height of 256 px, and a classical codec has the downscale
factor with the best PSNR, as everywhere in these benchmarks. What is above each picture is what it took.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage import data as photos

from benchmarks.gallery import GalleryError, find_codecs
from benchmarks.metrics import psnr
from benchmarks.output import check_place
from benchmarks.rd import Scores, best_file
from benchmarks.tables import label

PHOTOS = ("coffee", "chelsea")
CODECS = ("jpeg-scaled", "webp-scaled", "avif-scaled", "prow", "prow-vivid")
BUDGET = 500  # bytes
HEIGHT, CAPTION, GAP = 256, 44, 6  # px


def panels(photo: np.ndarray, codecs: list, budget: int) -> list[tuple[str, np.ndarray | None]]:
    """-> captions and pictures [H, W, 3] uint8: the original, and what each codec makes of it."""
    found: list[tuple[str, np.ndarray | None]] = [("original\n", photo)]
    for codec in codecs:
        files = codec.code(photo, budget)
        if not files:
            found.append((f"{label(codec.name)}\nnot possible", None))
            continue
        best, _ = best_file(files, "psnr", Scores(photo))
        name = label(codec.name.removesuffix("-scaled"))
        factor = best.setting.get("factor", 1)
        shrunk = "" if factor == 1 else f", downscaled by {factor}"
        found.append((f"{name}{shrunk}\n{len(best.data)} bytes, {psnr(photo, best.image):.1f} dB", best.image))
    return found


def sheet(rows: list[list[tuple[str, np.ndarray | None]]]) -> Image.Image:
    """-> all panels on white, a row per photo."""
    widths = [row[0][1].shape[1] for row in rows if row[0][1] is not None]
    columns = max(map(len, rows))
    found = Image.new("RGB", (columns * (max(widths) + GAP) + GAP, len(rows) * (HEIGHT + CAPTION + GAP)), "white")
    draw, font = ImageDraw.Draw(found), ImageFont.load_default(size=15)
    for r, (row, width) in enumerate(zip(rows, widths, strict=True)):
        for c, (caption, picture) in enumerate(row):
            x, y = GAP + c * (max(widths) + GAP), r * (HEIGHT + CAPTION + GAP)
            draw.multiline_text((x, y + 4), caption, fill="black", font=font)
            if picture is not None:
                found.paste(Image.fromarray(picture), (x + (max(widths) - width) // 2, y + CAPTION))
    return found


def main(argv: list[str] | None = None) -> None:
    """Run it; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strip", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--bytes", type=int, default=BUDGET, metavar="N", help="default: %(default)s")
    parser.add_argument("--codecs", default=",".join(CODECS), help="default: %(default)s")
    parser.add_argument("--photos", default=",".join(PHOTOS), help="names in skimage.data; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("build/strip.png"), help="default: %(default)s")
    args = parser.parse_args(argv)
    if args.bytes < 1:
        parser.error(f"--bytes is {args.bytes}: must be 1 or more")
    check_place(args.out, "strip")
    try:
        codecs = find_codecs(args.codecs.split(","))
    except GalleryError as error:
        raise SystemExit(f"strip: {error}") from None
    rows = []
    for name in args.photos.split(","):
        if name not in photos.__all__:
            raise SystemExit(f"strip: no photo {name!r} in skimage.data")
        photo = Image.fromarray(getattr(photos, name)()).convert("RGB")
        photo = photo.resize((round(photo.width * HEIGHT / photo.height), HEIGHT), Image.Resampling.LANCZOS)
        rows.append(panels(np.asarray(photo), codecs, args.bytes))
    sheet(rows).save(args.out, optimize=True)
    print(args.out)


if __name__ == "__main__":
    main()
