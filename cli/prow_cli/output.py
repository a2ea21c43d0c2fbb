"""Where results go: standard output, or a file that appears whole or not at all. Remarks go to stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import click

from prow.errors import ProwWarning

from .place import put

STDOUT = "-"
out_argument = click.argument("out", metavar="OUT")
force_option = click.option("--force", is_flag=True, help="Replace OUT if it exists already.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="No remarks, errors only.")
json_option = click.option("--json", "as_json", is_flag=True, help="Say on standard output, as JSON, what was written.")
verbose_option = click.option("--verbose", "-v", is_flag=True, help="Say what was written, also where no terminal is.")


def check_json(out: str, as_json: bool) -> None:
    """Raises click.UsageError if OUT and --json both want standard output."""
    if as_json and out == STDOUT:
        raise click.UsageError("--json came with - as OUT: both want standard output")


def tell_json(as_json: bool, **facts: object) -> None:
    """One JSON object on standard output, if it is wanted."""
    if as_json:
        click.echo(json.dumps(facts))


def remark(message: str) -> None:
    """One line on stderr."""
    click.echo(f"prow: {' '.join(message.split())}", err=True)


def tell(out: str, text: str, *, quiet: bool, verbose: bool) -> None:
    """Say what was written, to people (stderr is a terminal) or with -v: scripts see errors and remarks alone."""
    if verbose or (not quiet and sys.stderr.isatty()):
        remark(f"{'standard output' if out == STDOUT else out}: {text}")


@contextlib.contextmanager
def warnings_into(remarks: list[str]) -> Iterator[None]:
    """What the library warns of becomes remarks; warnings of others stay what they are."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ProwWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, ProwWarning):
            remarks.append(str(warning.message))
        else:
            warnings.showwarning(warning.message, warning.category, warning.filename, warning.lineno)


def check_free(out: str, *, force: bool) -> None:
    """Refuse, before any work is done, a place where `write` could not put its file.

    Raises click.ClickException if `out` is a folder, lies in no folder, or is a file already (without `force`).
    """
    if out == STDOUT:
        return
    path = Path(out)
    if path.is_dir():
        raise click.ClickException(f"{out} is a folder, a file name was wanted")
    if not path.parent.is_dir():
        raise click.ClickException(f"{out}: the folder {path.parent} does not exist")
    if path.is_file() and not force:
        raise click.ClickException(f"{out} exists already: kept (--force replaces it)")


def write(out: str, data: bytes, *, force: bool) -> None:
    """Write `data` to `out`, which appears whole or not at all (`prow_cli.place.put`).

    A failure on the way leaves no file, and an old one as it was. A link stays a link: its target is replaced.
    Devices and pipes are written to as they are. Raises OSError, and click.ClickException as `check_free`.
    """
    if out == STDOUT:
        _write_stdout(data)
        return
    check_free(out, force=force)
    path = Path(out)
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
        else:
            put(Path(os.path.realpath(path)), data, replace=force)
    except OSError as error:
        raise OSError(error.errno, error.strerror, out) from error


def _write_stdout(data: bytes) -> None:
    """All of it. Raises click.ClickException if its reader does not take all."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        drop_stdout()
        raise click.ClickException("standard output: its reader went away before the last byte") from None


def drop_stdout() -> None:
    """Give up what stdout still holds, or Python tries (and fails) to write it again when it exits."""
    if sys.stdout is sys.__stdout__:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
