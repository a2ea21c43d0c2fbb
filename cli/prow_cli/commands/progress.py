"""`prow progress`: an animation of a picture that grows with its bytes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import click

import prow
from prow.errors import DamagedError
from prow.format import container

from ..input import naming, read, source_argument
from ..output import (
    check_free,
    check_json,
    force_option,
    json_option,
    quiet_option,
    tell,
    tell_json,
    verbose_option,
    write,
)

FRAMES = 10
FORMATS = {".webp": "WEBP", ".gif": "GIF", ".png": "PNG"}
_FIRST = 8  # bytes of payload in the first frame
_MILLISECONDS, _LAST = 600, 2000  # of each frame, and of the last one


@click.command()
@source_argument
@click.option("--out", "-o", required=True, metavar="OUT", help="The animation: .webp, .gif or .png.")
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@force_option
@quiet_option
@verbose_option
@json_option
def progress(source: str, out: str, device: str, force: bool, quiet: bool, verbose: bool, as_json: bool) -> None:
    """Show how the picture in the prow file IN grows with its bytes.

    OUT is an animation of 10 frames: what more and more of the first bytes decode to, each time by the same factor. How
    many bytes these are is in the animation's description (EXIF in WebP, a comment in GIF, text in PNG).
    """
    picture_format = FORMATS.get(Path(out).suffix.lower())
    if picture_format is None:
        raise click.UsageError(f"{out}: wanted a file name that ends in .webp, .gif or .png")
    check_json(out, as_json)
    check_free(out, force=force)
    data = read(source)
    with naming(source):
        sizes = prefixes(data)
        frames = prow.decode_many([data[:size] for size in sizes], device=device)
    text = f"made by prow of the first {', '.join(map(str, sizes))} bytes of a file"
    durations = [_MILLISECONDS] * (len(frames) - 1) + [_LAST]
    buffer = io.BytesIO()
    try:
        frames[0].save(
            buffer,
            picture_format,
            save_all=True,
            append_images=frames[1:],
            duration=durations,
            loop=0,
            **_described(picture_format, text),
        )
    except (OSError, ValueError) as error:  # such as a side that the format cannot hold
        size = f"{frames[0].width} x {frames[0].height} px"
        raise click.ClickException(f"{picture_format} cannot hold this picture of {size}: {error}") from error
    write(out, buffer.getvalue(), force=force)
    tell(out, text, quiet=quiet, verbose=verbose)
    tell_json(as_json, out=out, bytes=len(buffer.getvalue()), prefixes=sizes)


def prefixes(data: bytes) -> list[int]:
    """Sizes in bytes of up to 10 prefixes, each larger than the one before by the same factor; the last is all.

    Raises FormatError if `data` is no prow file, or a damaged one.
    """
    header, payload, state = container.parse(data)
    if state == "damaged":
        raise DamagedError("the CRC is wrong: the file is damaged, and so is what would be seen")
    last = header.header_bytes + len(payload)
    first = min(header.header_bytes + _FIRST, last)
    return sorted({round(first * (last / first) ** (i / (FRAMES - 1))) for i in range(FRAMES)})


def _described(picture_format: str, text: str) -> dict[str, Any]:
    """Options of Pillow's `save` that put a text into the file."""
    from PIL import ExifTags, Image, PngImagePlugin

    if picture_format == "GIF":
        return {"comment": text}
    if picture_format == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_text("Description", text)
        return {"pnginfo": info}
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = text
    return {"exif": exif.tobytes(), "quality": 90}
