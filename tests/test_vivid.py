"""The vivid style: what it adds to a decoded picture, which files have it, and its training."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import prow
from prow import registry, vivid
from prow.codec import Codec, to_image
from prow.config import STEPS, step_size
from prow.geometry import passes
from prow.tokens import empty_tokens
from prow.training import st_lpips
from prow.training import vivid as training
from prow.training.vivid import write
from prow.vivid import Vivid, condition, grain, repaint
from prow_cli.main import main

Draw = Callable[..., np.ndarray]


def awake() -> Vivid:
    """A network that adds something."""
    torch.manual_seed(3)
    network = Vivid()
    torch.nn.init.normal_(network.leave.weight, std=0.05)
    return network.eval().requires_grad_(False)


@pytest.fixture
def styled(installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vivid:
    """The toy model with a vivid style of its own."""
    network = awake()
    path = write(network, tmp_path, "toy")
    monkeypatch.setattr(registry, "_vivid_file", lambda name: path)
    return network


def test_grain_is_the_same_everywhere() -> None:
    noise = grain(300, 200)
    assert noise.shape == (300, 200) and noise.dtype == torch.float32
    assert noise.abs().max() <= 1 and abs(float(noise.mean())) < 0.01
    assert float(noise.square().mean()) == pytest.approx(1 / 3, rel=0.02)
    for shifted in (noise.roll(1, 0), noise.roll(1, 1), noise.roll((1, 1), (0, 1))):
        assert abs(float((noise * shifted).mean())) < 0.01  # white
    assert torch.equal(grain(7, 5), noise[:7, :5])
    assert noise[3, :4].tolist() == pytest.approx([0.866728, -0.515129, -0.612604, -0.070451], abs=1e-6)


def test_a_new_network_changes_nothing(draw: Draw) -> None:
    picture = torch.from_numpy(draw(41, 23)).permute(2, 0, 1).float()
    assert torch.equal(Vivid()(picture[None], grain(23, 41)[None, None], torch.zeros(1, 2))[0], picture)


@pytest.mark.parametrize("size", [(1, 1), (3, 90), (40, 131)])
def test_strips_give_what_the_whole_gives(
    size: tuple[int, int], codec: Codec, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = prow.tokenize(draw(*size), bytes=60)
    picture = codec.decode(tokens)
    network = awake()
    cond = torch.tensor([condition(tokens, codec.config)])
    whole = network(picture[None], grain(size[1], size[0])[None, None], cond)[0]
    assert not torch.equal(whole, picture)
    for strip in (16, 64, 512):
        monkeypatch.setattr(vivid, "_STRIP", strip)
        torch.testing.assert_close(repaint(network, codec.config, picture, tokens), whole)


def test_the_network_is_told_where_a_stream_ends(codec: Codec, draw: Draw) -> None:
    """By the step of its last pass, in units of full resolution, and by how many tokens there are for how many px."""
    config, plan = codec.config, passes(70, 50, codec.config)
    tokens = codec.encode(draw(70, 50), 30).tokens
    assert [step.depth for step in plan[:6]] == [4, 3, 2, 1, 0, 0]
    told = []
    for count, index in (
        (0, 30 + 4 + 16),
        (1, 30 + 4 + 16),
        (2, 30 + 3 + 12),
        (4, 30 + 1 + 4),
        (5, 30),
        (6, 26),
        (7, 22),
    ):
        rest = tuple(empty_tokens(step.level, config) for step in plan[count:])
        cut = dataclasses.replace(tokens, passes=(*tokens.passes[:count], *rest))
        assert cut.last_step(config) == index
        step, number = condition(cut, config)
        assert step == pytest.approx(math.log2(step_size(index)) / 3 - 2)
        sent = sum(int(part.counts.sum()) for part in tokens.passes[:count])
        assert number == pytest.approx(math.log2((sent + 1) / 3500) / 4 + 2)
        told.append(number)
    assert told == sorted(told)
    nothing = dataclasses.replace(tokens, base=None, passes=tuple(empty_tokens(step.level, config) for step in plan))
    assert nothing.last_step(config) == config.usual_base + 4 + 16
    assert dataclasses.replace(nothing, base=60).last_step(config) == STEPS - 1


def test_any_prefix_can_be_decoded_either_way(styled: Vivid, codec: Codec, draw: Draw) -> None:
    data = prow.encode(draw(70, 50), bytes=400)
    for size in (12, 40, 400):
        faithful, other = prow.decode(data[:size]), prow.decode(data[:size], style="vivid")
        assert other.size == faithful.size == (70, 50)
        assert np.any(np.asarray(other) != np.asarray(faithful))
    tokens = prow.tokenize(draw(70, 50), bytes=400)
    assert np.array_equal(np.asarray(prow.detokenize(tokens, style="vivid")), np.asarray(other))
    painted = repaint(styled, codec.config, codec.decode(tokens), tokens)
    assert np.abs(to_image(painted).astype(int) - np.asarray(other)).max() <= 1  # weights are kept in half precision


def test_command_line(styled: Vivid, draw: Draw, tmp_path: Path) -> None:
    data = prow.encode(draw(30, 20), bytes=100)
    (tmp_path / "a.prow").write_bytes(data)
    for style in ("faithful", "vivid"):
        out = tmp_path / f"{style}.png"
        assert CliRunner().invoke(main, ["decode", str(tmp_path / "a.prow"), str(out), "--style", style]).exit_code == 0
        assert np.array_equal(np.asarray(Image.open(out)), np.asarray(prow.decode(data, style=style)))
    assert CliRunner().invoke(main, ["decode", "a", "b.png", "--style", "loud"]).exit_code == 2
    assert "faithful, vivid" in CliRunner().invoke(main, ["models"]).output


def test_styles_that_there_are_not(installed: None, draw: Draw) -> None:
    data = prow.encode(draw(20, 20), bytes=60)
    with pytest.raises(prow.ModelError, match="style 'vivid' came, model toy has 'faithful' alone"):
        prow.decode(data, style="vivid")
    with pytest.raises(prow.InputError, match="style 'loud' came, wanted one of 'faithful', 'vivid'"):
        prow.decode(data, style="loud")  # type: ignore[arg-type]
    assert [m.vivid_sha256 for m in prow.models()] == [None]


def test_weights_that_do_not_fit(styled: Vivid, draw: Draw, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    data = prow.encode(draw(20, 20), bytes=60)
    save_file({"enter.bias": torch.zeros(3)}, tmp_path / "toy.safetensors")
    with pytest.raises(prow.ModelError, match=r"the weights of toy \(vivid\) do not fit"):
        prow.decode(data, style="vivid")


def test_shipped_style_keeps_near_the_faithful_picture() -> None:
    from skimage import data as photos

    photo = Image.fromarray(photos.chelsea()).resize((224, 150))
    data = prow.encode(photo, bytes=700, effort=1)
    faithful, other = (np.asarray(prow.decode(data, style=s)).astype(float) for s in ("faithful", "vivid"))  # type: ignore[arg-type]
    assert 1 < np.sqrt(np.mean((faithful - other) ** 2)) < 25
    detail = [np.abs(np.diff(x, axis=1)).mean() for x in (faithful, other)]
    assert detail[1] > 1.1 * detail[0]  # it is there to bring some


def test_training_learns_and_keeps_its_weights(codec: Codec, draw: Draw, tmp_path: Path) -> None:
    try:
        st_lpips.load()
    except ImportError as error:
        pytest.skip(str(error))
    (tmp_path / "train").mkdir()
    Image.fromarray(draw(300, 280)).save(tmp_path / "train" / "drawing.png")
    pairs = training.random_pairs(codec, tmp_path / "train", 0.001, random.Random(0))
    val = training.validation_pairs(codec, tmp_path / "train", 1)
    assert pairs[0].original.shape == pairs[0].decoded.shape == val[0].original.shape == (3, 256, 256)
    before = training.figures(Vivid(), st_lpips.load(), val)
    assert before["st_lpips_vivid"] == before["st_lpips_faithful"]
    average = training.train(Vivid(), pairs, val, tmp_path / "out", "toy", 0.02, 1e-3, 1)
    assert average.leave.weight.abs().max() > 0
    kept = Vivid()
    registry.load_weights(kept, (tmp_path / "out" / "toy.safetensors").read_bytes(), "toy", prefix="")
    torch.testing.assert_close(kept.state_dict(), average.state_dict(), rtol=1e-3, atol=1e-5)
