"""Previews of 64 x 64 px at 32 to 256 bytes: `python -m benchmarks.thumbs --data DIR`.

prow in its bare profile, WebP, AVIF and JPEG with their best downscale, ThumbHash and BlurHash. The pictures are
those of the last mosaic in the folder (that is the one which training leaves out) or, if there is none, all
pictures in the folder, their middle cut out and shrunk. They go to OUT/thumbs, and `benchmarks.rd` does the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps

from benchmarks import rd
from benchmarks.common.corpus import find_pictures
from benchmarks.common.options import check_counts, parser_of
from prow.training.data import THUMB, list_sources

CODECS = ("prow-bare", "jpeg", "webp", "avif", "thumbhash", "blurhash")
BUDGETS = (32, 48, 64, 96, 128, 192, 256)


def thumbs(folder: Path) -> Iterator[Image.Image]:
    """-> pictures of 64 x 64 px: row by row those of the last mosaic, or else the middles of a folder's pictures."""
    if mosaics := list_sources(folder)[1]:
        image = mosaics[-1].open()
        for y in range(0, image.height - THUMB + 1, THUMB):
            for x in range(0, image.width - THUMB + 1, THUMB):
                yield image.crop((x, y, x + THUMB, y + THUMB))
        return
    for picture in find_pictures(folder):
        with Image.open(picture.path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        yield ImageOps.fit(upright, (THUMB, THUMB), Image.Resampling.LANCZOS)


def write_thumbs(folder: Path, out: Path, count: int) -> Path:
    """Write the first `count` thumbs as PNG; -> the folder they are in."""
    target = out / "thumbs"
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("thumb-*.png"):
        old.unlink()
    for i, (thumb, _) in enumerate(zip(thumbs(folder), range(count), strict=False)):
        thumb.save(target / f"thumb-{i:03}.png")
    return target


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark; see the module's docstring."""
    parser = parser_of("thumbs", __doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of mosaics or pictures")
    parser.add_argument("--count", type=int, default=256, metavar="N", help="pictures; default: %(default)s")
    parser.add_argument("--codecs", default=",".join(CODECS), help="default: %(default)s")
    parser.add_argument("--metrics", default="psnr", help="default: %(default)s")
    parser.add_argument("--budgets", default=",".join(map(str, BUDGETS)), help="bytes; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("build/thumbs"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes; default: %(default)s")
    args = parser.parse_args(argv)
    check_counts(parser, args, "count")
    rest = [f"--{name}={getattr(args, name)}" for name in ("codecs", "metrics", "budgets", "out", "jobs")]
    rd.main([f"--data={write_thumbs(args.data, args.out, args.count)}", *rest])


if __name__ == "__main__":
    main()
