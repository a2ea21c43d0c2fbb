"""Files that appear in their place whole or not at all, whatever ends the process."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .interrupts import interrupts_later

LEFT_OVER = 3600  # seconds after which a hidden file belongs to nobody: to write one takes a few


def put(path: Path, data: bytes, *, replace: bool) -> None:
    """Put `data` at `path` in one step. Where a file is replaced, its permissions stay.

    Until then the file has no name, so the system drops it if this process is killed. It has a hidden name for the
    moment in which it replaces another one, and from the start where the file system has no nameless files. One that
    is left there by a kill is removed by a later run.

    Raises:
        OSError: FileExistsError is one, without `replace`.
    """
    with interrupts_later():
        file = _nameless(path.parent)
        if file is None:
            _put_named(path, data)
            return
        with file:
            _fill(file, data, path)
            try:
                _name(file, path)
            except FileExistsError:
                if not replace:
                    raise
                with _hidden_name(path.parent) as hidden:
                    _name(file, hidden)
                    os.replace(hidden, path)


def _put_named(path: Path, data: bytes) -> None:
    with _hidden_name(path.parent) as hidden:
        with open(hidden, "xb") as file:
            _fill(file, data, path)
        os.replace(hidden, path)


def _fill(file: BinaryIO, data: bytes, path: Path) -> None:
    """All of it on the disk, with the permissions of the file that is at `path`."""
    file.write(data)
    file.flush()
    os.fsync(file.fileno())
    if path.exists():
        os.chmod(file.fileno() if os.chmod in os.supports_fd else file.name, stat.S_IMODE(path.stat().st_mode))


def _nameless(folder: Path) -> BinaryIO | None:
    """A new file without a name; None where there is no such thing (Linux has it, on most file systems)."""
    if not hasattr(os, "O_TMPFILE") or not os.path.isdir("/proc/self/fd"):
        return None
    try:
        return open(os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o666), "wb")
    except OSError:
        return None


def _name(file: BinaryIO, path: Path) -> None:
    """Give a nameless file a name that is free."""
    number = file.fileno()
    os.link(f"/proc/self/fd/{number}", path, src_dir_fd=number)  # any src_dir_fd makes it follow the link


@contextlib.contextmanager
def _hidden_name(folder: Path) -> Iterator[Path]:
    """A name that is free at the end of this, too."""
    _sweep(folder)
    hidden = folder / f".prow-{os.urandom(8).hex()}.tmp"
    try:
        yield hidden
    finally:
        hidden.unlink(missing_ok=True)


@functools.cache
def _sweep(folder: Path) -> None:
    """Remove what killed runs left in a folder."""
    for hidden in folder.glob(".prow-*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - hidden.stat().st_mtime > LEFT_OVER:
                hidden.unlink()
