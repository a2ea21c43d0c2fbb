"""Jobs in processes of their own, one at a time, and what they take: time and peak memory.

`cold` takes the time of whole processes, from start to exit: prow's command line, and for the other formats Python
with Pillow alone; all read and write PNG. `warm` takes the time of calls in a process that has made one before.
Both alternate between the jobs within a repeat, so that a machine that gets slower gets slower for all of them.
Seconds are those of the clock, and on their own those of the processor (of all cores together), which say more on a
busy machine. Memory is that of the whole process at its peak, interpreter and libraries included.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

PEAK = Path(__file__).with_name("peak.py")
PACKAGES = ("benchmarks", "prow", "prow_kernels", "prow_cli")
MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Job:
    """An operation of a codec on a file: `options` are those of the call, or with -- in front of the command.

    `backend` is the one of prow that does it, "" where it has no choice.
    """

    codec: str
    operation: str
    backend: str
    threads: int
    source: Path
    out: Path
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def as_json(self, *, keep: bool) -> str:
        """-> for child.py; what comes out of the job goes to `out` if `keep`."""
        out = str(self.out) if keep else None
        return json.dumps({**dataclasses.asdict(self), "source": str(self.source), "out": out})

    def command(self) -> list[str]:
        """-> what Python is started with to do the job once and leave."""
        if self.codec != "prow":
            return ["-m", "benchmarks.speed.child", self.as_json(keep=True)]
        files = [str(self.source)] + ([] if self.operation == "info" else [str(self.out), "--force"])
        options = [str(part) for name, value in self.options.items() for part in (f"--{name}", value)]
        return ["-c", "from prow_cli.main import main; main()", self.operation, *files, *options]

    def environment(self) -> dict[str, str]:
        """-> the variables that its process sees: threads, backend, no GPU unless the backend is one for GPUs."""
        folders = [str(Path(find_origin(name)).parents[1]) for name in PACKAGES]
        on_gpu = self.backend == "triton"
        # Refining needs gradients, which Triton does not give here: an encoder on a GPU has to be free to mix both.
        forced = "" if on_gpu and self.operation == "encode" else self.backend
        variables = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "PROW_BACKEND": forced}
        variables.pop("PYTHONDONTWRITEBYTECODE", None)  # of an installed package the code is compiled already
        variables["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, [*folders, os.environ.get("PYTHONPATH")])))
        return variables if on_gpu else {**variables, "CUDA_VISIBLE_DEVICES": ""}


def find_origin(package: str) -> str:
    """-> the file of an installed package. Raises ImportError if there is none."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ImportError(f"no package {package}: install prow with its command line (pip install -e .)")
    return spec.origin


class JobError(RuntimeError):
    """A process that failed; the message is the last line it left on stderr, or how it ended."""


class Process:
    """A process at work on a job. Leaving its `with` waits for its end."""

    def __init__(self, job: Job, command: list[str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(PEAK), sys.executable, *command],
            env=job.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        assert self._process.stdin and self._process.stdout
        self._stdin, self._stdout = self._process.stdin, self._process.stdout

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._process, self._errors:
            pass  # closes stdin, so that the process ends, and waits for it

    def result(self) -> dict[str, Any]:
        """-> the next line of child.py. Raises JobError if the process ended instead."""
        for line in self._stdout:
            if line.strip():
                taken = json.loads(line)
                if "exit_code" in taken:
                    raise self._failure(taken["exit_code"])
                return taken
        raise self._failure(self._process.wait())

    def again(self) -> dict[str, Any]:
        """-> the same for one more call."""
        self._stdin.write("\n")
        self._stdin.flush()
        return self.result()

    def end(self) -> dict[str, Any]:
        """-> what peak.py says of the whole process. Raises JobError if it failed."""
        self._stdin.close()
        lines = self._stdout.read().splitlines()
        if exit_code := self._process.wait():  # of peak.py itself
            raise self._failure(exit_code)
        taken = json.loads(lines[-1])
        if taken["exit_code"]:
            raise self._failure(taken["exit_code"])
        return taken

    def _failure(self, exit_code: int) -> JobError:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return JobError(lines[-1] if lines else f"ended with exit code {exit_code} and said nothing")


def cold(jobs: list[Job], repeats: int) -> list[dict[str, Any]]:
    """-> for each job `seconds` and `cpu_seconds` of all repeats and `peak_mib`, or else `error`."""
    return list(_outcomes(jobs, [_ColdRun(job) for job in jobs], repeats))


def warm(jobs: list[Job], repeats: int) -> list[dict[str, Any]]:
    """-> the same, of calls after a first one that does not count; `gpu_mib` is there if a GPU was used."""
    with ExitStack() as stack:
        return list(_outcomes(jobs, [_WarmRun(job, stack) for job in jobs], repeats))


class _ColdRun:
    """A new process for every repeat."""

    def __init__(self, job: Job) -> None:
        self._job, self._peak = job, 0

    def step(self) -> dict[str, Any]:
        with Process(self._job, self._job.command()) as process:
            taken = process.end()
        self._peak = max(self._peak, taken["peak_bytes"])
        return taken

    def end(self) -> dict[str, Any]:
        return {"peak_mib": round(self._peak / MIB, 1)}


class _WarmRun:
    """A process that waits between the repeats. It starts, and does its first call, at the first one."""

    def __init__(self, job: Job, stack: ExitStack) -> None:
        self._job, self._stack = job, stack
        self._process: Process | None = None
        self._gpu_bytes: int | None = None

    def step(self) -> dict[str, Any]:
        if self._process is None:
            command = ["-m", "benchmarks.speed.child", self._job.as_json(keep=self._job.operation == "encode")]
            self._process = self._stack.enter_context(Process(self._job, command))
            self._process.result()
        taken = self._process.again()
        self._gpu_bytes = taken["gpu_bytes"]
        return taken

    def end(self) -> dict[str, Any]:
        assert self._process
        peak = {"peak_mib": round(self._process.end()["peak_bytes"] / MIB, 1)}
        return peak if self._gpu_bytes is None else {**peak, "gpu_mib": round(self._gpu_bytes / MIB, 1)}


def _outcomes(jobs: list[Job], runs: list[Any], repeats: int) -> Iterator[dict[str, Any]]:
    """-> what becomes of each job's run; a job that fails is left out of the repeats that follow."""
    times: list[dict[str, list[float]]] = [{"seconds": [], "cpu_seconds": []} for _ in jobs]
    errors: dict[int, str] = {}
    for _ in range(repeats):
        for i, run in enumerate(runs):
            if i not in errors:
                try:
                    taken = run.step()
                    for name, of_job in times[i].items():
                        of_job.append(round(taken[name], 6))
                except JobError as error:
                    errors[i] = str(error)
    for i, run in enumerate(runs):
        try:
            yield {"error": errors[i]} if i in errors else {**times[i], **run.end()}
        except JobError as error:
            yield {"error": str(error)}
