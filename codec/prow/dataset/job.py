"""From a folder, Parquet files or tars to a folder of Parquet files: `prow.dataset.encode`, `decode` and `truncate`."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..arguments import whole
from ..errors import InputError, ProwError
from ..options import DEFAULT_EFFORT, Style
from . import manifest, rows
from .shard import Task
from .stats import stats

RUNNERS = ("local", "ray")
SHARD = 1000  # samples a shard
BATCH = 32  # samples that a worker reads at once


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a run did: `rows` and `errors` in the whole dataset, `shards` of it, `made` of them by this run."""

    rows: int
    errors: int
    shards: int
    made: int


@dataclasses.dataclass(frozen=True)
class _How:
    """What changes nothing of the result."""

    runner: str
    concurrency: int | None
    batch: int
    device: str | None


def encode(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    bytes: int = 1000,
    effort: int = DEFAULT_EFFORT,
    model: str = "default",
    psnr: bool = False,
    column: str | None = None,
    keep: bool = False,
    drop: Sequence[str] = (),
    shard: int = SHARD,
    batch: int = BATCH,
    runner: str = "local",
    concurrency: int | None = None,
    device: str = "auto",
) -> Summary:
    """A dataset of pictures as Parquet files with a column `prow`.

    The rows of the source with all columns but the pictures, then `input` (which one it is), `prow`, `width`, `height`,
    `bytes`, `psnr` if asked for, and `error` (null where all went well). A run that was stopped continues if it is
    started again with the same arguments.

    Args:
        src: a folder of pictures, Parquet files or WebDataset tars, or one such file.
        dst: a folder; on a cluster one that all machines see, as must be `src`.
        bytes, effort, model, device: as in `prow.encode`. psnr: measure it, too.
        column: of the pictures: bytes, paths or both; "image" in Parquet. In tars the ending of their names.
        keep: keep that column, too. drop: columns not to keep.
        shard: samples a Parquet file. batch: samples that a worker reads at once.
        runner: "local", or "ray" for the cluster of RAY_ADDRESS. concurrency: workers; a core each if None.

    Raises:
        InputError: an unusable argument, or `dst` holds something else. ProwError: shards that could not be made; what
        could be made is there.
    """
    options = {"bytes": bytes, "effort": effort, "model": model, "psnr": psnr}
    rows.encode_rows([], **options)
    task = Task("encode", _place(src), column, keep, tuple(drop), shard, options)
    return _run(task, Path(dst), _How(runner, concurrency, batch, device))


def decode(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    picture_format: str = "png",
    style: Style = "faithful",
    column: str = "prow",
    keep: bool = False,
    drop: Sequence[str] = (),
    shard: int = SHARD,
    batch: int = BATCH,
    runner: str = "local",
    concurrency: int | None = None,
    device: str = "auto",
) -> Summary:
    """A dataset of prow files as Parquet files with a column `image`; arguments and errors as in `encode`.

    Args:
        picture_format: "png", "webp" (both without loss) or "jpeg".
    """
    rows.decode_rows([], picture_format=picture_format, style=style)
    options = {"picture_format": picture_format, "style": style}
    task = Task("decode", _place(src), column, keep, tuple(drop), shard, options)
    return _run(task, Path(dst), _How(runner, concurrency, batch, device))


def truncate(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    bytes: int,
    column: str = "prow",
    drop: Sequence[str] = (),
    shard: int = SHARD,
    batch: int = 1000,
    runner: str = "local",
    concurrency: int | None = None,
) -> Summary:
    """A dataset of prow files, each cut to a size; needs no model. Arguments and errors as in `encode`."""
    task = Task("truncate", _place(src), column, False, tuple(drop), shard, {"bytes": whole("bytes", bytes, 1)})
    return _run(task, Path(dst), _How(runner, concurrency, batch, None))


def _place(src: str | os.PathLike[str]) -> str:
    return os.path.abspath(src)


def _check(task: Task, how: _How) -> None:
    if how.runner not in RUNNERS:
        raise InputError(f"runner {how.runner!r} came, wanted one of {', '.join(map(repr, RUNNERS))}")
    counts: dict[str, Any] = {"shard": task.shard, "batch": how.batch, "concurrency": how.concurrency}
    for name, count in counts.items():
        if count is not None:
            whole(name, count, 1)
    for package, extra in (("daft", "dataset"), *((("ray", "ray"),) if how.runner == "ray" else ())):
        if importlib.util.find_spec(package) is None:
            raise InputError(f"{package} is not installed: pip install 'prow[{extra}]'")


def _run(task: Task, dst: Path, how: _How) -> Summary:
    """Make all shards that are not there. A worker that dies costs a shard in the making, which is begun again."""
    _check(task, how)
    from . import engine

    source = task.open()
    parts = source.parts(task.shard)
    manifest.prepare(dst, task, parts)
    missing = at_first = _missing(dst, len(parts))
    while missing:
        failures: dict[int, str] = {}
        what = ""
        try:
            to_do = {number: parts[number] for number in missing}
            failures = engine.run(task, source.without_files(), to_do, dst.resolve(), **dataclasses.asdict(how))
        except Exception as error:  # a worker died, or the cluster
            what = f"{type(error).__name__}: {error}"
        still = _missing(dst, len(parts))
        if len(still) == len(missing):  # no use in trying again
            why = failures.get(still[0]) or what or "no reason was given"
            raise ProwError(f"{len(still):,} of {len(parts):,} shards were not made ({why}); start again to continue")
        missing = still
    for left in dst.glob(".*.tmp"):  # of workers that were killed
        left.unlink(missing_ok=True)
    total = stats(dst)
    return Summary(total.rows, total.errors, len(parts), len(at_first))


def _missing(dst: Path, count: int) -> list[int]:
    """Numbers of the shards that are not there."""
    there = {path.name for path in dst.glob("part-*.parquet")}
    return [number for number in range(count) if manifest.shard_name(number) not in there]
