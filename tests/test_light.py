"""The training of the light loop filter: it learns, and nothing else of the model changes."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TOY, draw_picture
from PIL import Image

from prow import config, registry
from prow.tokenizer import Tokenizer
from prow.training import light


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for folder, count in (("train", 3), ("val", 2)):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(draw_picture(360 + i, 300, i)).save(tmp_path / "data" / folder / f"{i}.png")
    return tmp_path / "data"


@torch.no_grad()
def loss(model: Tokenizer, examples: list[light.Example]) -> float:
    """Mean loss of the light filter over whole pictures."""
    found = []
    for one in examples:
        targets = [target[None].float() for target in one.targets]
        found.append(light.losses(model, one.context[None].float(), targets, torch.tensor([one.grid]), light=True)[0])
    return float(torch.stack(found).mean())


def test_learns_and_leaves_the_rest_alone(
    toy_file: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"--minutes": 0.1, "--examples": 12, "--batch": 2, "--init": toy_file, "--data": data, "--out": tmp_path}
    monkeypatch.setattr(sys, "argv", ["light", *(str(x) for pair in sizes.items() for x in pair)])
    light.main()
    assert "12 and 2 examples" in capsys.readouterr().out
    (told,) = [json.loads(line) for line in (tmp_path / "light.jsonl").read_text().splitlines()]
    before, _ = light.load_model(toy_file)
    after = registry.parse_model((tmp_path / "toy.safetensors").read_bytes(), "toy")
    old, new = registry.parse_model(toy_file.read_bytes(), "toy").weights("network."), after.weights("network.")
    changed = {name for name in old if not np.array_equal(old[name], new[name])}
    assert changed == {f"network.light_filter.{name}" for name in before.light_filter.state_dict()}
    network, tables = light.load_model(tmp_path / "toy.safetensors")
    val = light.validation_examples(light.Codec(before, tables), data / "val", 2)
    first, then = light.figures(before, val), light.figures(network, val)
    assert then["psnr_light"] == pytest.approx(told["psnr_light"], abs=0.05)
    assert then["psnr_light"] != first["psnr_light"]
    assert loss(network, val) < 0.98 * loss(before, val)
    assert then["psnr_full"] == first["psnr_full"] and then["psnr_none"] == first["psnr_none"]


def test_crops_of_a_level_and_the_next_lie_on_each_other(toy_file: Path) -> None:
    """A target is the mean of 2 x 2 px of the next one's, so a crop is too."""
    pixels = torch.from_numpy(draw_picture(333, 251)).permute(2, 0, 1)
    fine = pixels[:, :250, :332].float()
    coarse = torch.nn.functional.avg_pool2d(fine, 2)
    one = light.Example(coarse.half(), [coarse.to(torch.uint8), fine.to(torch.uint8)], 30)
    context, targets, grid = light.random_crops([one], 5, light.random.Random(0))
    assert context.shape == targets[0].shape == (5, 3, 80, 80) and targets[1].shape == (5, 3, 160, 160)
    assert grid.tolist() == [30] * 5
    assert (torch.nn.functional.avg_pool2d(targets[1], 2) - context).abs().max() < 1


def test_a_light_filter_of_another_shape_starts_anew(toy_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wider = dataclasses.replace(TOY, light_width=10, light_dilations=(1, 2))
    monkeypatch.setitem(config.CONFIGS, "toy", wider)
    network, _ = light.load_model(toy_file)
    assert network.config == wider and network.light_filter.leave.weight.abs().max() == 0
    assert network.coarse_filter.leave.weight.abs().max() > 0
