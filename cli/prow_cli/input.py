"""Where commands read from: a file, or standard input."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prow.errors import DamagedError, FormatError, ModelError

if TYPE_CHECKING:
    from PIL import Image

STDIN = "-"
source_argument = click.argument("source", metavar="IN")


def read(source: str) -> bytes:
    """All bytes of `source`. Raises OSError, and click.ClickException for a standard input that gives none."""
    if source != STDIN:
        return Path(source).read_bytes()
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise click.ClickException(f"standard input is closed, or cannot be read: {error.strerror}") from error


def name_of(source: str) -> str:
    """What messages call `source`."""
    return "standard input" if source == STDIN else source


def picture(source: str) -> tuple[Path | Image.Image, list[str]]:
    """What prow.encode takes, a path or the picture that stdin holds, and what gets lost (`prow.image.remarks`)."""
    from PIL import Image

    from prow.image import remarks

    if source != STDIN:
        said: list[str] = []
        with contextlib.suppress(Exception), Image.open(source) as image:  # the library says what is wrong
            said = remarks(image)
        return Path(source), said
    data = read(source)
    try:
        image = Image.open(io.BytesIO(data))
        return image, remarks(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise click.ClickException(f"standard input is no picture that can be read ({len(data):,} bytes)") from error


@contextlib.contextmanager
def naming(source: str) -> Iterator[None]:
    """Put the name of the file before what the library says of its bytes."""
    try:
        yield
    except (FormatError, ModelError) as error:
        hint = " (decode --allow-damaged takes it all the same)" if isinstance(error, DamagedError) else ""
        raise click.ClickException(f"{name_of(source)}: {error}{hint}") from error
