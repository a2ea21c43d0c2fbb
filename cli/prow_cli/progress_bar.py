"""A bar on stderr for what takes long in the library, if stderr is a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from prow.progress import told_to


@contextlib.contextmanager
def progress_bar(*, quiet: bool) -> Iterator[None]:
    """Within it, a bar shows what `prow.progress` is told, from the first time on; it goes when all is done."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress

    progress, bars = Progress(console=Console(stderr=True), transient=True), {}

    def show(what: str, done: int, count: int) -> None:
        if not bars:
            progress.start()
        if what not in bars:
            bars[what] = progress.add_task(what)
        progress.update(bars[what], completed=done, total=count)

    try:
        with told_to(show):
            yield
    finally:
        if bars:
            progress.stop()
