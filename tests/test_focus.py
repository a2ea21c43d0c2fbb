"""Parts of a picture that get a larger share of its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data as photos

import prow
from prow.coding.focus import Focus
from prow.format.config import CONFIGS
from prow.format.geometry import passes
from prow_cli.main import main

FACE = (85, 30, 60, 75)  # x, y, width, height in the photo below


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A portrait of 240 x 256 px, [256, 240, 3]."""
    return np.asarray(Image.fromarray(photos.astronaut()).crop((120, 0, 360, 256)))


def errors(photo: np.ndarray, data: bytes) -> tuple[float, float]:
    """Mean square error inside of FACE, and elsewhere."""
    x, y, width, height = FACE
    inside = np.zeros(photo.shape[:2], bool)
    inside[y : y + height, x : x + width] = True
    square = (np.asarray(prow.decode(data)).astype(float) - photo) ** 2
    return square[inside].mean(), square[~inside].mean()


@pytest.mark.parametrize("weight", [4, 64])
def test_what_is_in_focus_gets_better_in_the_same_bytes(photo: np.ndarray, weight: float) -> None:
    usual = prow.encode(photo, bytes=600, effort=1)
    focused = prow.encode(photo, bytes=600, focus=[FACE], focus_weight=weight)
    assert len(focused) == len(usual) == 600
    (face, rest), (usual_face, usual_rest) = errors(photo, focused), errors(photo, usual)
    assert face < usual_face
    assert rest > usual_rest
    assert errors(photo, focused[:300])[0] < errors(photo, usual[:300])[0]  # so do its cuts


def test_weight_one_or_the_whole_picture_changes_nothing(photo: np.ndarray) -> None:
    usual = prow.encode(photo, bytes=400, effort=1)
    assert prow.encode(photo, bytes=400, focus=[FACE], focus_weight=1) == usual
    assert prow.encode(photo, bytes=400, focus=[(0, 0, 240, 256)]) == usual


def test_a_tile_is_in_focus_if_it_touches_a_part() -> None:
    plan = passes(50, 40, CONFIGS["prow-small"])
    focus = Focus(np.array([(0, 0, 1, 1), (49, 39, 1, 1)]), 5.0)
    last = plan[-1].level
    grid = focus.factors(plan[-1]).reshape(len(last.rows), len(last.columns))
    assert grid[0, 0] == grid[-1, -1] == 1
    assert np.count_nonzero(grid == 1) == 2
    assert np.all(np.delete(grid.ravel(), (0, -1)) == 5)
    assert np.all(focus.factors(plan[0]) == 1)  # one tile


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"focus": [(0, 0, 241, 10)]}, r"\(0, 0, 241, 10\).*inside of 240 x 256 px"),
        ({"focus": [(5, 5, 0, 10)]}, "inside of 240 x 256 px"),
        ({"focus": [(-1, 5, 3, 10)]}, "inside of 240 x 256 px"),
        ({"focus": [(1, 5, 3)]}, "wanted whole numbers x, y, width, height"),
        ({"focus": [(1.5, 5, 3, 3)]}, "wanted whole numbers x, y, width, height"),
        ({"focus": [FACE], "focus_weight": 0.5}, "focus_weight 0.5 came, wanted a number of at least 1"),
        ({"focus": [FACE], "focus_weight": float("nan")}, "wanted a number of at least 1"),
    ],
)
def test_bad_parts_are_named(photo: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(prow.InputError, match=message):
        prow.encode(photo, bytes=300, **options)


def test_command(photo: np.ndarray, tmp_path: Path) -> None:
    from click.testing import CliRunner

    source, out = tmp_path / "a.png", tmp_path / "a.prow"
    Image.fromarray(photo).save(source)
    box = ",".join(map(str, FACE))
    result = CliRunner().invoke(main, ["encode", str(source), str(out), "--bytes", "600", "--focus", box])
    assert result.exit_code == 0, result.output
    assert out.read_bytes() == prow.encode(photo, bytes=600, focus=[FACE])
    result = CliRunner().invoke(main, ["encode", str(source), str(out), "--bytes", "600", "--focus", "1,2,x"])
    assert (result.exit_code, "'1,2,x' came" in result.output) == (2, True)
