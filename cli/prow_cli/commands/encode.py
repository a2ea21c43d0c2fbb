"""`prow encode`: a picture becomes a prow file."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import prow
from prow.options import DEFAULT_EFFORT

from ..input import STDIN, read, source_argument
from ..output import STDOUT, check_free, force_option, out_argument, remark, write
from ..sizes import Size

if TYPE_CHECKING:
    from PIL import Image

FULL_SHARE = 0.97  # an encoded file below this share of its budget is worth a remark


def _finite(_ctx: click.Context, _param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number")
    return value


@click.command()
@source_argument
@out_argument
@click.option("--bytes", "size", type=Size(), metavar="N", help="Size of the whole file at most: 700, 2k, 1.5k, 2KiB.")
@click.option("--bpp", type=click.FloatRange(min=0, min_open=True), callback=_finite, help="Bits per pixel at most.")
@click.option("--quality", type=click.FloatRange(0, 100), callback=_finite, help="0 (smallest) to 100 (best).")
@click.option("--model", default="default", metavar="NAME", help="One that `prow models` lists.")
@click.option("--effort", type=click.IntRange(1, 9), default=DEFAULT_EFFORT, help="1 (quick) to 9 (slow).")
@click.option(
    "--profile",
    type=click.Choice(["file", "bare"]),
    default="file",
    help="bare: for embedding, without magic, length and checksum.",
)
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@force_option
def encode(
    source: str, out: str, force: bool, size: int | None, bpp: float | None, quality: float | None, **options: Any
) -> None:
    """Turn the picture IN into the prow file OUT.

    One of --bytes, --bpp and --quality says how large it gets.
    """
    if sum(option is not None for option in (size, bpp, quality)) != 1:
        raise click.UsageError("exactly one of --bytes, --bpp and --quality is wanted")
    check_free(out, force=force)
    data = prow.encode(_picture(source), bytes=size, bpp=bpp, quality=quality, **options)
    write(out, data, force=force)
    if quality is None:
        facts = prow.inspect(data)
        asked = size if size is not None else int((bpp or 0) * facts.width * facts.height / 8)
        if len(data) < FULL_SHARE * asked:
            name = "the file" if out == STDOUT else out
            remark(f"{name} has {len(data):,} of the {asked:,} bytes asked for: the model has nothing left to say")


def _picture(source: str) -> Path | Image.Image:
    """What prow.encode takes: a path, or the picture that stdin holds."""
    if source != STDIN:
        return Path(source)
    from PIL import Image

    data = read(source)
    try:
        return Image.open(io.BytesIO(data))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise click.ClickException(f"standard input is no picture that can be read ({len(data):,} bytes)") from error
