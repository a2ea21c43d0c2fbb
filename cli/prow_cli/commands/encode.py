"""`prow encode`: a picture becomes a prow file."""

from __future__ import annotations

import math
from typing import Any

import click

import prow
from prow.options import DEFAULT_EFFORT

from ..input import name_of, picture, source_argument
from ..output import STDOUT, check_free, force_option, out_argument, remark, remarking, write
from ..sizes import Size

SIZES = ("bytes", "bpp", "quality", "psnr", "ms_ssim")  # of which one is wanted
FULL_SHARE = 0.97  # an encoded file below this share of its budget is worth a remark


def _finite(_ctx: click.Context, _param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number")
    return value


@click.command()
@source_argument
@out_argument
@click.option("--bytes", type=Size(), metavar="N", help="Size of the whole file at most: 700, 2k, 1.5k, 2KiB.")
@click.option("--bpp", type=click.FloatRange(min=0, min_open=True), callback=_finite, help="Bits per pixel at most.")
@click.option("--quality", type=click.FloatRange(0, 100), callback=_finite, help="0 (smallest) to 100 (best).")
@click.option(
    "--psnr", type=click.FloatRange(min=0, min_open=True), callback=_finite, help="dB to reach, in the fewest bytes."
)
@click.option(
    "--ms-ssim", type=click.FloatRange(0, 1, min_open=True), callback=_finite, help="The same by MS-SSIM, 0 to 1."
)
@click.option("--model", default="default", metavar="NAME", help="One that `prow models` lists.")
@click.option("--effort", type=click.IntRange(1, 9), default=DEFAULT_EFFORT, help="1 (quick) to 9 (slow).")
@click.option(
    "--profile",
    type=click.Choice(["file", "bare"]),
    default="file",
    help="bare: for embedding, without magic, length and checksum.",
)
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@click.option("--keep-metadata", is_flag=True, help="Keep EXIF, XMP and ICC profile, in bytes that no size counts.")
@force_option
def encode(source: str, out: str, force: bool, **options: Any) -> None:
    """Turn the picture IN into the prow file OUT.

    One of --bytes, --bpp, --quality, --psnr and --ms-ssim says how large it gets.
    """
    if sum(options[name] is not None for name in SIZES) != 1:
        raise click.UsageError("exactly one of --bytes, --bpp, --quality, --psnr and --ms-ssim is wanted")
    check_free(out, force=force)
    with remarking():
        image, remarks = picture(source)
        data = prow.encode(image, **options)
    write(out, data, force=force)
    for one in remarks:
        remark(f"{name_of(source)}: {one}")
    facts = prow.inspect(data)
    size, bpp = options["bytes"], options["bpp"]
    asked = size if size is not None else int((bpp or 0) * facts.width * facts.height / 8)
    made = facts.present_bytes - facts.trailing_bytes
    if made < FULL_SHARE * asked:
        name = "the file" if out == STDOUT else out
        remark(f"{name} has {made:,} of the {asked:,} bytes asked for: the model has nothing left to say")
