"""The same tokens everywhere: files are written and read by several Pythons, packages, backends and threads.

    python -m benchmarks.reliability.determinism --python python3.12 --python python3.13 --out determinism.json

Makes an environment for each interpreter with the newest packages that pyproject.toml allows, and one with the lowest
for the interpreter that runs this, which itself is measured as it is, with 1 and 2 threads, and with torch if it is
there. In each, drawn pictures are encoded; then all files that came of it, and the golden vectors, are read and decoded
in all. With --environment, environments that exist already are taken instead.

Tokens MUST be the same, pixels may differ by 1. Encoders choose in floating point: files may differ between
environments, and are all the same good; how many do is counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.options import parser_of
from benchmarks.common.output import check_place, write
from benchmarks.common.tables import plain
from format_spec import VECTORS

ROOT = Path(__file__).resolve().parents[2]
FILES = (  # width, height, channels, bytes
    (96, 64, 3, 100),
    (96, 64, 3, 600),
    (161, 120, 3, 300),
    (161, 120, 3, 2000),
    (240, 176, 3, 1200),
    (130, 70, 1, 400),
    (75, 100, 2, 300),
    (90, 90, 4, 500),
)
PACKAGES = ("numpy", "constriction", "onnxruntime", "pillow", "torch")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where files are written and read: an interpreter, a backend and a number of threads."""

    python: str
    backend: str
    threads: int

    def run(self, *arguments: str) -> dict[str, Any]:
        """What `python -m benchmarks.reliability.determinism` prints there with these arguments."""
        path = os.pathsep.join(str(ROOT / part) for part in ("", "codec", "kernels", "cli"))
        more = {"PYTHONPATH": path, "PROW_BACKEND": self.backend, "OMP_NUM_THREADS": str(self.threads)}
        more["OMP_WAIT_POLICY"] = "passive"  # on a busy machine threads that spin wait for each other for minutes
        command = [self.python, "-m", "benchmarks.reliability.determinism", *arguments]
        done = subprocess.run(command, env={**os.environ, **more}, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"determinism: {self} fails: {done.stderr}")
        print(f"{arguments[0]} {self}", file=sys.stderr, flush=True)
        return json.loads(done.stdout)


# -- in each place ------------------------------------------------------------------------------------------------


