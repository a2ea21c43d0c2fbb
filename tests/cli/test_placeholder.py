"""`prow placeholder`: text of a few bytes."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

import prow

from .conftest import INPUTS, SIZE, assert_fails, names, run


def test_base64_of_48_bytes_of_the_bare_profile() -> None:
    data = base64.b64decode(run("placeholder photo.png").stdout, validate=False)
    assert data == prow.placeholder(Path("photo.png")) == prow.encode(Path("photo.png"), bytes=48, profile="bare")
    assert len(data) == 48 and prow.decode(data).size == SIZE
    assert names() == INPUTS


def test_data_uri() -> None:
    text = run("placeholder - --bytes 30 --format data-uri", Path("photo.png").read_bytes()).stdout
    start = "data:image/x-prow;base64,"
    assert text.startswith(start) and text.endswith("\n")
    assert base64.b64decode(text[len(start) : -1], validate=True) == prow.placeholder(Path("photo.png"), 30)


def test_json() -> None:
    facts = json.loads(run("placeholder photo.png --format json --model anchor --bytes 20").stdout)
    data = prow.placeholder(Path("photo.png"), bytes=20, model="anchor")
    text = base64.b64encode(data).decode()
    assert facts == {"width": 64, "height": 48, "bytes": len(data), "base64": text, "model": "anchor"}


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("placeholder photo.png --bytes 15", 1, ("15 bytes came", "at least 16")),
        ("placeholder none.png", 1, ("no such image", "none.png")),
        ("placeholder photo.png --format xml", 2, ("xml",)),
    ],
)
def test_refused(line: str, code: int, words: tuple[str, ...]) -> None:
    assert_fails(line, code, *words)
