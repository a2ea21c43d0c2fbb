"""Fingerprints of files: the same twice, another one for other code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

import prow
from benchmarks import fingerprint


def test_a_change_of_the_files_is_seen(
    installed, draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(fingerprint, "SIZES", (40, 90))
    monkeypatch.setattr(fingerprint, "EFFORTS", (1, fingerprint.EFFORT))
    for seed in range(2):
        Image.fromarray(draw(24, 16, seed)).save(tmp_path / f"{seed}.png")
    before = tmp_path / "out" / "before.json"
    assert fingerprint.main(["--data", str(tmp_path), "--out", str(before)]) == 0
    prints = json.loads(before.read_text())
    assert list(prints)[:3] == ["0 40 effort 1", "0 40 effort 5", "0 40 decoded"] and len(prints) == 2 * 2 * 3
    compare = ["--data", str(tmp_path), "--same-as", str(before)]
    assert fingerprint.main(compare) == 0
    assert fingerprint.main([*compare, "--photos", "1"]) == 1  # those of the other one are missing
    assert "6 differ from" in capsys.readouterr().out
    encode = prow.encode
    monkeypatch.setattr(prow, "encode", lambda image, **how: encode(image, **how) + b"\0" * (how["effort"] == 1))
    assert fingerprint.main(compare) == 1
    printed = capsys.readouterr().out
    assert "4 differ from" in printed and "\n  1 90 effort 1\n" in printed and "effort 5" not in printed
