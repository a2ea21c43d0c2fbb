"""Decoding with ONNX Runtime: the same pictures as with torch, from the same tokens, and torch stays out of it."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import draw_picture, forget_models
from safetensors import safe_open
from safetensors.torch import save_file

import prow
from prow import backend, onnx_codec, registry, tiling
from prow.codec import Codec, to_image
from prow.config import KIND_NAMES
from prow.errors import InputError, ModelError
from prow.geometry import Level, levels, passes
from prow.onnx_codec import OnnxCodec, Tiling, double, folder_name, graph_folder, parts
from prow.registry import Model
from prow.stream import PassTokens, Tokens
from prow.training import onnx_export
from prow_cli.main import main

SIZES = [(1, 1), (1, 40), (40, 1), (17, 23), (64, 48), (101, 75)]
MODELS = ("anchor", "prow-small")


@pytest.fixture(autouse=True)
def no_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROW_BACKEND", raising=False)


def draw_tokens(width: int, height: int, model: Model, empty: tuple[int, ...] = (), base: int | None = 40) -> Tokens:
    """Tokens at random: a third of the tiles has none, and none has any in the passes `empty`."""
    rng, config, drawn = np.random.default_rng(width), model.config, []
    ranks, ends = np.arange(config.coefficients), np.array([0, *np.cumsum(config.token_dims)])
    for index, step in enumerate(passes(width, height, config)):
        counts = rng.integers(0, config.tokens + 1, step.level.tiles) * (rng.random(step.level.tiles) < 0.66)
        counts *= index not in empty
        values = rng.laplace(0, 20, (step.level.tiles, len(ranks))) / (1 + ranks) * (ranks < ends[counts][:, None])
        drawn.append(PassTokens(counts.astype(np.int16), values.round().astype(np.int16)))
    return Tokens(width, height, config.model_id, base, tuple(drawn))


def difference(model: Model, tokens: Tokens) -> float:
    """The largest difference between the pictures of torch and ONNX Runtime, in grey levels; 1 if rounding hides it."""
    wanted = Codec(model.network("cpu"), model.tables).decode(tokens)
    got = model.onnx.decode(tokens)
    assert got.dtype == np.float32 and got.shape == (3, tokens.height, tokens.width)
    assert onnx_codec.to_image(got).dtype == np.uint8
    assert np.abs(onnx_codec.to_image(got).astype(int) - to_image(wanted)).max() <= 1
    return float(np.abs(wanted.numpy() - got).max())


# -- the same pictures -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", MODELS)
def test_pictures_equal_those_of_torch(name: str, size: tuple[int, int]) -> None:
    model = registry.load(name)
    assert difference(model, draw_tokens(*size, model)) < 0.01


@pytest.mark.parametrize("empty", [(0, 1, 2, 3, 4, 5), (0, 1), (1, 3, 4, 5), (1, 2, 4, 5), (2, 3), (5,), (4,), ()])
@pytest.mark.parametrize("name", MODELS)
def test_passes_without_tokens(name: str, empty: tuple[int, ...]) -> None:
    model = registry.load(name)
    tokens = draw_tokens(150, 131, model, empty)
    start, middle, full, refine = KIND_NAMES
    kinds = [KIND_NAMES[step.kind] for step in passes(150, 131, model.config)]
    assert kinds == [start, middle, middle, middle, full, refine]
    assert difference(model, tokens) < 0.01
    assert difference(model, dataclasses.replace(tokens, base=None)) < 0.01


def test_cut_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """From bytes to pictures: `prow.decode` in both ways, of a file and of its prefixes."""
    data = prow.encode(draw_picture(70, 49), bytes=400, effort=1)
    for size in (12, 13, 20, 60, 150, 250, 399, 400):
        pictures = []
        for name in ("torch", "onnx"):
            monkeypatch.setenv("PROW_BACKEND", name)
            pictures.append(np.asarray(prow.decode(data[:size]), int))
        assert np.abs(pictures[0] - pictures[1]).max() <= 1
        assert pictures[1].std() > 0 or size < 20


def test_few_tokens_in_a_large_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Levels that are not worth their filters are only made larger, by both."""
    tokens = prow.tokenize(draw_picture(500, 400), bytes=40, effort=1)
    config = registry.load("prow-small").config
    assert 0 < tokens.unfiltered(config) < len(levels(500, 400, config.tile))
    pictures = []
    for name in ("torch", "onnx"):
        monkeypatch.setenv("PROW_BACKEND", name)
        pictures.append(np.asarray(prow.detokenize(tokens), int))
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_strips_and_batches_equal_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model = registry.load("prow-small")
    tokens = draw_tokens(101, 75, model)
    whole = model.onnx.decode(tokens)
    monkeypatch.setattr(onnx_codec, "_STRIP", 16 * 101)
    monkeypatch.setattr(onnx_codec, "_ROWS", 7 * 101)
    monkeypatch.setattr(onnx_codec, "_TILES", 3)
    np.testing.assert_allclose(model.onnx.decode(tokens), whole, rtol=0, atol=0.01)


