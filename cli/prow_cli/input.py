"""Where commands read from: a file, or standard input."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from prow.errors import DamagedError, FormatError, ModelError

STDIN = "-"
source_argument = click.argument("source", metavar="IN")


def read(source: str) -> bytes:
    """All bytes of `source`."""
    return sys.stdin.buffer.read() if source == STDIN else Path(source).read_bytes()


def name_of(source: str) -> str:
    """What messages call `source`."""
    return "standard input" if source == STDIN else source


@contextlib.contextmanager
def naming(source: str) -> Iterator[None]:
    """Put the name of the file before what the library says of its bytes."""
    try:
        yield
    except (FormatError, ModelError) as error:
        hint = " (decode --allow-damaged takes it all the same)" if isinstance(error, DamagedError) else ""
        raise click.ClickException(f"{name_of(source)}: {error}{hint}") from error
