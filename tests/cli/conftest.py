"""Shared by the tests of the command line: a folder with a picture and its file, and ways to run `prow` in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import draw_picture
from PIL import Image

import prow
from prow_cli.main import main

SIZE = (64, 48)  # px, of the photo
PHOTO = Image.fromarray(draw_picture(*SIZE))
FILE_BYTES = 400
INPUTS = {"photo.png", "photo.prow"}


def invoke(line: str, stdin: bytes | None = None) -> Result:
    """What `prow` does with the arguments in `line`."""
    return CliRunner().invoke(main, line.split(), input=stdin)


def run(line: str, stdin: bytes | None = None) -> Result:
    """The same, which must succeed."""
    result = invoke(line, stdin)
    assert result.exit_code == 0, result.output
    return result


def assert_fails(line: str, code: int, *words: str, stdin: bytes | None = None) -> None:
    """One line on stderr that holds all `words`, this exit code, nothing on stdout."""
    result = invoke(line, stdin)
    assert result.exit_code == code, result.output
    assert result.stdout_bytes == b""
    assert re.fullmatch(r"prow: [^\n]+\n", result.stderr), result.stderr
    assert all(word in result.stderr for word in words), result.stderr


def process(line: str, stdin: bytes = b"", before: str = "") -> subprocess.CompletedProcess[bytes]:
    """The command line in a process of its own, which runs the code `before` first."""
    command = [sys.executable, "-c", f"{before}\nfrom prow_cli.start import main\nmain()", *line.split()]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, input=stdin, capture_output=True, env=env, timeout=120)


def names() -> set[str]:
    """Those of the files in the folder."""
    return set(os.listdir())


@pytest.fixture(scope="session")
def whole() -> bytes:
    data = prow.encode(PHOTO, bytes=FILE_BYTES)
    assert 0.97 * FILE_BYTES <= len(data) <= FILE_BYTES
    return data


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that each test works in: photo.png, and photo.prow made of it."""
    monkeypatch.chdir(tmp_path)
    PHOTO.save("photo.png")
    Path("photo.prow").write_bytes(whole)