@pytest.mark.parametrize("size", SIZES)
def test_steps_between_networks_equal_those_of_torch(size: tuple[int, int]) -> None:
    level = Level(*size, tile=8)
    wanted, got = tiling.Tiling(level), Tiling(level)
    rng = np.random.default_rng(0)
    picture = rng.uniform(0, 255, (3, level.height, level.width)).astype(np.float32)
    tiles = got.cut(picture, 0, len(level.rows))
    assert np.array_equal(tiles, wanted.cut(torch.from_numpy(picture)[None]))
    last = len(level.rows) - 1, len(level.rows)
    assert np.array_equal(got.cut(picture, *last), wanted.cut(torch.from_numpy(picture)[None], *last))
    assert np.array_equal(got.join(tiles), picture)
    share = rng.uniform(0, 1, level.tiles).astype(np.float32)
    assert np.array_equal(got.spread(share)[None], wanted.spread(torch.from_numpy(share)))
    for height, width in ((2 * level.height, 2 * level.width), (2 * level.height - 1, 2 * level.width - 1)):
        ahead = rng.normal(0, 50, (3, 2 * level.height + 2, 2 * level.width + 2)).astype(np.float32)
        for more in (None, ahead):
            given = None if more is None else torch.from_numpy(more)[None]
            larger = tiling.double(torch.from_numpy(picture)[None], given, width, height)
            np.testing.assert_allclose(double(picture, more, height, width), larger[0], rtol=0, atol=1e-3)


# -- weights and graphs ------------------------------------------------------------------------------------------


