"""`prow encode`: a picture becomes a prow file."""

from __future__ import annotations

import functools
import math
import time
from pathlib import Path
from typing import Any

import click

import prow
from prow.errors import FormatError
from prow.format import container
from prow.options import CHECKS, DEFAULT_EFFORT, DEFAULT_FOCUS_WEIGHT

from .. import batch
from ..input import name_of, picture
from ..output import (
    STDOUT,
    check_free,
    check_json,
    force_option,
    json_option,
    quiet_option,
    remark,
    tell,
    tell_json,
    verbose_option,
    warnings_into,
    write,
)
from ..sizes import FITS, Size, max_pixels_option

SIZES = ("bytes", "bpp", "quality", "psnr", "ms_ssim")  # of which one is wanted
FULL_SHARE = 0.97  # an encoded file below this share of its budget is worth a remark

# Those files of a folder that are taken; a file that is named is taken whatever its suffix.
PICTURES = frozenset({".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png"})
PICTURES |= {".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"}


def _finite(_ctx: click.Context, _param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number")
    return value


class Box(click.ParamType):
    """Four whole numbers with commas between them."""

    name = "X,Y,W,H"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            x, y, width, height = map(int, value.split(","))
        except ValueError:
            self.fail(f"{value!r} came, wanted x,y,width,height in px", param, ctx)
        return x, y, width, height


@click.command()
@batch.inputs_argument
@batch.out_argument
@click.option("--bytes", type=Size(), metavar="N", help="Size of the whole file at most: 700, 2k, 1.5k, 2KiB.")
@click.option("--fit", type=click.Choice(list(FITS)), help="As --bytes: what one message of this kind holds.")
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
@max_pixels_option
@click.option("--keep-metadata", is_flag=True, help="Keep EXIF, XMP and ICC profile, in bytes that no size counts.")
@click.option(
    "--focus",
    type=Box(),
    multiple=True,
    help="A part that gets a larger share of the file, such as a face; repeatable.",
)
@click.option(
    "--focus-weight",
    type=click.FloatRange(min=1),
    callback=_finite,
    default=DEFAULT_FOCUS_WEIGHT,
    show_default=True,
    help="How many times dearer a bit is elsewhere.",
)
@click.option(
    "--check", type=click.Choice(CHECKS), default=CHECKS[0], help="crc32: for archives, of each KiB, in such bytes too."
)
@batch.options
@force_option
@quiet_option
@verbose_option
@json_option
def encode(
    inputs: tuple[str, ...],
    out: str | None,
    fit: str | None,
    force: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    recursive: bool,
    jobs: int,
    report: str | None,
    **options: Any,
) -> None:
    """Turn the picture IN into the prow file OUT.

    One of --bytes, --fit, --bpp, --quality, --psnr and --ms-ssim says how large it gets.

    If IN is a folder, or there are several, or OUT ends in /, then OUT is a folder of files named .prow. What is there
    already and whole is not made again. A picture that cannot be read stops no other one; the exit code is 1 then.
    """
    out = batch.check_arguments(inputs, out)
    check_json(out, as_json)
    if sum(option is not None for option in (fit, *(options[name] for name in SIZES))) != 1:
        hint = " (--fit is a --bytes)" if fit else ""
        raise click.UsageError(f"exactly one of --bytes, --bpp, --quality, --psnr and --ms-ssim is wanted{hint}")
    options["bytes"] = FITS[fit] if fit else options["bytes"]
    work = functools.partial(_encoded, options=options)
    many: dict[str, Any] = {"recursive": recursive, "jobs": jobs, "report": report}
    if batch.is_batch(inputs, out, **many):
        tasks = batch.tasks_of(inputs, out, ".prow", PICTURES, **many)
        check = functools.partial(_why_not, size=options["bytes"], model=options["model"], profile=options["profile"])
        batch.run(tasks, work, check, force=force, quiet=quiet, verbose=verbose, as_json=as_json, **many)
        return
    check_free(out, force=force)
    start = time.perf_counter()
    data, remarks = work(inputs[0], out)
    write(out, data, force=force)
    header, _, _ = container.parse(data)
    text = f"{len(data):,} bytes, {8 * len(data) / (header.width * header.height):.4f} bits per pixel"
    if verbose:
        text += (
            f"; {header.width:,} x {header.height:,} px, model {header.model_id}, {time.perf_counter() - start:.1f} s"
        )
    tell(out, text, quiet=quiet, verbose=verbose)
    size = {"width": header.width, "height": header.height}
    tell_json(as_json, out=out, bytes=len(data), **size, seconds=round(time.perf_counter() - start, 3), remarks=remarks)
    for line in [] if quiet else remarks:
        remark(line)


def _encoded(source: str, out: str, *, options: dict[str, Any]) -> tuple[bytes, list[str]]:
    """The file of the picture `source`, and remarks on it."""
    image, lost = picture(source)
    remarks = [f"{name_of(source)}: {one}" for one in lost]
    with warnings_into(remarks):
        data = prow.encode(image, **options)
    header, _, _ = container.parse(data)
    size, bpp = options["bytes"], options["bpp"]
    asked = size if size is not None else int((bpp or 0) * header.width * header.height / 8)
    made = len(data) if header.file_bytes is None else header.file_bytes  # without extras
    if made < FULL_SHARE * asked:
        name = "the file" if out == STDOUT else out
        remarks.append(f"{name} has {made:,} of the {asked:,} bytes asked for: the model has nothing left to say")
    return data, remarks


def _why_not(path: Path, *, size: int | None, model: str, profile: str) -> str:
    """Why the file there is not one that `encode` would make; "" if it may be."""
    from prow.registry import load

    data = path.read_bytes()
    try:
        header, _, state = container.parse(data)
    except FormatError:
        return "is no prow file"
    if header.profile != profile:
        return f"is no prow file of the {profile} profile"
    if header.model_id != load(model).config.model_id:
        return f"is of another model than {model} (id {header.model_id})"
    if state != "whole":
        return f"is {state}"
    made = len(data) if header.file_bytes is None else header.file_bytes
    return f"has {made:,} bytes, {size:,} are wanted" if size is not None and made > size else ""
