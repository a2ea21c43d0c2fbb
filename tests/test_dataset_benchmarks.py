"""Benchmarks of datasets: the pictures they draw, what they call whole, the codecs they compare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import draw_picture

import prow
from benchmarks.datasets import loss, study
from benchmarks.datasets.pictures import write_folder
from prow.image import load_rgb


def test_as_many_are_broken_as_were_asked_for(tmp_path: Path) -> None:
    write_folder(tmp_path / "src", 20, 32, 24, broken=3)
    paths = sorted((tmp_path / "src").rglob("*.jpg"))
    assert len(paths) == 20
    broken = 0
    for path in paths:
        try:
            assert load_rgb(path).shape == (24, 32, 3)
        except prow.InputError:
            broken += 1
    assert broken == 3


def test_rows_are_counted(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    cells = {"input": ["a", "b", "a"], "prow": pa.array([b"1", None, b"1"]), "error": ["", "bad", ""]}
    cells["error"] = [text or None for text in cells["error"]]
    pq.write_table(pa.table(cells), tmp_path / "part-000000.parquet")
    (tmp_path / ".left.tmp").touch()
    assert loss.check(tmp_path) == {"rows": 3, "errors": 1, "inputs": 2, "left_over": 1}


def test_a_classical_codec_has_the_size_or_none() -> None:
    picture = draw_picture(64, 64)
    assert study.classical("JPEG", picture, 100) is None
    small, large = (study.classical("WebP", picture, budget) for budget in (150, 1000))
    assert small is not None and large is not None and small.shape == large.shape == (64, 64, 3)
    errors = [np.square(one.astype(float) - picture).mean() for one in (small, large)]
    assert errors[0] > errors[1]