@pytest.fixture
def trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    """prow-small with other weights, installed in place of the real one."""
    original = Path(str(registry._files()["prow-small"]))
    with safe_open(original, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        metadata = file.metadata()
    for name, tensor in tensors.items():
        if name.startswith("network."):
            tensors[name] = (tensor.float() * 1.1).half()
    save_file(tensors, tmp_path / "prow-small.safetensors", metadata=metadata)
    monkeypatch.setattr(registry, "_files", lambda: {"prow-small": tmp_path / "prow-small.safetensors"})
    forget_models()
    yield registry.load("prow-small")
    monkeypatch.undo()
    forget_models()


def test_weights_come_from_the_model_file(trained_again: Model) -> None:
    tokens = draw_tokens(64, 48, trained_again)
    assert difference(trained_again, tokens) < 0.01
    real = Path(onnx_export.__file__).parents[1] / "weights" / "prow-small.safetensors"
    before = registry.parse_model(real.read_bytes(), "prow-small").onnx.decode(tokens)
    assert np.abs(before - trained_again.onnx.decode(tokens)).max() > 1


def test_graphs_are_those_of_the_installed_models() -> None:
    """No graph is missing, none is left over, none holds weights."""
    configs = [registry.load(info.name).config for info in prow.models()]
    wanted = {f"{folder_name(config)}/{part}.onnx" for config in configs for part in parts(config)}
    graphs = Path(onnx_export.GRAPHS)
    assert {str(path.relative_to(graphs)) for path in graphs.rglob("*.onnx")} == wanted
    assert all((graphs / name).stat().st_size < 100_000 for name in wanted)


def test_folder_follows_the_shape_of_the_networks() -> None:
    config = registry.load("prow-small").config
    assert folder_name(dataclasses.replace(config, description="better", refine_shifts=())) == folder_name(config)
    changed = [{"fine_dilations": (1, 2, 1, 1)}, {"heads": 4}, {"decoder_depth": 1}, {"network": False}]
    assert len({folder_name(dataclasses.replace(config, **fields)) for fields in [{}, *changed]}) == 5


def test_weights_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    model = registry.load("prow-small")
    tokens, weights = draw_tokens(16, 16, model), model.weights("network.decoder.")
    assert all(w.dtype == np.float32 for w in weights.values())
    name = "network.decoder.head.weight"
    for wrong in ({**weights, name: weights[name][1:]}, {k: v for k, v in weights.items() if k != name}):
        monkeypatch.setattr(Model, "weights", lambda self, prefix, wrong=wrong: wrong)
        with pytest.raises(ModelError, match="the weights of prow-small do not fit its graph decoder"):
            OnnxCodec(model).decode(tokens)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_export_command(installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs that it writes are those of a model: here of one that needs other graphs than the installed ones."""
    model = registry.load("toy")
    assert not graph_folder(model.config).is_dir()
    onnx_export.export("toy", tmp_path)
    monkeypatch.setattr(onnx_codec, "graph_folder", lambda config: tmp_path / folder_name(config))
    for size in ((61, 45), (1, 1)):
        assert difference(model, draw_tokens(*size, model)) < 0.01


# -- the choice --------------------------------------------------------------------------------------------------

WITHOUT_TORCH = """
import sys
from pathlib import Path
loaded = lambda *names: [n for n in names if n in sys.modules]
import prow, prow.backend
prow.backend.gpu_in_sight = lambda: False
data = Path(sys.argv[1]).read_bytes()
assert prow.inspect(data).state == "whole"
assert not loaded("torch", "onnxruntime"), "too early"
prow.decode(data).save(sys.argv[2])
assert loaded("onnxruntime") and not loaded("torch", "onnx", "onnxscript"), "torch came in"
"""


def test_decodes_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = tmp_path / "a.prow", tmp_path / "a.png"
    source.write_bytes(prow.encode(draw_picture(40, 33), bytes=200, effort=1))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, str(source), str(out)], env=env, check=True, timeout=120)
    monkeypatch.setenv("PROW_BACKEND", "torch")
    with prow.image.Image.open(out) as picture:
        assert np.abs(np.asarray(picture, int) - np.asarray(prow.decode(source.read_bytes()), int)).max() <= 1


def test_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    config, toy = registry.load("prow-small").config, dataclasses.replace(registry.load("prow-small").config, width=90)
    for wish, gpu, device, chosen in (
        ("", False, "auto", "onnx"),
        ("", True, "auto", "torch"),
        ("", True, "cpu", "onnx"),
        ("", False, "cuda", "torch"),
        ("torch", False, "cpu", "torch"),
        ("triton", False, "auto", "torch"),
        ("onnx", True, "auto", "onnx"),
    ):
        monkeypatch.setenv("PROW_BACKEND", wish)
        monkeypatch.setattr(backend, "gpu_in_sight", lambda gpu=gpu: gpu)
        assert backend.for_decoding(config, device) == chosen
    monkeypatch.setenv("PROW_BACKEND", "")
    assert backend.for_decoding(toy, "cpu") == "torch"
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else real(name))
    assert backend.for_decoding(config, "cpu") == "torch"


def test_impossible_wishes_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    config = registry.load("prow-small").config
    monkeypatch.setenv("PROW_BACKEND", "cuda")
    for call in (lambda: backend.for_decoding(config, "cpu"), lambda: prow.encode(draw_picture(8, 8), bytes=64)):
        with pytest.raises(InputError, match="PROW_BACKEND is 'cuda', wanted one of onnx, torch, triton"):
            call()
    monkeypatch.setenv("PROW_BACKEND", "onnx")
    with pytest.raises(InputError, match="runs on the CPU, and device 'cuda' was asked for"):
        backend.for_decoding(config, "cuda")
    with pytest.raises(InputError, match="no graphs for model prow-small"):
        backend.for_decoding(dataclasses.replace(config, width=90), "cpu")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="ONNX Runtime is not installed"):
        backend.for_decoding(config, "cpu")


def test_encoding_takes_torch_whatever_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = {}
    for name in ("onnx", "torch"):
        monkeypatch.setenv("PROW_BACKEND", name)
        data[name] = prow.encode(draw_picture(24, 24), bytes=100, effort=1)
    assert data["onnx"] == data["torch"]


def test_models_says_which_backend_does_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "gpu_in_sight", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("PROW_BACKEND", raising=False)
    config = registry.load("prow-small").config
    cpu = {"onnx": "decodes, on the CPU", "torch": "encodes, on the CPU", "triton": "nothing: torch finds no GPU"}
    assert backend.explain(config) == cpu
    lines = CliRunner().invoke(main, ["models", "--verbose"]).output.splitlines()
    assert lines[-3:] == [f"backend {name:<8} {what}" for name, what in cpu.items()]
    monkeypatch.setenv("PROW_BACKEND", "torch")
    assert backend.explain(config) == {
        "onnx": "nothing: PROW_BACKEND is 'torch'",
        "torch": "encodes and decodes, on the CPU",
        "triton": "nothing: PROW_BACKEND is 'torch'",
    }
    monkeypatch.setenv("PROW_BACKEND", "triton")
    assert backend.explain(config)["torch"] == "nothing: PROW_BACKEND asks for triton"
    monkeypatch.delenv("PROW_BACKEND")
    monkeypatch.setattr(backend, "gpu_in_sight", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: True)
    assert backend.explain(config) == {
        "onnx": "nothing: a GPU is in sight, which it cannot use",
        "torch": "encodes and decodes, on the GPU",
        "triton": "attention, on the GPU",
    }
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: None)
    found = backend.explain(config)
    assert found["onnx"] == "nothing: ONNX Runtime is not installed (pip install onnxruntime)"
    assert found["triton"] == "nothing: it is not installed (pip install 'prow[gpu]')"


def test_gpu_in_sight(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(backend.shutil, "which", lambda name: None)
    monkeypatch.setattr(backend, "_DRIVERS", (str(tmp_path / "none"),))
    assert not backend.gpu_in_sight()
    monkeypatch.setattr(backend, "_DRIVERS", (str(tmp_path / "none"), str(tmp_path)))
    assert backend.gpu_in_sight()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not backend.gpu_in_sight()


@pytest.mark.parametrize("given", ["1", "2,1", "", "many"])
def test_threads(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    model = registry.load("anchor")
    codec = OnnxCodec(model)
    assert codec.decode(draw_tokens(20, 20, model)).shape == (3, 20, 20)
    threads = codec._sessions["decoder"].get_session_options().intra_op_num_threads
    assert threads == {"1": 1, "2,1": 2}.get(given, 0)
