"""The command line, interrupted and killed at random times: what is left, and what is said.

    python -m benchmarks.reliability.interrupts --trials 200 --out interrupts.json

Each trial starts `prow` in a folder of its own, sends SIGINT to all of its processes, as a terminal does, or SIGKILL to
the first one, and looks at exit code, stderr, files and processes once all have ended. Times are uniform
from the start to a little after the end of an undisturbed run. For Linux.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.common.options import check_counts, parser_of
from benchmarks.common.output import check_place, write
from benchmarks.common.tables import plain

SIGNALS = ("SIGINT", "SIGKILL")
OPERATIONS = {
    "encode": "encode in/a.png out.prow --bytes 1k",
    "encode, replace": "encode in/a.png old.prow --bytes 1k --force",
    "decode": "decode in/a.prow out.png",
    "batch": "encode in out --recursive --bytes 1k",
    "batch, 2 jobs": "encode in out --recursive --bytes 1k --jobs 2",
}
# What may come of a trial; those from "traceback" on are faults. "before prow": a traceback of Python's own start.
RESULTS = ("done", "interrupted", "killed", "before prow", "traceback", "other exit", "partial", "litter", "process")
OLD = b"an older file"
LAUNCHER = "import sys\nfrom prow_cli.start import main\nif __name__ == '__main__':\n    sys.exit(main())\n"  # as pip's
WAIT = 60  # seconds for processes to end


@dataclasses.dataclass(frozen=True)
class Workplace:
    """Folders of the trials: `pristine` is copied for each; `wanted` has the content of all that may be written, by
    operation and path; `seconds` how long an undisturbed run takes."""

    root: Path
    wanted: dict[str, dict[str, bytes]]
    seconds: dict[str, float]

    @property
    def pristine(self) -> Path:
        return self.root / "pristine"


def draw(width: int, height: int, seed: int) -> Image.Image:
    """A picture with something to code at every size."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3))
    for side in (4, 16, 64):
        noise = Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8))
        pixels += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC)) / 3
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def start(folder: Path, operation: str) -> subprocess.Popen[str]:
    """`prow` in a folder, in a session of its own."""
    path = os.pathsep.join(os.path.abspath(place) for place in sys.path)
    return subprocess.Popen(
        [sys.executable, str(folder.parent / "prow"), *OPERATIONS[operation].split()],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def files_in(folder: Path) -> dict[str, bytes]:
    """All files, hidden ones too, by their path."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def prepare(root: Path, operations: Iterable[str]) -> Workplace:
    """Make the inputs, and run each operation undisturbed: twice, the second time for its duration."""
    place = Workplace(root, {}, {})
    (root / "prow").write_text(LAUNCHER)
    (place.pristine / "in" / "deep").mkdir(parents=True)
    for number, name in enumerate(("in/a.png", "in/b.png", "in/deep/c.png", "in/deep/d.png")):
        draw(256, 192, number).save(place.pristine / name)
    (place.pristine / "old.prow").write_bytes(OLD)
    import prow

    (place.pristine / "in" / "a.prow").write_bytes(prow.encode(place.pristine / "in" / "a.png", bytes=1000))
    for operation in operations:
        for _ in range(2):
            folder, begin = copy(place), time.perf_counter()
            process = start(folder, operation)
            _, stderr = process.communicate(timeout=WAIT)
            if process.returncode:
                raise SystemExit(f"interrupts: {operation} fails without an interrupt: {stderr}")
            place.seconds[operation] = time.perf_counter() - begin
        before = files_in(place.pristine)
        place.wanted[operation] = {n: data for n, data in files_in(folder).items() if before.get(n) != data}
    return place


def copy(place: Workplace) -> Path:
    """A fresh folder with the inputs."""
    folder = place.root / "trial"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(place.pristine, folder)
    return folder


def trial(place: Workplace, operation: str, name: str, seconds: float) -> tuple[str, str]:
    """Send the signal `name` so many seconds after the start: one of RESULTS, and what was seen if it is a fault."""
    folder = copy(place)
    process = start(folder, operation)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    with contextlib.suppress(ProcessLookupError):
        if name == "SIGINT":
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.kill()
    _, stderr = process.communicate(timeout=WAIT)  # until no process has stderr open
    return verdict(place, operation, folder, process.returncode, stderr, alive=not wait_for_all(process.pid))


def wait_for_all(group: int) -> bool:
    """Whether all processes of a group end."""
    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def verdict(place: Workplace, operation: str, folder: Path, code: int, stderr: str, alive: bool) -> tuple[str, str]:
    """What a trial came to, the worst first."""
    wanted, before, now = place.wanted[operation], files_in(place.pristine), files_in(folder)
    for name, data in now.items():
        if name not in before and name not in wanted:
            return "litter", name
        if data not in (before.get(name), wanted.get(name)):
            return "partial", f"{name}: {len(data)} bytes"
    if missing := before.keys() - now.keys():
        return "partial", f"{sorted(missing)} gone"
    if alive:
        return "process", "one is left"
    if "Traceback" in stderr or "Error" in stderr:
        ours = f"prow_cli{os.sep}" in stderr or "multiprocessing" in stderr  # a frame of ours, or of a worker
        return ("traceback", stderr) if ours else ("before prow", stderr)
    results = {0: "done", 130: "interrupted", -signal.SIGKILL: "killed", -signal.SIGINT: "killed"}
    result = results.get(code, "other exit")
    if result == "done" and any(now.get(name) != data for name, data in wanted.items()):
        return "partial", "exit code 0 without all files"
    return result, f"exit code {code}: {stderr}"


def run(place: Workplace, operations: list[str], trials: int, seed: int) -> list[dict[str, object]]:
    """So many trials of each signal, spread over the operations: a row for each signal and operation."""
    rng, rows = random.Random(seed), []
    for name in SIGNALS:
        for index, operation in enumerate(operations):
            counts: collections.Counter[str] = collections.Counter()
            seen = []
            for _ in range((trials + len(operations) - 1 - index) // len(operations)):
                result, text = trial(place, operation, name, rng.uniform(0, 1.05 * place.seconds[operation]))
                counts[result] += 1
                if RESULTS.index(result) >= RESULTS.index("traceback"):
                    seen.append(f"{result}: {text}")
            told = {"signal": name, "operation": operation, "seconds": round(place.seconds[operation], 2)}
            rows.append({**told, **{result: counts[result] for result in RESULTS}, "seen": seen})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def main(argv: list[str] | None = None) -> int:
    """1 if there was a fault."""
    parser = parser_of("reliability.interrupts", __doc__)
    parser.add_argument("--trials", type=int, default=200, metavar="N", help="of each signal; default: %(default)s")
    parser.add_argument("--operation", action="append", choices=OPERATIONS, help="default: all of them")
    parser.add_argument("--seed", type=int, default=0, help="of the times; default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the counts as JSON")
    args = parser.parse_args(argv)
    check_counts(parser, args, "trials")
    if args.out:
        check_place(args.out, "interrupts")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where it is ignored, processes would ignore it too
    with tempfile.TemporaryDirectory(prefix="prow-interrupts-") as root:
        operations = args.operation or list(OPERATIONS)
        rows = run(prepare(Path(root), operations), operations, args.trials, args.seed)
    if args.out:
        write(args.out, json.dumps(rows, indent=1) + "\n")
    head = ["signal", "operation", *RESULTS]
    print(plain([head, *([str(row[name]) for name in head] for row in rows)]))
    return int(any(row["seen"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
