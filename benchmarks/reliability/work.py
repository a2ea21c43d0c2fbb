"""Files that ask for as much work as a decoder allows by default: what they take.

Each is as large as the limits let it be, and is decoded in a process of its own, from reading to Pillow's picture.

    python -m benchmarks.reliability.work
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from prow.coding.reconstruction import work
from prow.entropy.model import StreamSpec
from prow.entropy.writer import write
from prow.format import container
from prow.format.limits import DEFAULT_MAX_PIXELS, READ, Limits
from prow.format.tokens import Tokens
from prow.registry import load

_DECODE = """
import re, sys, time
import prow
data = open(sys.argv[1], "rb").read()
start, cpu = time.perf_counter(), time.process_time()
mode = prow.decode(data).mode
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
print(mode, time.perf_counter() - start, time.process_time() - cpu, int(peak) / 1024)
"""
_SIDES = 4, 3

# How many of the finest levels have no tokens, how many refining passes have some, and how many each tile has then.
_Shape = tuple[int, int, int]


def tokens_of(width: int, height: int, shape: _Shape, *, alpha: bool = False) -> Tokens:
    """Tokens of a picture with a small integer at each of their ranks: cheap to say and dear to decode."""
    model = load("default")
    spec, (below, refining, most) = StreamSpec(width, height, model), shape
    tokens = spec.empty(model.config.usual_base)
    levels = spec.passes[0].octaves + 1
    for index, (pass_, part) in enumerate(zip(spec.passes, tokens.passes, strict=True)):
        if index < levels - below or levels <= index < levels + refining:
            layout = model.layout(pass_)
            part.counts[:] = np.minimum(layout.last, most)
            part.values[:] = layout.sent(part.counts)
    if alpha:
        tokens = dataclasses.replace(tokens, alpha=tokens.passes)
    return tokens


def asked(tokens: Tokens) -> int:
    """Nominal ns, those of reading too."""
    model = load("default")
    of_a_tile = 17 + 2 * len(model.config.token_dims)  # its context and flags
    symbols = sum(int(np.count_nonzero(p.values)) + of_a_tile * len(p.counts) for p in tokens.passes if p.some)
    return work(tokens, StreamSpec(tokens.width, tokens.height, model)) + READ * symbols * (2 if tokens.alpha else 1)


def largest(make: Callable[[int, int], Tokens]) -> Tokens:
    """The tokens of the largest picture of 4 : 3 that a decoder takes."""
    low, high = 16, int((DEFAULT_MAX_PIXELS / (_SIDES[0] * _SIDES[1])) ** 0.5)
    while high - low > 1 and high - low > low // 50:
        middle = (low + high) // 2
        low, high = (middle, high) if asked(make(*(middle * s for s in _SIDES))) <= Limits().work else (low, middle)
    return make(*(low * s for s in _SIDES))


def decoded(tokens: Tokens) -> tuple[int, str]:
    """Bytes of the file, and what the process that decodes it says."""
    model = load("default")
    data = container.pack(
        write(tokens, model), width=tokens.width, height=tokens.height, model_id=model.config.model_id
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "worst.prow"
        path.write_bytes(data)
        done = subprocess.run(
            [sys.executable, "-c", _DECODE, str(path)], capture_output=True, text=True, check=False, timeout=600
        )
    return len(data), done.stdout.strip() or done.stderr.strip().splitlines()[-1]


_CASES: dict[str, Callable[[int, int], Tokens]] = {
    "no tokens": lambda w, h: tokens_of(w, h, (99, 0, 0)),
    "alpha, the coarsest levels alone": lambda w, h: tokens_of(w, h, (8, 0, 1), alpha=True),
    "light filter at half the size": lambda w, h: tokens_of(w, h, (3, 0, 6)),
    "tokens up to a quarter of the size": lambda w, h: tokens_of(w, h, (2, 0, 1)),
    "tokens up to half the size": lambda w, h: tokens_of(w, h, (1, 0, 1)),
    "tokens at full size": lambda w, h: tokens_of(w, h, (0, 0, 1)),
    "tokens in all passes": lambda w, h: tokens_of(w, h, (0, 6, 1)),
    "all integers of half the size": lambda w, h: tokens_of(w, h, (1, 0, 10)),
    "alpha, tokens at full size": lambda w, h: tokens_of(w, h, (0, 0, 1), alpha=True),
}


def main() -> None:
    print(
        "| tokens | size | file, bytes | nominal, s | mode | seconds | CPU, s | peak, MiB |\n"
        "|---|---|--:|--:|---|--:|--:|--:|"
    )
    for name, make in _CASES.items():
        tokens = largest(make)
        size, said = decoded(tokens)
        if found := re.fullmatch(r"(\w+) (\S+) (\S+) (\S+)", said):
            said = f"{found[1]} | {float(found[2]):.1f} | {float(found[3]):.1f} | {float(found[4]):,.0f}"
        print(
            f"| {name} | {tokens.width} x {tokens.height} | {size:,} | {asked(tokens) / 1e9:.1f} | {said} |", flush=True
        )


if __name__ == "__main__":
    main()
