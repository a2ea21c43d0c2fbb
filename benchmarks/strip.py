"""Photos in a few hundred bytes, codec beside codec: `python -m benchmarks.strip`, the pictures in the README.

The photos are those that ship in scikit-image, shrunk to a height of 256 px, and a classical codec has the downscale
factor with the best PSNR, as everywhere in these benchmarks. What is above each picture is what it took.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data as photos

from benchmarks.codecs.codec import Codec
from benchmarks.codecs.families import UnknownCodecError, find_codecs
from benchmarks.common.options import check_counts, parser_of
from benchmarks.common.output import check_place
from benchmarks.common.sheet import Panel, sheet
from benchmarks.common.tables import label
from benchmarks.quality.measure import best_by_psnr
from benchmarks.quality.metrics import psnr

PHOTOS = ("coffee", "chelsea")
CODECS = ("jpeg-scaled", "webp-scaled", "avif-scaled", "prow")
BUDGET = 500  # bytes
HEIGHT = 256  # px


def panels(photo: np.ndarray, codecs: list[Codec], budget: int) -> list[Panel]:
    """-> the original, and what each codec makes of it."""
    shown: list[Panel] = [("original\n", photo)]
    for codec in codecs:
        coded = best_by_psnr(codec, photo, budget)
        if coded is None:
            shown.append((f"{label(codec.name)}\nnot possible", None))
            continue
        factor = coded.setting.get("factor", 1)
        shrunk = "" if factor == 1 else f", downscaled by {factor}"
        measured = f"{len(coded.data)} bytes, {psnr(photo, coded.image):.1f} dB"
        shown.append((f"{label(codec.name.removesuffix('-scaled'))}{shrunk}\n{measured}", coded.image))
    return shown


def main(argv: list[str] | None = None) -> None:
    """Run it; see the module's docstring."""
    parser = parser_of("strip", __doc__)
    parser.add_argument("--bytes", type=int, default=BUDGET, metavar="N", help="default: %(default)s")
    parser.add_argument("--codecs", default=",".join(CODECS), help="default: %(default)s")
    parser.add_argument("--photos", default=",".join(PHOTOS), help="names in skimage.data; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("build/strip.png"), help="default: %(default)s")
    args = parser.parse_args(argv)
    check_counts(parser, args, "bytes")
    check_place(args.out, "strip")
    try:
        codecs = find_codecs(args.codecs.split(","))
    except UnknownCodecError as error:
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
