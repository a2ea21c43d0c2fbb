"""The examples of docs/researchers.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import Draw
from PIL import Image
from safetensors.torch import save_file
from test_one_d_piece import TINY, draw_tensors

import prow
from prow import registry
from prow.format.sequence import BYTE, ESCAPE, NEXT, PAD, STOP
from prow.published import one_d_piece

PAGE = (Path(__file__).parents[1] / "docs" / "researchers.md").read_text()
TOKENS, ROW, BATCH, ORDERED, OWN, ONE_D_PIECE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(autouse=True)
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw: Draw) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(draw(64, 64)).save("photo.jpg")


def test_sequence_and_row(installed: None) -> None:
    names: dict = {"np": np}
    exec(TOKENS + ROW + BATCH, names)
    assert names["again"] == names["tokens"] and names["early"] == names["tokens"][:64]


def test_ordered_tokenizers(installed: None) -> None:
    names: dict = {"np": np, "prow": prow}
    exec(ORDERED + OWN, names)
    assert names["pictures"].shape == (4, 32, 32, 3) and len(names["data"]) == 200
    registry._registered.clear()


def test_one_d_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_d_piece, "CONFIGS", {TINY.name: TINY})
    save_file(draw_tensors(TINY), "model.safetensors")
    names: dict = {}
    exec(ONE_D_PIECE, names)
    assert names["pictures"].shape == (1, 3, 256, 256)


def test_the_table_of_symbols() -> None:
    symbols = {name: int(number) for number, name in re.findall(r"^\| (\d+)(?: to \d+)? \| ([A-Z]+) \|", PAGE, re.M)}
    assert symbols == {"PAD": PAD, "NEXT": NEXT, "STOP": STOP, "ESCAPE": ESCAPE, "BYTE": BYTE}
