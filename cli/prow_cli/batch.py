"""Many files at once: which they are, where each goes, in how many processes, and what is said of them.

A `Work` turns a file into the bytes of another. It runs in worker processes; only this process writes, so that an
interrupt leaves no half of anything. rich is imported only where there is a terminal to draw on.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import io
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prow.errors import ProwError

from .output import STDOUT, check_free, remark, tell_json, write

if TYPE_CHECKING:
    from concurrent.futures import Future

Work = Callable[[str, str], tuple[bytes, list[str]]]  # (source, out) -> bytes of out, and remarks
Check = Callable[[Path], str]  # (what stands at out already) -> why it is not what was wanted, "" if it is
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Task:
    """A file to read, and one to write."""

    source: Path
    out: Path


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a task: bytes to write and the seconds that they took, or an error.

    With neither, its file is there already. `size` is that of what was written, None if nothing was.
    """

    data: bytes | None = None
    size: int | None = None
    seconds: float = 0.0
    remarks: tuple[str, ...] = ()
    error: str = ""


inputs_argument = click.argument("inputs", metavar="IN...", nargs=-1)
out_argument = click.argument("out", metavar="OUT", required=False)


def options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that only many files need, as the keywords `recursive`, `jobs` and `report`."""
    for option in (
        click.option("--report", metavar="CSV", help="Write path, bytes, seconds and error of each file there."),
        click.option("--jobs", type=click.IntRange(min=1), default=1, metavar="N", help="Files at once."),
        click.option("--recursive", is_flag=True, help="Also what is in folders of the folder IN."),
    ):
        command = option(command)
    return command


def check_arguments(inputs: tuple[str, ...], out: str | None) -> str:
    """OUT. Raises click.UsageError if IN or OUT is missing."""
    if out is None or not inputs:
        raise click.UsageError(f"Missing argument '{'IN' if out is None else 'OUT'}'.")
    return out


def is_batch(inputs: tuple[str, ...], out: str, *, recursive: bool, report: str | None, **_: Any) -> bool:
    """Whether OUT is a folder of many files. Raises click.UsageError for options that say so if it is not."""
    many = len(inputs) != 1 or Path(inputs[0]).is_dir() or out.endswith(("/", os.sep))
    if not many and (recursive or report):
        option = "--recursive" if recursive else "--report"
        raise click.UsageError(f"{option} came with one file, a folder or several files were wanted")
    return many


def tasks_of(
    inputs: tuple[str, ...], out: str, suffix: str, takes: frozenset[str], *, recursive: bool, **_: Any
) -> list[Task]:
    """Each file with its place below the folder `out`, where its suffix is `suffix`; of folders those files whose
    suffix is in `takes`, at the same place as in there.

    Raises click.ClickException for an empty folder, two files with one place, a file that is its own place, or an `out`
    that can be no folder.
    """
    if STDOUT in (*inputs, out):
        raise click.UsageError("standard input and output take one file, and many came")
    if Path(out).exists() and not Path(out).is_dir():
        raise click.ClickException(f"{out} is a file, a folder was wanted")
    places: dict[Path, Path] = {}
    for name in inputs:
        top = Path(name)
        inside = _inside(top, takes, recursive) if top.is_dir() else [Path(top.name)]
        if not inside:
            hint = "" if recursive else " (--recursive looks into its folders)"
            raise click.ClickException(f"{name}: no file that could be taken is in there{hint}")
        for path in inside:
            source = top / path if top.is_dir() else top
            place = Path(out) / path.with_suffix(suffix)
            if place.resolve() == source.resolve():
                raise click.ClickException(f"{source} would be written over itself: wanted another folder")
            if places.setdefault(place, source) != source:
                raise click.ClickException(
                    f"{places[place]} and {source} would both become {place}: wanted other names"
                )
    return [Task(source, place) for place, source in places.items()]


def _inside(top: Path, takes: frozenset[str], recursive: bool) -> list[Path]:
    """Files in a folder that have one of the suffixes, as paths from there; hidden ones are left out."""
    paths = []
    for folder, folders, files in os.walk(top):
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if recursive else []
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in takes:
                paths.append((Path(folder) / name).relative_to(top))
    return paths


def run(
    tasks: list[Task],
    work: Work,
    check: Check,
    *,
    force: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    jobs: int,
    report: str | None,
    **_: Any,
) -> None:
    """Do all tasks but those that are done already. Leaves with exit code 1 if one failed, after all others."""
    if report:
        check_free(report, force=True)
    start, done = time.perf_counter(), list[tuple[Task, Outcome]]()
    with (
        _shown(tasks, quiet) as (say, advance),
        contextlib.closing(_outcomes(tasks, work, functools.partial(_standing, check, force), jobs)) as outcomes,
    ):
        for task, outcome in outcomes:
            outcome = _written(task, outcome, force)
            for line in _lines(task, outcome, quiet, verbose):
                say(line)
            done.append((task, dataclasses.replace(outcome, data=None)))
            advance(task)
    if report:
        write(report, _table(done), force=True)
    failed = sum(bool(outcome.error) for _, outcome in done)
    written = [outcome.size for _, outcome in done if outcome.size is not None]
    skipped, errors = len(tasks) - len(written) - failed, {str(t.source): o.error for t, o in done if o.error}
    tell_json(as_json, written=len(written), bytes=sum(written), skipped=skipped, errors=errors)
    if not quiet:
        said = [f"{len(written)} of {len(tasks)} files written, {sum(written):,} bytes"]
        said += [f"{skipped} there already (--force does them again)"] if skipped else []
        said += [f"{failed} failed"] if failed else []
        remark(f"{'; '.join(said)}; {time.perf_counter() - start:.1f} s")
    if failed:
        sys.exit(1)


def _lines(task: Task, outcome: Outcome, quiet: bool, verbose: bool) -> list[str]:
    """What is said of a task."""
    if outcome.error:
        named = str(task.source) in outcome.error
        return [outcome.error if named else f"{task.source}: {outcome.error}"]
    lines = [] if quiet else list(outcome.remarks)
    if verbose and outcome.size is not None:
        lines.append(f"{task.out}: {outcome.size:,} bytes, {outcome.seconds:.1f} s")
    return lines


def _table(done: list[tuple[Task, Outcome]]) -> bytes:
    """The report as CSV, by path; of what was there already the bytes alone."""
    rows = []
    for task, outcome in sorted(done, key=lambda pair: pair[0].source):
        seconds = f"{outcome.seconds:.3f}"
        if outcome.error:
            rows.append((task.source, "", seconds, outcome.error))
        elif outcome.size is None:
            rows.append((task.source, _size(task.out), "", ""))
        else:
            rows.append((task.source, outcome.size, seconds, ""))
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("path", "bytes", "seconds", "error"), *rows])
    return table.getvalue().encode("utf-8", "surrogateescape")


def _standing(check: Check, force: bool, task: Task) -> Outcome | None:
    """The outcome of a task whose place is taken already; None if it is to be done."""
    if force or not task.out.exists():
        return None
    if task.out.is_dir():
        return Outcome(error=f"{task.out} is a folder, a file name was wanted")
    try:
        why_not = check(task.out)
    except OSError as error:
        why_not = f"cannot be read ({error.strerror or error})"
    return Outcome(error=f"{task.out} exists already and {why_not}: kept (--force replaces it)" if why_not else "")


def _written(task: Task, outcome: Outcome, force: bool) -> Outcome:
    """The outcome once its bytes are in their place."""
    if outcome.data is None:
        return outcome
    try:
        task.out.parent.mkdir(parents=True, exist_ok=True)
        write(str(task.out), outcome.data, force=force)
    except (OSError, click.ClickException) as error:
        return Outcome(seconds=outcome.seconds, error=_words(error))
    return dataclasses.replace(outcome, size=len(outcome.data))


def _words(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, (ProwError, click.ClickException)):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    return " ".join(text.split())


# -- processes ----------------------------------------------------------------------------------------------------


def _attempt(work: Work, task: Task) -> Outcome:
    """Do a task, whatever happens in it."""
    start = time.perf_counter()
    try:
        data, remarks = work(str(task.source), str(task.out))
    except Exception as error:  # a broken picture must not stop the others
        return Outcome(seconds=time.perf_counter() - start, error=_words(error))
    return Outcome(data, seconds=time.perf_counter() - start, remarks=tuple(remarks))


def _outcomes(
    tasks: list[Task], work: Work, standing: Callable[[Task], Outcome | None], jobs: int
) -> Generator[tuple[Task, Outcome], None, None]:
    """Each task with its outcome, as they get done: `jobs` at once, those that stand already first."""
    waiting: deque[Task] = deque()
    for task in tasks:
        outcome = standing(task)
        if outcome is None:
            waiting.append(task)
        else:
            yield task, outcome
    jobs = min(jobs, len(waiting))
    if jobs <= 1:
        yield from ((task, _attempt(work, task)) for task in waiting)
        return
    from concurrent.futures import FIRST_COMPLETED, wait

    from . import workers

    with workers.pool(jobs) as submit:
        running: dict[Future[Outcome], Task] = {}
        while running or waiting:
            while waiting and len(running) < jobs:
                task = waiting.popleft()
                running[submit(_attempt, work, task)] = task
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), _outcome(future)


def _outcome(future: Future[Outcome]) -> Outcome:
    from .workers import Died

    try:
        return future.result()
    except Died:
        return Outcome(error="its process ended without an answer (is there too little memory?)")


# -- what is seen -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _shown(tasks: list[Task], quiet: bool) -> Iterator[tuple[Say, Callable[[Task], None]]]:
    """How to say a line, and how to tell that a task is done: a bar if stderr is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield remark, lambda task: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    count = TextColumn("{task.fields[done]}/{task.fields[count]} files")
    columns = (count, BarColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    sizes = {task: _size(task.source) for task in tasks}
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=sum(sizes.values()), done=0, count=len(tasks))
        done = 0

        def say(line: str) -> None:
            progress.console.print(f"prow: {line}", markup=False, highlight=False, soft_wrap=True)

        def advance(task: Task) -> None:
            nonlocal done
            done += 1
            progress.update(bar, advance=sizes[task], done=done)

        yield say, advance


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
