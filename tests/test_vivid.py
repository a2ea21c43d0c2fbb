"""The vivid style: what it adds to a decoded picture, which files have it, and its training."""

from __future__ import annotations

import dataclasses
import math
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from conftest import Draw, draw_picture, forget_models
from PIL import Image
from safetensors.torch import save_file

import prow
from prow import registry
from prow.backends import select
from prow.backends.onnx_backend import OnnxBackend
from prow.backends.torch_backend import TorchBackend, load_backend, load_weights
from prow.coding import vivid
from prow.coding.codec import Codec
from prow.coding.vivid import condition, grain, repaint
from prow.entropy.model import StreamSpec
from prow.format.config import STEPS, step_size
from prow.format.tokens import empty_tokens
from prow.networks.vivid import Vivid
from prow.options import STYLES
from prow.training import onnx_export, st_lpips
from prow.training import vivid as training
from prow.training.vivid import write
from prow_cli.main import main


def awake() -> Vivid:
    """A network that adds something."""
    torch.manual_seed(3)
    network = Vivid()
    torch.nn.init.normal_(network.leave.weight, std=0.05)
    return network.eval().requires_grad_(False)


def on_torch(codec: Codec, network: Vivid) -> TorchBackend:
    """The codec's backend with a network of the vivid style."""
    assert isinstance(codec.backend, TorchBackend)
    return dataclasses.replace(codec.backend, vivid=network)