def draw(width: int, height: int, channels: int) -> np.ndarray:
    """A picture drawn with integers alone: uint8 [H, W, channels]."""
    y, x = np.mgrid[:height, :width]
    disc = (x - width // 2) ** 2 + (y - height // 2) ** 2 < (height // 3) ** 2
    waves = (x * x + 3 * x * y) // 64 % 61
    planes = [x * 255 // width, 255 * disc, y * 200 // height + waves // 2, np.where(disc, 255, 3 * waves)]
    return np.stack(planes[:channels], axis=2).astype(np.uint8)


def encode_all(folder: Path) -> dict[str, str]:
    """Write all FILES: SHA-256 by name."""
    import prow

    prints = {}
    for width, height, channels, size in FILES:
        data = prow.encode(draw(width, height, channels), bytes=size)
        name = f"{width}x{height}x{channels}_{size}"
        prints[name] = hashlib.sha256(data).hexdigest()
        (folder / f"{prints[name]}.prow").write_bytes(data)
    return prints


def decode_all(files: Path, pixels: Path) -> dict[str, str]:
    """Read all files of a folder: SHA-256 of the tokens by name. Their pixels go into another folder."""
    import prow
    from prow.api import read_tokens

    prints = {}
    for path in sorted(files.glob("*.prow")):
        data = path.read_bytes()
        tokens, total = read_tokens(data), hashlib.sha256()
        for part in (*tokens.passes, *tokens.shown_alpha):
            total.update(part.counts.astype(">i2").tobytes() + part.values.astype(">i2").tobytes())
        prints[path.name] = f"{tokens.base} {tokens.mode} {total.hexdigest()}"
        np.save(pixels / f"{path.name}.npy", np.asarray(prow.decode(data)))
    return prints


def check_golden() -> int:
    """How many of the golden vectors have the integers that golden.json says."""
    from prow.api import read_tokens

    same = 0
    for row in json.loads((VECTORS / "golden.json").read_text())["vectors"]:
        tokens, total = read_tokens((VECTORS / "golden" / row["file"]).read_bytes()), hashlib.sha256()
        parts = (*tokens.passes, *tokens.shown_alpha)
        for part in parts:
            total.update(part.values.astype(">i2").tobytes())
        told = (tokens.base, tokens.grey, [part.counts.tolist() for part in parts], total.hexdigest())
        same += told == (row["base"], row["grey"], row["counts"], row["values_sha256"])
    return same


def versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


# -- all places ---------------------------------------------------------------------------------------------------


def lowest(requirements: list[str]) -> list[str]:
    """Of requirements such as numpy>=1.26 the lowest version of each."""
    bounds = (re.match(r"([\w-]+)>=([\d.]+)", requirement) for requirement in requirements)
    return [f"{bound[1]}=={bound[2]}" for bound in bounds if bound]


def make_environment(folder: Path, python: str, packages: list[str]) -> str:
    """The interpreter of a new environment with these packages."""
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    inside = str(folder / "bin" / "python")
    subprocess.run([inside, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages], check=True)
    return inside


def places(folder: Path, pythons: list[str], environments: list[str] | None) -> Iterator[Place]:
    """This interpreter with 1 and 2 threads, and those of new environments below a folder."""
    for backend in ("onnx", "torch") if "torch" in versions() else ("onnx",):
        yield from (Place(sys.executable, backend, threads) for threads in (1, 2))
    if environments is not None:
        yield from (Place(python, "onnx", 1) for python in environments)
        return
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    yield Place(make_environment(folder / "lowest", sys.executable, lowest(wanted)), "onnx", 1)
    for number, python in enumerate(pythons):
        yield Place(make_environment(folder / str(number), python, wanted), "onnx", 1)


def compare(folder: Path, where: list[Place]) -> list[dict[str, Any]]:
    """Write and read everywhere: a row for each place, the first one being what others are compared with."""
    files = folder / "files"
    files.mkdir()
    written = [place.run("--encode", str(files)) for place in where]
    rows, first = [], {}
    for number, (place, prints) in enumerate(zip(where, written, strict=True)):
        pixels = folder / f"pixels-{number}"
        pixels.mkdir()
        told = place.run("--decode", str(files), str(pixels))
        first = first or told["tokens"]
        same = {name: told["tokens"][name] == first[name] for name in first}
        furthest, differing = difference(folder / "pixels-0", pixels)
        rows.append(
            {
                **told["versions"],
                "backend": place.backend,
                "threads": place.threads,
                "golden": told["golden"],
                "files read": len(same),
                "same tokens": sum(same.values()),
                "files written": len(prints),
                "same bytes": sum(prints[name] == written[0][name] for name in prints),
                "pixels differ by": furthest,
                "share of pixels": differing,
            }
        )
    return rows


def difference(folder: Path, other: Path) -> tuple[int, float]:
    """Between the same pictures in two folders: the largest difference of a pixel, and the share that differ."""
    furthest, count, total = 0, 0, 0
    for path in folder.glob("*.npy"):
        apart = np.abs(np.load(path).astype(int) - np.load(other / path.name))
        furthest, count, total = max(furthest, int(apart.max())), count + np.count_nonzero(apart), total + apart.size
    return furthest, round(count / total, 6)


def faults(rows: list[dict[str, Any]], vectors: int) -> list[str]:
    """What must not be: other tokens, or pixels that differ by more than 1."""
    found = []
    for row in rows:
        name = f"python {row['python']}, {row['backend']}, {row['threads']} threads"
        if row["golden"] != vectors:
            found.append(f"{name}: {vectors - row['golden']} golden vectors differ")
        if row["same tokens"] != row["files read"]:
            found.append(f"{name}: {row['files read'] - row['same tokens']} files have other tokens")
        if row["pixels differ by"] > 1:
            found.append(f"{name}: pixels differ by {row['pixels differ by']}")
    return found


def main(argv: list[str] | None = None) -> int:
    """1 if anything differs that must not."""
    parser = parser_of("reliability.determinism", __doc__)
    parser.add_argument("--python", action="append", default=[], metavar="EXE", help="another interpreter")
    parser.add_argument(
        "--environment", action="append", metavar="EXE", help="the interpreter of one that is there; makes no others"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all as JSON")
    parser.add_argument("--encode", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--decode", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.encode:
        print(json.dumps(encode_all(args.encode)))
        return 0
    if args.decode:
        told = {"versions": versions(), "golden": check_golden(), "tokens": decode_all(*args.decode)}
        print(json.dumps(told))
        return 0
    if args.out:
        check_place(args.out, "determinism")
    with tempfile.TemporaryDirectory(prefix="prow-determinism-") as folder:
        rows = compare(Path(folder), list(places(Path(folder), args.python, args.environment)))
    if args.out:
        write(args.out, json.dumps(rows, indent=1) + "\n")
    head = ["python", *PACKAGES, *(name for name in rows[0] if name not in ("python", *PACKAGES))]
    print(plain([head, *([str(row.get(name, "-")) for name in head] for row in rows)]))
    vectors = len(json.loads((VECTORS / "golden.json").read_text())["vectors"])
    found = faults(rows, vectors)
    print(*found, sep="\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
