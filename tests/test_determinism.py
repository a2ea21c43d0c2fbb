"""The same tokens from other backends and threads; the benchmark does other Pythons and packages."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.reliability import determinism
from format_spec import VECTORS


def test_tokens_are_the_same_from_other_backends_and_threads(tmp_path: Path) -> None:
    places = [determinism.Place(sys.executable, "onnx", 1), determinism.Place(sys.executable, "torch", 2)]
    rows = determinism.compare(tmp_path, places)
    vectors = json.loads((VECTORS / "golden.json").read_text())["vectors"]
    assert determinism.faults(rows, len(vectors)) == []
    assert [(row["backend"], row["threads"], row["golden"]) for row in rows] == [("onnx", 1, 48), ("torch", 2, 48)]
    assert all(row["files read"] == row["same tokens"] >= len(determinism.FILES) for row in rows)


def test_what_differs_is_a_fault(tmp_path: Path) -> None:
    good = {"python": "3", "backend": "onnx", "threads": 1, "golden": 48, "files read": 8, "same tokens": 8}
    good["pixels differ by"] = 1
    assert determinism.faults([good], 48) == []
    for name, value, word in (
        ("golden", 47, "1 golden"),
        ("same tokens", 6, "2 files"),
        ("pixels differ by", 2, "by 2"),
    ):
        (found,) = determinism.faults([{**good, name: value}], 48)
        assert word in found and "python 3, onnx, 1 threads" in found
    for folder, pixels in (("a", [[0, 9]]), ("b", [[0, 6]])):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "x.npy", np.array(pixels, np.uint8))
    assert determinism.difference(tmp_path / "a", tmp_path / "b") == (3, 0.5)


def test_lowest_versions_are_those_of_the_project() -> None:
    assert determinism.lowest(["numpy>=1.26", "constriction>=0.5,<0.6", "x"]) == ["numpy==1.26", "constriction==0.5"]


def test_a_place_that_fails_says_why() -> None:
    with pytest.raises(SystemExit, match="PROW_BACKEND is 'nothing'"):
        determinism.Place(sys.executable, "nothing", 1).run("--encode", "nowhere")
