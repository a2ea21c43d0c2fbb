"""Fuzz one target with atheris: `python tests/fuzz TARGET --seconds 60` from the root.

Seconds are of CPU. An input that breaks something is written to tests/fuzz/findings/TARGET, where the tests find it.
The last line on stdout is JSON: how many inputs were tried, and in how many seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

import atheris  # noqa: E402 - before what it shall watch

with atheris.instrument_imports(include=["prow", "format_spec"]):
    from fuzz.targets import FINDINGS, TARGETS, seeds


def main() -> None:
    """Fuzz until the time is over, or something breaks (exit code 77, as libFuzzer has it)."""
    parser = argparse.ArgumentParser(prog="python tests/fuzz", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=float, default=60, help="of CPU; default: %(default)s")
    parser.add_argument("--corpus", type=Path, help="keep inputs that reach new code in this folder")
    parser.add_argument("--seed", type=int, default=0, help="of the fuzzer; default: one of its own")
    args = parser.parse_args()
    target, runs, start = TARGETS[args.target], 0, time.process_time()

    def one(data: bytes) -> None:
        nonlocal runs
        target(data)
        runs += 1
        if (seconds := time.process_time() - start) >= args.seconds:
            if not args.corpus:
                shutil.rmtree(corpus)
            print(json.dumps({"target": args.target, "runs": runs, "cpu_seconds": round(seconds, 1)}), flush=True)
            os._exit(0)

    corpus = args.corpus or Path(tempfile.mkdtemp(prefix="prow-fuzz-"))
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds(args.target)):
        (corpus / f"seed-{number}").write_bytes(data)
    found = FINDINGS / args.target
    found.mkdir(parents=True, exist_ok=True)
    limits = {"max_len": 700, "timeout": 300, "report_slow_units": 300, "rss_limit_mb": 4096}  # seconds of the clock
    options = {**limits, "artifact_prefix": f"{found}/", "seed": args.seed}
    atheris.Setup([sys.argv[0], *(f"-{name}={value}" for name, value in options.items()), str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
