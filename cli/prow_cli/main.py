"""`prow encode`, `decode`, `info`, `truncate` and `models`.

Exit code 0: done; 1: bad input, or a file that cannot be read or written; 2: wrong usage. Every failure and every
remark is one line on stderr. Nothing here imports torch: the library does, where it needs it. Pillow and numpy wait
until a command needs them, too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import click

import prow
from prow import container
from prow.config import DEFAULT_EFFORT, STYLES, Style
from prow.errors import DamagedError, FormatError, ModelError, ProwError

from . import output
from .sizes import Size

if TYPE_CHECKING:
    from PIL import Image

FULL_SHARE = 0.97  # an encoded file below this share of its budget is worth a remark
# PNG: a few per cent larger than by default, in less than half of the time, which was a tenth of that of decoding.
SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95},
    "PNG": {"compress_level": 4},
    "WEBP": {"lossless": True},
}


class OneLineErrors(click.Group):
    """A group whose failures are one line on stderr: exit code 2 for wrong usage, 1 for anything else."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run and leave the process; everything else as in click."""
        extra["standalone_mode"] = False
        extra["prog_name"] = "prow"
        try:
            sys.exit(super().main(*args, **extra))
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            sys.exit(2)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "prow"
            _fail(f"{error.format_message()} (see '{command} --help')", 2)
        except click.Abort:
            _fail("interrupted", 130)
        except click.ClickException as error:
            _fail(error.format_message(), 1)
        except ProwError as error:
            _fail(str(error), 1)
        except OSError as error:
            _drop_stdout()
            _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)


def _remark(message: str) -> None:
    """One line on stderr."""
    click.echo(f"prow: {' '.join(message.split())}", err=True)


def _fail(message: str, code: int) -> NoReturn:
    _remark(message)
    sys.exit(code)


def _drop_stdout() -> None:
    """Give up what stdout still holds, or Python tries (and fails) to write it again when it exits."""
    if sys.stdout is sys.__stdout__:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _read(source: str) -> bytes:
    return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()


def _name(source: str) -> str:
    return "standard input" if source == "-" else source


@contextlib.contextmanager
def _naming(source: str) -> Iterator[None]:
    """Put the name of the file before what the library says of its bytes."""
    try:
        yield
    except (FormatError, ModelError) as error:
        hint = " (decode --allow-damaged takes it all the same)" if isinstance(error, DamagedError) else ""
        raise click.ClickException(f"{_name(source)}: {error}{hint}") from error


def _picture(source: str) -> Path | Image.Image:
    """What prow.encode takes: a path, or the picture that stdin holds."""
    if source != "-":
        return Path(source)
    from PIL import Image

    data = _read(source)
    try:
        return Image.open(io.BytesIO(data))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise click.ClickException(f"standard input is no picture that can be read ({len(data):,} bytes)") from error


def _finite(_ctx: click.Context, _param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number")
    return value


def _picture_format(out: str) -> str:
    """Name of the Pillow format that the suffix of `out` asks for; PNG for stdout."""
    if out == output.STDOUT:
        return "PNG"
    from PIL import Image

    suffix = Path(out).suffix.lower()
    name = Image.registered_extensions().get(suffix)
    if name is None or name not in Image.SAVE:
        what = f"suffix {suffix!r}" if suffix else "missing suffix"
        raise click.UsageError(f"{out}: {what}, a picture format such as .png, .jpg or .webp was wanted")
    return name


source_argument = click.argument("source", metavar="IN")
out_argument = click.argument("out", metavar="OUT")
force_option = click.option("--force", is_flag=True, help="Replace OUT if it exists already.")


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="prow", message="%(prog)s %(version)s")
def main() -> None:
    """Images in files that can be cut anywhere: any prefix of a prow file is a prow file.

    "-" as a file name is standard input or standard output.
    """
    # numpy's matrix products are small here: to start threads for them takes longer than these save.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@main.command()
