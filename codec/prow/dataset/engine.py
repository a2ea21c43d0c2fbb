"""Shards over processes and machines, by Daft: each shard is a row of a plan, and a worker makes it.

Daft's own writers name their files when a whole query is through, and do not say which rows a file holds. So the
workers write the shards themselves, and tell only that one is done.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("DO_NOT_TRACK", "true")  # Daft and Ray would tell their makers of each run
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")

import daft  # noqa: E402 - behind what it reads when it is imported

from ..errors import InputError  # noqa: E402
from .manifest import shard_name  # noqa: E402
from .shard import Task, write  # noqa: E402
from .source import Part, Source  # noqa: E402


class Worker:
    """Makes shards, one after another, in a process of its own; networks stay loaded."""

    def __init__(self, task: Task, source: Source, dst: Path, batch: int, device: str | None) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # there is a worker for each core
        self.task, self.source, self.dst, self.batch, self.device = task, source, dst, batch, device

    @daft.method.batch(return_dtype=daft.DataType.string(), batch_size=1)
    def make(self, numbers: daft.Series, parts: daft.Series) -> list[str]:
        """Why a shard was not made, or nothing, for each number and its part."""
        return [self._make_one(*pair) for pair in zip(numbers.to_pylist(), parts.to_pylist(), strict=True)]

    def _make_one(self, number: int, part: str) -> str:
        path = self.dst / shard_name(number)
        if path.exists():  # a task that is tried again, since its worker died
            return ""
        try:
            write(self.task, self.source, Part(**json.loads(part)), path, self.batch, self.device)
        except Exception as error:  # one shard must not stop the others
            return f"{type(error).__name__}: {error}"
        return ""


def run(
    task: Task,
    source: Source,
    parts: dict[int, Part],
    dst: Path,
    *,
    runner: str,
    concurrency: int | None,
    batch: int,
    device: str | None,
) -> dict[int, str]:
    """Make shards, given what is in each by its number; -> those that were not made, and why.

    Raises:
        Exception: of Daft, if a worker died and nobody could take over.
    """
    on_gpu = device is not None and device.startswith("cuda")
    if runner == "ray":
        import ray  # pyright: ignore[reportMissingImports] - an extra

        _set_runner("ray")
        workers = concurrency or max(1, int(ray.cluster_resources().get("GPU" if on_gpu else "CPU", 1)))
    else:
        _set_runner("native")
        workers = concurrency or (1 if on_gpu else len(os.sched_getaffinity(0)))
    workers, gpus = min(workers, len(parts)), int(on_gpu and runner == "ray")
    spread = daft.cls(Worker, use_process=True, max_concurrency=workers, cpus=1, gpus=gpus)
    worker: Any = spread(task, source, dst, batch, device)
    lines = [json.dumps(dataclasses.asdict(part)) for part in parts.values()]
    plan = daft.from_pydict({"number": list(parts), "part": lines})
    if runner == "ray":
        plan = plan.into_partitions(min(len(parts), 8 * workers))
    told = plan.select(plan["number"], worker.make(plan["number"], plan["part"]).alias("why")).to_pydict()
    return {number: why for number, why in zip(told["number"], told["why"], strict=True) if why}


def _set_runner(name: str) -> None:
    """Daft takes one runner a process. Raises InputError if it has the other one."""
    try:
        daft.set_runner_ray() if name == "ray" else daft.set_runner_native()
    except Exception:  # of Daft, which has no class for it: it is set already
        if (there := daft.get_or_infer_runner_type()) != name:
            raise InputError(f"Daft's runner is {there} in this process, and {name} came: start another one") from None