@pytest.fixture
def styled(installed: None, toy_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vivid:
    """The toy model with a vivid style of its own."""
    network, file = awake(), tmp_path / "toy.safetensors"
    shutil.copy(toy_file, file)
    write(network, tmp_path / "vivid", "toy")
    monkeypatch.setattr(registry, "_files", lambda: {"toy": file})
    forget_models()
    return network


def noise_of(height: int, width: int) -> torch.Tensor:
    """[1, 1, H, W]"""
    return torch.from_numpy(grain(height, width))[None, None]


# -- in torch ----------------------------------------------------------------------------------------------------


def test_grain_is_the_same_everywhere() -> None:
    noise = grain(300, 200)
    assert noise.shape == (300, 200) and noise.dtype == np.float32
    assert np.abs(noise).max() <= 1 and abs(noise.mean()) < 0.01
    assert np.square(noise).mean() == pytest.approx(1 / 3, rel=0.02)
    for axes in (0, 1, (0, 1)):
        assert abs((noise * np.roll(noise, 1, axes)).mean()) < 0.01  # white
    assert np.array_equal(grain(7, 5), noise[:7, :5])
    assert noise[3, :4].tolist() == pytest.approx([0.866728, -0.515129, -0.612604, -0.070451], abs=1e-6)


def test_a_new_network_changes_nothing(draw: Draw) -> None:
    picture = torch.from_numpy(draw(41, 23)).permute(2, 0, 1).float()
    assert torch.equal(Vivid()(picture[None], noise_of(23, 41), torch.zeros(1, 2))[0], picture)


@pytest.mark.parametrize("size", [(1, 1), (3, 90), (40, 131)])
def test_strips_give_what_the_whole_gives(
    size: tuple[int, int], codec: Codec, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = prow.tokenize(draw(*size), bytes=60)
    picture = codec.decode(tokens)
    kept, network = picture.clone(), awake()
    cond = torch.tensor([condition(tokens, StreamSpec(*size, codec.model))])
    whole = network(picture[None], noise_of(size[1], size[0]), cond)[0]
    assert not torch.equal(whole, picture)
    for strip in (16, 64, 512):
        monkeypatch.setattr(vivid, "_STRIP", strip)
        torch.testing.assert_close(repaint(on_torch(codec, network), picture, tokens), whole)
    assert torch.equal(picture, kept)


def test_the_network_is_told_where_a_stream_ends(codec: Codec, draw: Draw) -> None:
    """By the step of its last pass, in units of full resolution, and by how many tokens there are for how many px."""
    config, spec = codec.model.config, StreamSpec(70, 50, codec.model)
    tokens, plan = codec.encode(draw(70, 50), 30).tokens, spec.passes
    assert [pass_.octaves for pass_ in plan[:6]] == [4, 3, 2, 1, 0, 0]
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
        rest = tuple(empty_tokens(pass_.level, config) for pass_ in plan[count:])
        cut = dataclasses.replace(tokens, passes=(*tokens.passes[:count], *rest))
        step, number = condition(cut, spec)
        assert step == pytest.approx(math.log2(step_size(index)) / 3 - 2)
        sent = sum(int(part.counts.sum()) for part in tokens.passes[:count])
        assert number == pytest.approx(math.log2((sent + 1) / 3500) / 4 + 2)
        told.append(number)
    assert told == sorted(told)
    for base, index in ((None, config.usual_base + 4 + 16), (60, STEPS - 1)):
        assert condition(spec.empty(base), spec)[0] == pytest.approx(math.log2(step_size(index)) / 3 - 2)


def test_any_prefix_can_be_decoded_either_way(styled: Vivid, codec: Codec, draw: Draw) -> None:
    data = prow.encode(draw(70, 50), bytes=400)
    for size in (12, 40, 400):
        faithful, other = prow.decode(data[:size]), prow.decode(data[:size], style="vivid")
        assert other.size == faithful.size == (70, 50)
        assert np.any(np.asarray(other) != np.asarray(faithful))
    tokens = prow.tokenize(draw(70, 50), bytes=400)
    assert np.array_equal(np.asarray(prow.detokenize(tokens, style="vivid")), np.asarray(other))
    painted = codec.backend.to_image(repaint(on_torch(codec, styled), codec.decode(tokens), tokens))
    assert np.abs(painted.astype(int) - np.asarray(other)).max() <= 1  # weights are kept in half precision


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
    data = prow.encode(draw(20, 20), bytes=60)
    save_file({"enter.bias": torch.zeros(3)}, tmp_path / "vivid" / "toy.safetensors")
    forget_models()
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


# -- on ONNX Runtime ---------------------------------------------------------------------------------------------


def other_style(tmp_path: Path) -> registry.ModelFile:
    """prow-small with a style of its own."""
    content = write(awake(), tmp_path, "other").read_bytes()
    return dataclasses.replace(registry.load("prow-small"), vivid=content)


@pytest.mark.parametrize(
    ("size", "budget"), [((1, 1), 40), ((1, 40), 60), ((40, 1), 60), ((37, 23), 200), ((90, 61), 400)]
)
def test_onnx_paints_as_torch_does(size: tuple[int, int], budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data, used = prow.encode(draw_picture(*size), bytes=budget, effort=1), []
    open_backend = select.open_backend

    def opened(*given: object, **options: object) -> object:
        used.append(open_backend(*given, **options))  # type: ignore[arg-type]
        return used[-1]

    monkeypatch.setattr(select, "open_backend", opened)
    for part in (12, max(12, len(data) // 2), len(data)):
        pictures = []
        for name in ("torch", "onnx"):
            monkeypatch.setenv("PROW_BACKEND", name)
            faithful, other = (np.asarray(prow.decode(data[:part], style=style), int) for style in STYLES)
            assert isinstance(used[-1], OnnxBackend if name == "onnx" else TorchBackend)
            pictures.append(other)
            assert size == (1, 1) or np.any(other != faithful)
        assert np.abs(pictures[0] - pictures[1]).max() <= 2


def test_onnx_paints_a_style_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights come from the model file alone; in strips as at once."""
    model = other_style(tmp_path)
    mine, theirs = OnnxBackend(model), load_backend(model, "cpu", vivid=True)
    tokens = prow.tokenize(draw_picture(53, 77), bytes=300, effort=1)
    picture = Codec(mine).decode(tokens)
    kept = picture.copy()
    got, wanted = repaint(mine, picture, tokens), repaint(theirs, torch.from_numpy(picture), tokens)
    assert got.dtype == np.float32 and got.shape == (3, 77, 53)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=0.01)
    assert np.abs(got - repaint(OnnxBackend(registry.load("prow-small")), picture, tokens)).max() > 1
    for strip in (16, 64, 53 * 40):
        monkeypatch.setattr(vivid, "_STRIP", strip)
        np.testing.assert_allclose(repaint(mine, picture, tokens), got, rtol=0, atol=0.01)
    assert np.array_equal(picture, kept)


WITHOUT_TORCH = """
import sys
from pathlib import Path
import prow
data = Path(sys.argv[1]).read_bytes()
prow.decode(data, style="vivid").save(sys.argv[2])
prow.decode_many([data, data[:60]], style="vivid")
assert "onnxruntime" in sys.modules and "torch" not in sys.modules, "torch came in"
"""


def test_onnx_paints_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, out = tmp_path / "a.prow", tmp_path / "a.png"
    file.write_bytes(prow.encode(draw_picture(40, 33), bytes=200, effort=1))
    paths = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "PROW_BACKEND": "onnx"}
    subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, file, out], env={**os.environ, **paths}, check=True, timeout=120
    )
    monkeypatch.setenv("PROW_BACKEND", "torch")
    with Image.open(out) as picture:
        wanted = np.asarray(prow.decode(file.read_bytes(), style="vivid"), int)
        assert np.abs(np.asarray(picture, int) - wanted).max() <= 2


@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_a_style_that_a_model_has_not_is_an_error_before_all_work(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROW_BACKEND", name)
    pixels = draw_picture(20, 20)
    data, tokens = prow.encode(pixels, bytes=60, model="anchor"), prow.tokenize(pixels, bytes=60, model="anchor")

    def work(*given: object, **options: object) -> None:
        raise AssertionError("work was done")

    monkeypatch.setattr(select, "open_backend", work)
    monkeypatch.setattr(Codec, "_until", work)
    for call in (
        lambda: prow.decode(data, style="vivid"),
        lambda: prow.decode_many([data], style="vivid"),
        lambda: prow.detokenize(tokens, style="vivid"),
    ):
        with pytest.raises(prow.ModelError, match="style 'vivid' came, model anchor has 'faithful' alone"):
            call()


def test_weights_that_do_not_fit_the_graph(tmp_path: Path) -> None:
    weights = awake().state_dict()
    for wrong in ({"enter.bias": torch.zeros(3)}, weights | {"leave.weight": torch.zeros(3, 24, 1, 1)}):
        save_file(wrong, tmp_path / "wrong.safetensors")
        model = dataclasses.replace(registry.load("prow-small"), vivid=(tmp_path / "wrong.safetensors").read_bytes())
        with pytest.raises(prow.ModelError, match="the weights of prow-small do not fit its graph vivid"):
            OnnxBackend(model).repaint(np.zeros((1, 3, 9, 9), np.float32), grain(9, 9), (0.0, 0.0))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_graph_in_the_package_is_that_of_the_network() -> None:
    """To the byte where the same release of torch writes it."""
    content = (onnx_export.GRAPHS / "vivid" / "vivid.onnx").read_bytes()
    kept, written = onnx.load_model_from_string(content), onnx_export.vivid_graph()

    def outline(model: onnx.ModelProto) -> list[list[tuple[str, ...]]]:
        graph = model.graph
        shapes = [(t.name, *(str(n) for n in t.dims)) for t in graph.initializer if t.name.startswith("vivid.")]
        return [sorted(shapes), [(value.name,) for value in (*graph.input, *graph.output)]]

    assert outline(kept) == outline(written)
    assert {name for name, *_ in outline(kept)[0]} == {f"vivid.{name}" for name in Vivid().state_dict()}
    assert len(content) < 100_000
    if kept.producer_version == written.producer_version:
        assert written.SerializeToString(deterministic=True) == content


# -- training ----------------------------------------------------------------------------------------------------


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
    load_weights(kept, (tmp_path / "out" / "toy.safetensors").read_bytes(), "toy", prefix="")
    torch.testing.assert_close(kept.state_dict(), average.state_dict(), rtol=1e-3, atol=1e-5)