@source_argument
@out_argument
@click.option("--bytes", "size", type=Size(), metavar="N", help="Size of the whole file at most: 700, 2k, 1.5k, 2KiB.")
@click.option("--bpp", type=click.FloatRange(min=0, min_open=True), callback=_finite, help="Bits per pixel at most.")
@click.option("--quality", type=click.FloatRange(0, 100), callback=_finite, help="0 (smallest) to 100 (best).")
@click.option("--model", default="default", show_default=True, metavar="NAME", help="One that `prow models` lists.")
@click.option(
    "--effort",
    type=click.IntRange(1, 9),
    default=DEFAULT_EFFORT,
    show_default=True,
    help="1 (quick) to 9 (slow).",
)
@click.option(
    "--profile",
    type=click.Choice(["file", "bare"]),
    default="file",
    show_default=True,
    help="bare: for embedding, without magic, length and checksum.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
@force_option
def encode(
    source: str,
    out: str,
    size: int | None,
    bpp: float | None,
    quality: float | None,
    model: str,
    profile: Literal["file", "bare"],
    effort: int,
    device: str,
    force: bool,
) -> None:
    """Turn the picture IN into the prow file OUT.

    One of --bytes, --bpp and --quality says how large it gets.
    """
    if sum(option is not None for option in (size, bpp, quality)) != 1:
        raise click.UsageError("exactly one of --bytes, --bpp and --quality is wanted")
    output.check_free(out, force=force)
    data = prow.encode(
        _picture(source),
        bytes=size,
        bpp=bpp,
        quality=quality,
        model=model,
        profile=profile,
        effort=effort,
        device=device,
    )
    output.write(out, data, force=force)
    if quality is None:
        _remark_if_short(out, data, size, bpp)


def _remark_if_short(out: str, data: bytes, size: int | None, bpp: float | None) -> None:
    """Say so if the file stayed clearly below the size that was asked for."""
    facts = prow.inspect(data)
    asked = size if size is not None else int((bpp or 0) * facts.width * facts.height / 8)
    if len(data) < FULL_SHARE * asked:
        name = "the file" if out == output.STDOUT else out
        _remark(f"{name} has {len(data):,} of the {asked:,} bytes asked for: the model has nothing left to say")


@main.command()
@source_argument
@out_argument
@force_option
@click.option(
    "--style",
    type=click.Choice(STYLES),
    default=STYLES[0],
    show_default=True,
    help="faithful: nearest to the original; vivid: sharper, with detail that need not be true.",
)
@click.option("--allow-damaged", is_flag=True, help="Decode a file whose checksum is wrong all the same.")
def decode(source: str, out: str, force: bool, style: Style, allow_damaged: bool) -> None:
    """Turn the prow file IN into the picture OUT, in the format of its suffix (- writes PNG).

    A file that was cut is decoded as far as it goes.
    """
    picture_format = _picture_format(out)
    output.check_free(out, force=force)
    data = _read(source)
    with _naming(source):
        header, payload, state = container.parse(data)
        image = prow.decode(data, style=style, strict=not allow_damaged)
    output.write(out, _picture_bytes(image, picture_format), force=force)
    name = _name(source)
    if state == "cut":
        present = header.header_bytes + len(payload)
        _remark(f"{name} is cut: {present:,} of {header.file_bytes:,} bytes; decoded what is there")
    elif state == "damaged":
        _remark(f"{name} is damaged: its checksum is wrong; decoded all the same")


def _picture_bytes(image: Image.Image, picture_format: str) -> bytes:
    """`image` as a file of that format."""
    buffer = io.BytesIO()
    try:
        image.save(buffer, format=picture_format, **SAVE_OPTIONS.get(picture_format, {}))
    except (OSError, ValueError) as error:  # such as a side that the format cannot hold
        raise click.ClickException(
            f"{picture_format} cannot hold this picture of {image.width} x {image.height} px: {error}"
        ) from error
    return buffer.getvalue()


@main.command()
@click.argument("source", metavar="FILE")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def info(source: str, as_json: bool) -> None:
    """Say what the prow file FILE holds, without decoding it."""
    with _naming(source):
        facts = prow.inspect(_read(source))
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(facts)))
        return
    came = f"{facts.present_bytes:,} bytes"
    if facts.declared_bytes is not None:
        came = f"{facts.present_bytes:,} of {facts.declared_bytes:,} bytes, {facts.state}"
    click.echo(f"format    version {facts.version}, {facts.profile} profile")
    click.echo(f"model     {facts.model or 'not installed'} (id {facts.model_id})")
    click.echo(f"picture   {facts.width:,} x {facts.height:,} px")
    click.echo(f"size      {came}, {8 * facts.present_bytes / (facts.width * facts.height):.4f} bits per pixel")
    if facts.trailing_bytes:
        click.echo(f"extras    {facts.trailing_bytes:,} bytes after the stream, ignored")
    if facts.step is not None:
        click.echo(f"step      {facts.step:.4g} grey levels at full resolution")
    for number, one in enumerate(facts.tokens_per_pass or (), 1):
        click.echo(
            f"pass {number:<4} {one.kind:<7} {one.width:>6,} x {one.height:<6,} px  {one.tiles:>6,} tiles  "
            f"step {one.step:>6.2f}  {one.tokens:>8,} tokens"
        )


@main.command()
@source_argument
@out_argument
@click.option("--bytes", "size", type=Size(), metavar="N", required=True, help="Size of the new file at most.")
@force_option
def truncate(source: str, out: str, size: int, force: bool) -> None:
    """Cut the prow file IN to N bytes, with a header that is right for what is left. Needs no model."""
    output.check_free(out, force=force)
    with _naming(source):
        data = prow.truncate(_read(source), size)
    output.write(out, data, force=force)


@main.command()
@click.option("--verbose", is_flag=True, help="Also say what each backend does on this machine, and if nothing, why.")
def models(verbose: bool) -> None:
    """List the models that are installed."""
    from prow import backend
    from prow.registry import load

    for one in prow.models():
        mark = "*" if one.is_default else " "
        styles = "faithful, vivid" if one.vivid_sha256 else "faithful"
        click.echo(f"{mark} {one.id:>3}  {one.name:<12} {one.weights_bytes:>12,} bytes  {styles:<16} {one.description}")
    click.echo("* the default")
    if verbose:
        config = load("default").config
        for name, what in backend.explain(config).items():
            click.echo(f"backend {name:<8} {what}")


if __name__ == "__main__":
    main()
