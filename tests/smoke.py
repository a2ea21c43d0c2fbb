"""Smoke test of an installed prow, in at most half a minute: `python -I tests/smoke.py`, the interpreter that has it.

It needs no package but those that prow depends on, and of this repository only format_spec: the frozen vectors.
`make release` runs it in an empty environment that holds the wheel.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import prow
from prow.api import read_tokens
from prow.errors import ProwError
from prow.format.container import parse

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))
from format_spec import VECTORS, freeze, make_external, make_vectors  # noqa: E402 - after the path to it

LONGEST = 30  # seconds


def draw(width: int, height: int) -> np.ndarray:
    """A disc on a gradient with waves, uint8 [H, W, 3]: enough detail for a thousand bytes."""
    y, x = np.mgrid[:height, :width]
    waves = (x * x + 3 * x * y) // 64 % 61
    return make_vectors.picture(width, height) // 2 + waves[:, :, None].astype(np.uint8)


def run(*arguments: str, folder: Path) -> str:
    """What a command prints."""
    command = [sys.executable, "-I", "-m", "prow", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


def check_commands(folder: Path) -> None:
    """Encode, info, truncate and decode, a prefix as well."""
    Image.fromarray(draw(320, 200)).save(folder / "a.png")
    run("encode", "a.png", "a.prow", "--bytes", "1000", folder=folder)
    assert (folder / "a.prow").stat().st_size == 1000
    assert "1,000 of 1,000 bytes, whole" in run("info", "a.prow", "--verify", folder=folder)
    run("truncate", "a.prow", "b.prow", "--bytes", "300", folder=folder)
    assert (folder / "b.prow").stat().st_size == 300
    (folder / "c.prow").write_bytes((folder / "a.prow").read_bytes()[:500])
    for name in "abc":
        run("decode", f"{name}.prow", f"{name}-decoded.png", folder=folder)
        with Image.open(folder / f"{name}-decoded.png") as image:
            assert image.size == (320, 200)


def check_library() -> None:
    """The functions of README's example."""
    pixels = draw(160, 100)
    data = prow.encode(pixels, bytes=600)
    assert len(data) == 600 and prow.inspect(data[:400]).state == "cut"
    near, far = (np.mean((np.asarray(prow.decode(part), float) - pixels) ** 2) for part in (data, data[:100]))
    assert near < far
    assert prow.inspect(prow.truncate(data, 300)).state == "whole"
    tokens = prow.tokenize(pixels, bytes=300)
    assert prow.detokenize(tokens[:20]).size == (160, 100)
    assert len(prow.placeholder(pixels)) == 48


def check_vectors() -> int:
    """All vectors of the frozen format, bit for bit: how many."""
    assert freeze.faults(VECTORS) == []
    golden = json.loads(make_vectors.INDEX.read_text())["vectors"]
    for row in golden:
        told = make_vectors.describe(read_tokens((make_vectors.GOLDEN / row["file"]).read_bytes()))
        assert told == {name: row[name] for name in told}, row["file"]
    models = {model.name: model for model in make_external.models()}
    external = json.loads(make_external.INDEX.read_text())["vectors"]
    for row in external:
        header, payload, _ = parse((make_external.FILES / row["file"]).read_bytes())
        (part,) = models[row["model"]].read(payload[4:], header.width, header.height).passes
        tiles = [values[:count].tolist() for values, count in zip(part.values, part.counts, strict=True)]
        assert tiles == row["tiles"], row["file"]
    hostile = json.loads((VECTORS / "hostile.json").read_text())
    for row in hostile:
        try:
            prow.decode((VECTORS / "hostile" / row["file"]).read_bytes())
        except ProwError as error:
            assert (type(error).__name__, row["message"] in str(error)) == (row["error"], True), row["file"]
        else:
            raise AssertionError(f"{row['file']} was decoded")
    return len(golden) + len(external) + len(hostile)


def main() -> None:
    start = time.monotonic()
    assert ROOT / "codec" not in Path(prow.__file__).parents, f"{prow.__file__} came, wanted an installed prow"
    with tempfile.TemporaryDirectory(prefix="prow-smoke-") as folder:
        check_commands(Path(folder))
    check_library()
    count, seconds = check_vectors(), time.monotonic() - start
    assert seconds < LONGEST, f"{seconds:.0f} s"
    print(f"prow {prow.__version__} in {Path(prow.__file__).parent}: {count} vectors, {seconds:.1f} s")


if __name__ == "__main__":
    main()
