"""`prow info`: text and JSON."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import SIZE, run


def test_text(whole: bytes) -> None:
    result = run("info photo.prow")
    assert result.stderr == ""
    for word in ("version 1", "file profile", "prow-small (id 2)", "64 x 48 px", f"{len(whole):,} bytes, whole"):
        assert word in result.stdout


def test_json(whole: bytes) -> None:
    Path("cut.prow").write_bytes(whole[:100])
    facts = json.loads(run("info cut.prow --json").stdout)
    assert (facts["state"], facts["declared_bytes"], facts["present_bytes"]) == ("cut", len(whole), 100)
    assert (facts["width"], facts["height"]) == SIZE
    assert all({"kind", "width", "height", "tiles", "step", "tokens"} == set(one) for one in facts["tokens_per_pass"])


def test_extras_are_counted(whole: bytes) -> None:
    assert "5 bytes after the stream" in run("info -", stdin=whole + b"extra").stdout
    chunk = whole + b"XMP \0\0\0\3abc"
    assert "11 bytes after the stream, not needed for the picture, XMP 3\n" in run("info -", stdin=chunk).stdout
    assert json.loads(run("info - --json", stdin=chunk).stdout)["extras"] == {"XMP ": 3}
