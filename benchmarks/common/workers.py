"""Work that is spread over processes of one thread each."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Records = list[dict[str, Any]]


@contextmanager
def pool(jobs: int) -> Iterator[concurrent.futures.Executor | None]:
    """So many processes; None for one job, which needs none but this one."""
    if jobs == 1:
        yield None
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the workers, which start anew
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as executor:
        yield executor


def results_of(function: Callable[..., Records], units: list[tuple], jobs: int) -> Iterator[Records]:
    """-> the records that a function makes of each unit, as they get done."""
    with pool(jobs) as executor:
        if executor is None:
            yield from (function(*unit) for unit in units)
            return
        for future in concurrent.futures.as_completed([executor.submit(function, *unit) for unit in units]):
            yield future.result()


def shown(results: Iterator[Records], total: int) -> Iterator[Records]:
    """-> the same results; shows a bar if stderr is a terminal, else a line per unit."""
    if total and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        yield from track(results, "measuring", total, console=Console(stderr=True))
        return
    for done, records in enumerate(results, start=1):
        yield records
        print(f"{done}/{total} {records[0]['codec']} {records[0]['image']}", file=sys.stderr, flush=True)
