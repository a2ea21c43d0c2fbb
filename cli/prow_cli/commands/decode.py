"""`prow decode`: a prow file becomes a picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

import prow
from prow.format import container
from prow.options import STYLES, Style

from ..input import name_of, naming, read, source_argument
from ..output import STDOUT, check_free, force_option, out_argument, remark, write

if TYPE_CHECKING:
    from PIL import Image

# PNG: a few per cent larger than by default, in less than half of the time, which was a tenth of that of decoding.
SAVE_OPTIONS = {"JPEG": {"quality": 95}, "PNG": {"compress_level": 4}, "WEBP": {"lossless": True}}


@click.command()
@source_argument
@out_argument
@force_option
@click.option(
    "--style",
    type=click.Choice(STYLES),
    default=STYLES[0],
    help="faithful: nearest to the original; vivid: sharper, with detail that need not be true.",
)
@click.option("--allow-damaged", is_flag=True, help="Decode a file whose checksum is wrong all the same.")
def decode(source: str, out: str, force: bool, style: Style, allow_damaged: bool) -> None:
    """Turn the prow file IN into the picture OUT, in the format of its suffix (- writes PNG).

    A file that was cut is decoded as far as it goes.
    """
    picture_format = _picture_format(out)
    check_free(out, force=force)
    data = read(source)
    with naming(source):
        header, payload, state = container.parse(data)
        image = prow.decode(data, style=style, strict=not allow_damaged)
    write(out, _picture_bytes(image, picture_format), force=force)
    name = name_of(source)
    if state == "cut":
        present = header.header_bytes + len(payload)
        remark(f"{name} is cut: {present:,} of {header.file_bytes:,} bytes; decoded what is there")
    elif state == "damaged":
        remark(f"{name} is damaged: its checksum is wrong; decoded all the same")


def _picture_format(out: str) -> str:
    """Name of the Pillow format that the suffix of `out` asks for; PNG for stdout."""
    if out == STDOUT:
        return "PNG"
    from PIL import Image

    suffix = Path(out).suffix.lower()
    name = Image.registered_extensions().get(suffix)
    if name is None or name == "PROW" or name not in Image.SAVE:  # PROW is there if something imports prow.pillow
        what = f"suffix {suffix!r}" if suffix else "missing suffix"
        raise click.UsageError(f"{out}: {what}, a picture format such as .png, .jpg or .webp was wanted")
    return name


def _picture_bytes(image: Image.Image, picture_format: str) -> bytes:
    """`image` as a file of that format."""
    buffer = io.BytesIO()
    try:
        image.save(buffer, format=picture_format, **SAVE_OPTIONS.get(picture_format, {}))
    except (OSError, ValueError) as error:  # such as a side that the format cannot hold
        size = f"{image.width} x {image.height} px"
        raise click.ClickException(f"{picture_format} cannot hold this picture of {size}: {error}") from error
    return buffer.getvalue()
