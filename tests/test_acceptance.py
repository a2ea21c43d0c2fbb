"""The benchmark that holds prow to its promises: every section runs, and a broken promise is seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import prow
from benchmarks.acceptance import __main__ as acceptance
from benchmarks.acceptance import promises
from prow import registry
from prow.coding.codec import Codec
from prow.format.tokens import Tokens

Draw = Callable[..., np.ndarray]
SECTIONS = ["budgets", "threads", "perturbation", "seams", "cuts", "anchor", "prefixes"]


@pytest.fixture
def data(installed: None, draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a drawn picture; toy and anchor are installed, files are small."""
    toy = registry._files()["toy"]
    anchor = Path(registry.__file__).parent / "weights" / "anchor.safetensors"
    monkeypatch.setattr(registry, "_files", lambda: {"anchor": anchor, "toy": toy})
    registry.models.cache_clear()
    files = {"budgets": (40, 90), "seams": (90,), "cuts": (40, 90), "anchor": (40,), "prefixes": (40, 90)}
    monkeypatch.setattr(acceptance, "FILES", files)
    monkeypatch.setattr(promises, "TOKEN_BUDGET", 80)
    (tmp_path / "data").mkdir()
    Image.fromarray(draw(37, 29)).save(tmp_path / "data" / "drawing.png")
    return tmp_path / "data"


def test_every_section(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found" / "acceptance.json"
    code = acceptance.main(["--data", str(data), "--model", "toy", "--prefixes", "3", "--out", str(out)])
    results = json.loads(out.read_text())
    sections = results["sections"]
    assert sorted(sections) == sorted(SECTIONS)
    assert (results["model"], results["corpus"]["images"]) == ("toy", 1)
    assert all(sections[name]["passed"] for name in ("budgets", "threads", "perturbation"))
    assert code == (0 if sections["prefixes"]["passed"] else 1)
    assert sections["budgets"]["files"] == 2 and sections["budgets"]["over"] == []
    assert [len(report["lengths"]) for report in sections["prefixes"]["by_budget"].values()] == [4, 4]
    assert sections["prefixes"]["failures"] == []
    assert sections["seams"]["by_image"]["drawing.png"][0] > 0
    cuts = sections["cuts"]["40"]
    assert cuts["loss"] == pytest.approx(cuts["made"] - cuts["cut"], abs=2e-4)
    assert set(sections["anchor"]) == {"40"}
    shown = capsys.readouterr().out
    assert all(f"\n{name}: " in shown for name in SECTIONS)


def test_only_files_that_are_looked_at_are_made(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    encode = prow.encode
    monkeypatch.setattr(prow, "encode", lambda image, **how: (asked.append(how["bytes"]), encode(image, **how))[1])
    assert acceptance.main(["--data", str(data), "--model", "toy", "--sections", "seams"]) == 0
    assert asked == [90]


def test_broken_promises_are_seen(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", str(data), "--model", "toy", "--sections"]
    encode, images = prow.encode, Codec.images
    monkeypatch.setattr(prow, "encode", lambda image, **how: encode(image, **how) + b"\0")
    assert acceptance.main([*options, "budgets"]) == 1
    assert "too long: drawing.png at 40 bytes has 41" in capsys.readouterr().out
    monkeypatch.setattr(prow, "encode", encode)

    def fail(self: Codec, batch: list, octaves: int) -> list:
        raise RuntimeError("no")

    monkeypatch.setattr(Codec, "images", fail)
    assert acceptance.main([*options, "prefixes", "--prefixes", "1"]) == 1
    assert "does not decode: drawing.png at 40 bytes" in capsys.readouterr().out
    monkeypatch.setattr(Codec, "images", images)
    monkeypatch.setattr(Tokens, "same_as", lambda a, b: False)
    assert acceptance.main([*options, "threads,perturbation"]) == 1
    assert capsys.readouterr().out.count("FAILED") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sections", "seams,speed"], "unknown section 'speed': wanted some of budgets, prefixes"),
        (["--prefixes", "0"], "--prefixes is 0: must be 1 or more"),
        (["--model", "nobody"], "acceptance: model 'nobody' came"),
    ],
)
def test_bad_options(options: list[str], message: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        acceptance.main(["--data", str(data), *options])
    assert message in f"{stopped.value} {capsys.readouterr().err}"
