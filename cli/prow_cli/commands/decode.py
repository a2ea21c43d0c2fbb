"""`prow decode`: a prow file becomes a picture."""

from __future__ import annotations

import functools
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import prow
from prow.format import container
from prow.options import STYLES

from .. import batch
from ..input import name_of, naming, read
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
    write,
)
from ..progress_bar import progress_bar
from ..sizes import max_pixels_option

if TYPE_CHECKING:
    from PIL import Image

# PNG: a few per cent larger than by default, in less than half of the time, which was a tenth of that of decoding.
SAVE_OPTIONS = {"JPEG": {"quality": 95}, "PNG": {"compress_level": 4}, "WEBP": {"lossless": True}}

WITH_XMP = ("JPEG", "WEBP", "AVIF")
WITH_EXIF = ("PNG", "TIFF", *WITH_XMP)
OPAQUE = ("JPEG", "PPM", "EPS", "PDF")  # formats without alpha


@click.command()
@batch.inputs_argument
@batch.out_argument
@click.option(
    "--style",
    type=click.Choice(STYLES),
    default=STYLES[0],
    hidden=True,
    help="An experiment: docs/styles.md.",
)
@click.option("--format", "suffix", metavar="NAME", help="png, jpg, webp, ...; without it the suffix of OUT, or png.")
@click.option("--allow-damaged", is_flag=True, help="Decode a file whose checksum is wrong all the same.")
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@max_pixels_option
@batch.options
@force_option
@quiet_option
@verbose_option
@json_option
def decode(
    inputs: tuple[str, ...],
    out: str | None,
    suffix: str | None,
    allow_damaged: bool,
    force: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    recursive: bool,
    jobs: int,
    report: str | None,
    **options: Any,
) -> None:
    """Turn the prow file IN into the picture OUT, in the format of its suffix (- writes PNG).

    A file that was cut is decoded as far as it goes. EXIF and XMP that it keeps go into OUT if its format holds them.

    If IN is a folder, or there are several, or OUT ends in /, then OUT is a folder of pictures. What is there already
    is not made again. A file that cannot be read stops no other one; the exit code is 1 then.
    """
    out = batch.check_arguments(inputs, out)
    check_json(out, as_json)
    options["strict"] = not allow_damaged
    many: dict[str, Any] = {"recursive": recursive, "jobs": jobs, "report": report}
    if batch.is_batch(inputs, out, **many):
        suffix = f".{(suffix or 'png').lstrip('.').lower()}"
        picture_format = _format_of(suffix, f"--format {suffix[1:]}")
        tasks = batch.tasks_of(inputs, out, suffix, frozenset({".prow"}), **many)
        work = functools.partial(_decoded, picture_format=picture_format, options=options)
        check = functools.partial(_why_not, picture_format=picture_format)
        batch.run(tasks, work, check, force=force, quiet=quiet, verbose=verbose, as_json=as_json, **many)
        return
    picture_format = (
        _format_of(f".{suffix.lstrip('.').lower()}", f"--format {suffix}") if suffix else _picture_format(out)
    )
    check_free(out, force=force)
    with progress_bar(quiet=quiet):
        data, remarks = _decoded(inputs[0], out, picture_format=picture_format, options=options)
    write(out, data, force=force)
    tell(out, f"{picture_format}, {len(data):,} bytes", quiet=quiet, verbose=verbose)
    tell_json(as_json, out=out, format=picture_format, bytes=len(data), remarks=remarks)
    for line in [] if quiet else remarks:
        remark(line)


def _decoded(source: str, out: str, *, picture_format: str, options: dict[str, Any]) -> tuple[bytes, list[str]]:
    """The picture in the file `source`, as a file of that format, and remarks on it."""
    data = read(source)
    with naming(source):
        header, payload, state = container.parse(data)
        image = prow.decode(data, **options)
    name, remarks = name_of(source), []
    if image.mode.endswith("A") and picture_format in OPAQUE:
        from PIL import Image

        from prow.image import load_rgb

        image = Image.fromarray(load_rgb(image))
        remarks.append(f"{name} has alpha, which {picture_format} cannot hold: put on white")
    if state == "cut":
        present = header.header_bytes + len(payload)
        remarks.append(f"{name} is cut: {present:,} of {header.file_bytes:,} bytes; decoded what is there")
    elif state == "damaged":
        remarks.append(f"{name} is damaged: its checksum is wrong; decoded all the same")
    extras = container.parse_extras(data)
    try:
        with warnings.catch_warnings(action="ignore"):  # Pillow's, of broken EXIF
            return _picture_bytes(image, picture_format, **_metadata(extras, picture_format)), remarks
    except Exception:  # of whatever kind: extras come from outside, and Pillow looks into them
        if not extras:
            raise
        content = _picture_bytes(image, picture_format)  # raises again if it is not theirs
        return content, [*remarks, f"{name} keeps metadata that {picture_format} cannot hold: left out"]


def _metadata(extras: dict[str, bytes], picture_format: str) -> dict[str, Any]:
    """What `save` of Pillow wants for EXIF and XMP, as far as the format holds them. An ICC profile is not put back:
    pixels are sRGB."""
    from PIL.Image import Exif
    from PIL.PngImagePlugin import PngInfo

    options: dict[str, Any] = {}
    exif, xmp = extras.get("EXIF"), extras.get("XMP ")
    if exif and picture_format in WITH_EXIF:
        options["exif"] = Exif()
        options["exif"].load(exif)  # with or without the prefix that JPEG wants
    if xmp and picture_format == "PNG":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8"))
    elif xmp and picture_format in WITH_XMP:
        options["xmp"] = xmp
    return options


def _why_not(path: Path, picture_format: str) -> str:
    """Why the file there is not a picture that `decode` would make; "" if it may be."""
    from PIL import Image

    try:
        with Image.open(path, formats=[picture_format]) as image:
            image.load()
    except (OSError, SyntaxError, ValueError):
        return f"is no whole {picture_format} picture"
    return ""


def _picture_format(out: str) -> str:
    """Name of the Pillow format that the suffix of `out` asks for; PNG for stdout."""
    if out == STDOUT:
        return "PNG"
    suffix = Path(out).suffix.lower()
    return _format_of(suffix, f"{out}: suffix {suffix!r}" if suffix else f"{out}: missing suffix")


def _format_of(suffix: str, what: str) -> str:
    """Name of the Pillow format of a suffix. Raises click.UsageError, which says `what` came, if there is none."""
    from PIL import Image

    name = Image.registered_extensions().get(suffix)
    if name is None or name == "PROW" or name not in Image.SAVE:  # PROW is there if something imports prow.pillow
        raise click.UsageError(f"{what}, a picture format such as .png, .jpg or .webp was wanted")
    return name


def _picture_bytes(image: Image.Image, picture_format: str, **metadata: Any) -> bytes:
    """`image` as a file of that format."""
    buffer = io.BytesIO()
    try:
        image.save(buffer, format=picture_format, **SAVE_OPTIONS.get(picture_format, {}), **metadata)
    except (OSError, ValueError) as error:  # such as a side that the format cannot hold
        size = f"{image.width} x {image.height} px"
        raise click.ClickException(f"{picture_format} cannot hold this picture of {size}: {error}") from error
    return buffer.getvalue()
