"""Pictures a second and peak memory: `python -m benchmarks.datasets.speed`.

The same JPEG files by a loop over `prow.encode`, by `prow.encode_many` and by `prow dataset encode` with one and two
workers, one after another in one run; each in a process of its own, whose start counts. Memory is what all processes of
a job hold at once (resident, what they share counted for each), looked at every 50 ms. Where other work runs beside,
seconds of cores say more than those of the clock. Linux.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.common.machine import cpu_model
from benchmarks.common.options import check_counts, parser_of
from benchmarks.common.output import check_place, write
from benchmarks.datasets.pictures import write_folder

SIZES = {"512 px": (512, 512, 16), "12 MP": (4000, 3000, 4)}  # width, height, pictures
LOOP = "import prow, sys, pathlib\nfor p in sorted(pathlib.Path(sys.argv[1]).rglob('*.jpg')): prow.encode(p, {})"
MANY = "import prow, sys, pathlib\nprow.encode_many(sorted(pathlib.Path(sys.argv[1]).rglob('*.jpg')), {})"


def resident(session: int) -> int:
    """-> bytes of all processes of a session."""
    pages = 0
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(place.name)) == session:
                pages += int((place / "statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")


def take(command: list[str], threads: int) -> tuple[float, float, float]:
    """-> seconds, seconds of all cores and peak memory in MiB of a command. Raises SystemExit if it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    start, before, peak = time.perf_counter(), os.times(), 0
    process = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{command[:3]} ended with {process.returncode}")
    after = os.times()  # of processes that ended, and of theirs
    cores = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, cores, peak / 2**20


def jobs(src: Path, dst: Path, effort: int, device: str, batch: int) -> dict[str, tuple[list[str], int]]:
    """-> by name a command, and how many threads a process of it may have."""
    options = f"bytes=1000, effort={effort}, device={device!r}"
    own = [sys.executable, "-m", "prow_cli.main", "dataset", "encode", str(src), str(dst), "--bytes", "1k"]
    own += ["--effort", str(effort), "--device", device, "--batch", str(batch)]
    loop, many = ([sys.executable, "-c", code.format(options), str(src)] for code in (LOOP, MANY))
    return {
        "a loop, one thread": (loop, 1),
        "encode_many, one thread": (many, 1),
        "encode_many, two threads": (many, 2),
        "dataset encode, one worker": ([*own, "--shard", "2", "--concurrency", "1"], 1),
        "dataset encode, two workers": ([*own, "--shard", "2", "--concurrency", "2"], 1),
        "dataset encode, one worker, one shard": ([*own, "--shard", "1000", "--concurrency", "1"], 1),
    }


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark; see the module's docstring."""
    parser = parser_of("datasets.speed", __doc__)
    parser.add_argument("--effort", type=int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=32, metavar="N", help="default: %(default)s")
    parser.add_argument("--job", default="", metavar="WORDS", help="only those that begin so")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="so many pictures more; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("build/datasets"), metavar="DIR", help="default: %(default)s")
    args = parser.parse_args(argv)
    check_counts(parser, args, "times", "batch")
    check_place(args.out / "speed.json", parser.prog)
    out, rows = args.out.resolve() / "speed", []
    for size, (width, height, count) in SIZES.items():
        shutil.rmtree(out, ignore_errors=True)
        write_folder(out / "src", count * args.times, width, height)
        for name, (command, threads) in jobs(out / "src", out / "dst", args.effort, args.device, args.batch).items():
            if not name.startswith(args.job):
                continue
            shutil.rmtree(out / "dst", ignore_errors=True)
            load = os.getloadavg()[0]
            seconds, cores, peak = take(command, threads)
            done = count * args.times
            row: dict[str, Any] = {"size": size, "job": name, "pictures": done, "seconds": round(seconds, 2)}
            row |= {"per_second": round(done / seconds, 3), "core_seconds_each": round(cores / done, 3)}
            row |= {"peak_mib": round(peak), "load": round(load, 1)}
            rows.append(row)
            print(json.dumps(row), flush=True)
    shutil.rmtree(out, ignore_errors=True)
    text = json.dumps({"cpu": cpu_model(), "effort": args.effort, "device": args.device, "rows": rows}, indent=2)
    write(args.out / "speed.json", text + "\n")


if __name__ == "__main__":
    main()
