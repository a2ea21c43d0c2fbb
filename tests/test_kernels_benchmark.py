"""The benchmark of the kernels on tiny tiles: what is measured and what is refused. Never the times."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from conftest import DEVICE
from PIL import Image

from benchmarks import kernels
from prow_kernels import prefix_attention_torch

pytestmark = pytest.mark.usefixtures("installed")
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no Triton for this system")


@pytest.fixture
def options(draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A picture of 48 x 32 px, two batches."""
    for name, value in {"WIDTH": 48, "HEIGHT": 32, "BUDGET": 150}.items():
        monkeypatch.setattr(kernels, name, value)
    Image.fromarray(draw(48, 32)).save(tmp_path / "drawn.png")
    places = ["--image", str(tmp_path / "drawn.png"), "--out", str(tmp_path / "out" / "kernels.json")]
    return [*places, "--device", DEVICE, "--seconds", "0.001", "--tiles", "1,9", "--budgets", "150"]


@needs_triton
def test_each_way_is_measured(options: list[str], tmp_path: Path, capsys) -> None:
    assert kernels.main([*options, "--ways", "torch,triton", "--dtype", "fp32"]) == 0
    found = json.loads((tmp_path / "out" / "kernels.json").read_text())
    assert (found["dtype"], found["model"], found["image"]) == ("fp32", "toy", "drawn.png")
    assert [row["tiles"] for row in found["rows"]] == [1, 9]
    assert all(0 < row["tokens_per_tile"] <= 5 for row in found["rows"])
    for cell in (row[part][name] for row in found["rows"] for part in ("decoder", "attention") for name in row[part]):
        assert cell["seconds"] > 0 and cell["error"] < 1e-5
    assert all(cell["share_of_operations"] > 0 for row in found["rows"] for cell in row["decoder"].values())
    assert set(found["picture"]) == {"torch", "triton"}
    printed = capsys.readouterr().out
    assert "x compiled" in printed and "failed" not in printed and "picture: " in printed


def test_wrong_pixels_fail_loudly(options: list[str], monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def wrong(q: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        calls.append(q)
        return prefix_attention_torch(q, *rest) * (1.01 if len(calls) > 2 else 1)  # after the oracle and its error

    calls: list[torch.Tensor] = []
    monkeypatch.setattr(kernels, "prefix_attention", wrong)
    assert kernels.main([*options, "--tiles", "9", "--ways", "torch", "--dtype", "fp32"]) == 1
    assert "attention, 9 tiles, torch: relative error 0.01, wanted at most 1e-05" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--ways", "torch,fast"], "unknown way 'fast'"),
        (["--tiles", "0"], "--tiles is '0'"),
        (["--budgets", "a"], "--budgets is 'a'"),
        (["--seconds", "0"], "--seconds is 0.0: must be above 0"),
        (["--image", "nowhere.png"], "nowhere.png"),
        (["--model", "nobody"], "'nobody'"),
    ],
)
def test_bad_options(options: list[str], more: list[str], message: str, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        kernels.main([*options, *more])
    assert message in f"{stopped.value} {capsys.readouterr().err}"
    assert not (tmp_path / "out").exists()
