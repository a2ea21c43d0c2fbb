"""Time and memory of One-D-Piece's published sizes, with drawn weights: `python -m benchmarks.one_d_piece`.

Draws weights of a size once (build/one-d-piece/NAME.safetensors, 2.6 GB for L), then measures each job in a process of
its own: to load the model, to encode a picture, to decode the first 8, 32, 128 and 256 tokens of one. Numbers do not
depend on what the weights are. Prints a table, and writes build/one-d-piece/speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common.machine import cores, cpu_model, version_of
from benchmarks.common.options import parser_of
from benchmarks.common.tables import markdown
from benchmarks.speed import peak

SIZES = {size: f"one-d-piece-{size}-256" for size in ("s", "b", "l")}
LENGTHS = (8, 32, 128, 256)
FOLDER = Path("build/one-d-piece")


def draw(name: str) -> Path:
    """-> a file of weights of a published size, drawn unless it is there."""
    path = FOLDER / f"{name}.safetensors"
    if path.exists():
        return path
    import torch
    from safetensors.torch import save_file

    from prow.published.one_d_piece import CONFIGS, OneDPiece

    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in OneDPiece(CONFIGS[name]).state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    tensors = {key: torch.randn(shape, generator=generator) * 0.02 for key, shape in shapes.items()}
    FOLDER.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary)
    temporary.rename(path)
    return path


def child(path: str, job: str, bf16: bool, repeats: int) -> None:
    """Do a job ("load", "encode", or a number of tokens to decode) some times; prints the seconds of each, and those of
    all cores together, as JSON."""
    import torch

    from prow.published.one_d_piece import load

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    taken = []

    def timed(work: Callable[[], Any]) -> Any:
        start, cpu_start = time.perf_counter(), time.process_time()
        result = work()
        taken.append((time.perf_counter() - start, time.process_time() - cpu_start))
        return result

    model = timed(lambda: load(path, bf16=bf16))
    image, tokens = torch.rand(1, 3, 256, 256), torch.randint(0, 4096, (1, 256))
    for _ in range(0 if job == "load" else repeats):
        timed(lambda: model.encode(image) if job == "encode" else model.decode(tokens[:, : int(job)]))
    print(json.dumps(taken if job == "load" else taken[1:]))


def measure(path: Path, job: str, args: argparse.Namespace, bf16: bool) -> dict[str, Any]:
    """-> seconds (the first time; the best later one, and those of all cores then), and peak memory in bytes, of a job
    in a new process."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    work = [sys.executable, "-m", "benchmarks.one_d_piece", "--child", f"{path},{job},{int(bf16)},{args.repeats}"]
    command = [sys.executable, "-I", "-S", peak.__file__, *work]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    *_, seconds, _, taken = done.stdout.splitlines()
    taken, seconds = json.loads(taken), json.loads(seconds)
    if taken["exit_code"]:
        raise SystemExit(done.stderr)
    later, cpu = min(seconds[1:], default=seconds[0])
    return {"first": seconds[0][0], "later": later, "cpu": cpu, "peak_bytes": taken["peak_bytes"]}


def table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """-> a row for each job, with three columns for each size and precision."""
    kinds = list(dict.fromkeys((row["size"], row["bf16"]) for row in rows))
    named = [f"{size.upper()}-256{', bf16' if bf16 else ''}" for size, bf16 in kinds]
    heads = ["job", *(f"{name}, {what}" for name in named for what in ("first, s", "later, s", "CPU, s", "peak, MB"))]
    cells = {
        (row["job"], row["size"], row["bf16"]): [
            f"{row['first']:.2f}",
            f"{row['later']:.2f}",
            f"{row['cpu']:.2f}",
            f"{row['peak_bytes'] / 1e6:,.0f}",
        ]
        for row in rows
    }
    jobs = list(dict.fromkeys(row["job"] for row in rows))
    return [heads, *([job, *(cell for kind in kinds for cell in cells[job, *kind])] for job in jobs)]


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """-> the options, checked."""
    parser = parser_of("one_d_piece", __doc__)
    parser.add_argument("--sizes", default="s,l", help="of s, b and l; default: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3, help="of each job; default: %(default)s")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.sizes = args.sizes.split(",")
    if unknown := set(args.sizes) - set(SIZES):
        parser.error(f"size {unknown.pop()!r} came, wanted some of {', '.join(SIZES)}")
    return args


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark; see the module's docstring."""
    args = parse_args(argv)
    if args.child:
        path, job, bf16, repeats = args.child.split(",")
        child(path, job, bf16 == "1", int(repeats))
        return
    rows = []
    for size in args.sizes:
        path = draw(SIZES[size])
        for bf16 in (False, True):
            for job in ("load", "encode", *map(str, LENGTHS)):
                rows.append({"size": size, "bf16": bf16, "job": job, **measure(path, job, args, bf16)})
                print(json.dumps(rows[-1]), flush=True)
    machine = {"cpu": cpu_model(), "cores": cores(), "torch": version_of("torch"), "threads": args.threads}
    (FOLDER / "speed.json").write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n")
    print(markdown(table(rows)))


if __name__ == "__main__":
    main()
