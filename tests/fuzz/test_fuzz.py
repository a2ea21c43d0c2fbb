"""Fuzz targets: what was found once stays mended, a short run finds nothing new, and a fault is found."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from prow.errors import HeaderError
from prow.format import container

from .targets import FINDINGS, TARGETS, seeds

SECONDS = 20 / len(TARGETS)  # of CPU for each target
fuzzer = pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")


def fuzz(target: str, seconds: float, before: str = "") -> subprocess.CompletedProcess[str]:
    """A run of the fuzzer, which does the code `before` first."""
    code = f"{before}\nimport runpy, sys\nsys.argv = {['fuzz', target, '--seconds', str(seconds)]}\n"
    code += f"runpy.run_path({str(Path(__file__).parent)!r}, run_name='__main__')"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_findings(name: str) -> None:
    files = seeds(name)
    assert len(files) > 40
    for data in files:
        TARGETS[name](data)


def test_every_finding_has_a_target() -> None:
    assert {path.name for path in FINDINGS.glob("*")} <= set(TARGETS)


@fuzzer
@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run_finds_nothing(name: str) -> None:
    result = fuzz(name, SECONDS)
    assert result.returncode == 0, result.stderr[-3000:]
    told = json.loads(result.stdout.splitlines()[-1])
    assert told["target"] == name and told["runs"] > 10 and told["cpu_seconds"] >= SECONDS


@fuzzer
def test_a_fault_is_found(tmp_path: Path) -> None:
    """A parser that reads the width of large files wrongly."""
    before = f"""
import pathlib
from fuzz import targets
targets.FINDINGS = pathlib.Path({str(tmp_path)!r})
parse = targets.container.parse
def wrong(data):
    header, payload, state = parse(data)
    if header.header_bytes == 15:
        payload = payload[1:]
    return header, payload, state
targets.container.parse = wrong
"""
    result = fuzz("container", 60, before)
    assert result.returncode != 0 and "AssertionError" in result.stdout, result.stderr[-3000:]
    (found,) = (tmp_path / "container").iterdir()
    assert container.parse(found.read_bytes())[0].header_bytes == 15


def test_what_targets_allow_is_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other exception than those of the format is a fault."""

    def fails(data: bytes) -> None:
        raise IndexError

    monkeypatch.setattr(container, "parse", fails)
    for name in ("container", "inspect", "decode"):
        with pytest.raises(IndexError):
            TARGETS[name](b"\xf5\x70")
    monkeypatch.undo()
    with pytest.raises(HeaderError):
        container.parse(b"\xf5\x70")
