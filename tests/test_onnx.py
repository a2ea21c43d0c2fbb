"""ONNX Runtime: the same tokens and the same pictures as with torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_picture, forget_models, psnr
from safetensors import safe_open
from safetensors.torch import save_file

import prow
from prow import base_codec, distortion, onnx_codec, rate, registry, tiling
from prow.codec import Codec, to_image
from prow.config import KIND_NAMES
from prow.errors import ModelError
from prow.geometry import Level, levels, passes
from prow.onnx_codec import OnnxCodec, Tiling, double, folder_name, graph_folder, parts
from prow.registry import Model
from prow.tokens import PassTokens, Tokens
from prow.training import onnx_export

SIZES = [(1, 1), (1, 40), (40, 1), (17, 23), (64, 48), (101, 75)]
MODELS = ("anchor", "prow-small")


@pytest.fixture(autouse=True)
def no_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROW_BACKEND", raising=False)


def draw_tokens(width: int, height: int, model: Model, empty: tuple[int, ...] = (), base: int | None = 40) -> Tokens:
    """Tokens at random: a third of the tiles has none, the first one some, and none has any in the passes `empty`."""
    rng, config, drawn = np.random.default_rng(width), model.config, []
    ranks, ends = np.arange(config.coefficients), np.array([0, *np.cumsum(config.token_dims)])
    for index, step in enumerate(passes(width, height, config)):
        counts = rng.integers(0, config.tokens + 1, step.level.tiles) * (rng.random(step.level.tiles) < 0.66)
        counts[0] = max(counts[0], 1)
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


REFINING = (5, 6, 7, 8, 9, 10)  # passes of 150 x 131 px
EMPTY = [range(11), (0, 1), (1, 3, 4, *REFINING), (1, 2, 4, *REFINING), (2, 3), REFINING, (5, 6, 8), (4,), ()]


@pytest.mark.parametrize("empty", EMPTY)
@pytest.mark.parametrize("name", MODELS)
def test_passes_without_tokens(name: str, empty: tuple[int, ...]) -> None:
    model = registry.load(name)
    tokens = draw_tokens(150, 131, model, empty)
    start, middle, full, refine = KIND_NAMES
    kinds = [KIND_NAMES[step.kind] for step in passes(150, 131, model.config)]
    assert kinds == [start, middle, middle, middle, full, *[refine] * len(REFINING)]
    assert {i for i, part in enumerate(tokens.passes) if not part.counts.any()} == set(empty)
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
    light, full = tokens.filter_depths(config)
    assert 0 < light < full < len(levels(500, 400, config.tile))
    pictures = []
    for name in ("torch", "onnx"):
        monkeypatch.setenv("PROW_BACKEND", name)
        pictures.append(np.asarray(prow.detokenize(tokens), int))
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_strips_and_batches_equal_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model = registry.load("prow-small")
    tokens = draw_tokens(101, 75, model)
    whole = model.onnx.decode(tokens)
    monkeypatch.setattr(onnx_codec, "STRIP", 16 * 101)
    monkeypatch.setattr(onnx_codec, "_ROWS", 7 * 101)
    monkeypatch.setattr(base_codec, "TILES", 3)
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
    for back in (False, True):
        lapped = got.lap(picture.copy(), back=back)
        assert lapped.dtype == np.float32
        np.testing.assert_allclose(lapped, wanted.lap(torch.from_numpy(picture)[None], back=back)[0], rtol=0, atol=1e-3)
        assert np.allclose(lapped, picture, atol=1) == (level.tiles == 1)
        np.testing.assert_allclose(got.lap(lapped, back=not back), picture, rtol=0, atol=1e-3)
    share = rng.uniform(0, 1, level.tiles).astype(np.float32)
    assert np.array_equal(got.spread(share)[None], wanted.spread(torch.from_numpy(share)))
    for height, width in ((2 * level.height, 2 * level.width), (2 * level.height - 1, 2 * level.width - 1)):
        ahead = rng.normal(0, 50, (3, 2 * level.height + 2, 2 * level.width + 2)).astype(np.float32)
        for more in (None, ahead):
            given = None if more is None else torch.from_numpy(more)[None]
            larger = tiling.double(torch.from_numpy(picture)[None], given, width, height)
            np.testing.assert_allclose(double(picture, more, height, width), larger[0], rtol=0, atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 5), (31, 16), (101, 75)])
def test_halving_and_distortion_equal_those_of_torch(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    target, other = rng.uniform(0, 255, (2, 3, *size)).astype(np.float32)
    halved = tiling.halve(torch.from_numpy(target)[None])[0]
    np.testing.assert_allclose(onnx_codec.halve(target), halved, rtol=0, atol=1e-4)
    for picture in (target, other, 0.9 * target + 0.1 * other):
        for full in (True, False):
            tensors = torch.from_numpy(picture)[None], torch.from_numpy(target)[None]
            wanted = float(distortion.log_distortion(*tensors, full=full))
            assert onnx_codec.log_distortion(picture, target, full=full) == pytest.approx(wanted, abs=0.02)


# -- the same tokens ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", MODELS)
def test_tokens_equal_those_of_torch(name: str, size: tuple[int, int]) -> None:
    """But for a coefficient now and then that is as near to one integer as to the next. Up to two refining passes: one
    such coefficient changes what all passes behind it have to mend, the more of it the finer they are."""
    model, pixels = registry.load(name), draw_picture(*size)
    mine, other = model.onnx, Codec(model.network("cpu"), model.tables)
    for got, wanted in zip(mine.targets(pixels), other.targets(pixels), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-3)
    count = passes(*size, model.config)[0].depth + 3
    found, expected = (codec.encode(pixels, 36, targets=codec.targets(pixels, count)).tokens for codec in (mine, other))
    values = [(a.values != b.values).mean() for a, b in zip(found.passes, expected.passes, strict=True)]
    counts = [(a.counts != b.counts).mean() for a, b in zip(found.passes, expected.passes, strict=True)]
    assert max(values) < 0.01 and np.mean(counts) < 0.02
    assert all(part.counts.any() for part in found.passes[2:count]) or size == (1, 1)
    assert [part.values.dtype for part in found.passes] == [np.int16] * len(found.passes)


@pytest.mark.parametrize("asked", [{"bytes": 300, "effort": 5}, {"bytes": 60, "effort": 1}, {"quality": 40}])
def test_files_as_good_as_those_of_torch(asked: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, found = draw_picture(90, 61), {}
    for name in ("onnx", "torch"):
        monkeypatch.setenv("PROW_BACKEND", name)
        found[name] = prow.encode(pixels, **asked)  # type: ignore[arg-type]
    assert len(found["onnx"]) == pytest.approx(len(found["torch"]), abs=0 if "bytes" in asked else 3)
    quality = [psnr(pixels, prow.decode(data)) for data in found.values()]
    assert quality[0] == pytest.approx(quality[1], abs=0.1)


def test_only_what_torch_alone_can_is_refused() -> None:
    codec, pixels = registry.load("anchor").onnx, draw_picture(20, 20)
    with pytest.raises(ValueError, match="allocation 'even' came, without torch there is 'slope' alone"):
        codec.encode(pixels, 36, allocation="even")
    with pytest.raises(TypeError, match="OnnxCodec came, wanted a codec in torch"):
        rate.at_bytes(codec, [pixels], 60, 6)


# -- weights and graphs ------------------------------------------------------------------------------------------


@pytest.fixture
def trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    """prow-small with other weights, installed in place of the real one."""
    original = registry._files()["prow-small"]
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


def test_each_network_has_a_graph_of_its_own() -> None:
    """What chooses tokens and what inverts the transform has no weights, and there is nothing else without networks."""
    small, anchor = (registry.load(name) for name in ("prow-small", "anchor"))
    networks = ("decoder", "coarse_filter", "fine_filter", "light_filter")
    assert parts(small.config) == ("encoder", "inverse", *networks) and parts(anchor.config) == ("encoder", "inverse")
    weights = {part: set(small.weights(f"network.{part}.")) for part in parts(small.config)}
    assert [part for part, names in weights.items() if not names] == ["encoder", "inverse"]
    assert set.union(*weights.values()) == set(small.weights("network."))
    assert not anchor.weights("network.")


def test_folder_follows_the_shape_of_the_networks() -> None:
    config = registry.load("prow-small").config
    schedule = {"usual_base": 30, "octave_step": 2, "refine_shifts": ()}
    assert folder_name(dataclasses.replace(config, description="better", **schedule)) == folder_name(config)
    changed = [{"fine_dilations": (1, 2, 1, 1)}, {"heads": 4}, {"decoder_depth": 1}, {"network": False}]
    assert len({folder_name(dataclasses.replace(config, **fields)) for fields in [{}, *changed]}) == 5


def test_weights_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    model = registry.load("prow-small")
    tokens, weights = draw_tokens(16, 16, model), model.weights("network.decoder.")
    assert all(w.dtype == np.float32 for w in weights.values())
    name = "network.decoder.head.weight"
    for wrong in ({**weights, name: weights[name][1:]}, {k: v for k, v in weights.items() if k != name}):
        given = {"network.inverse.": {}, "network.decoder.": wrong}
        monkeypatch.setattr(Model, "weights", lambda self, prefix, given=given: given[prefix])
        with pytest.raises(ModelError, match="the weights of prow-small do not fit its graph decoder"):
            OnnxCodec(model).decode(tokens)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_export_command(installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs that it writes are those of a model: here of one that needs other graphs than the installed ones."""
    model = registry.load("toy")
    assert not graph_folder(model.config).is_dir()
    onnx_export.export("toy", tmp_path)
    written = (tmp_path / folder_name(model.config)).iterdir()
    assert {path.name for path in written} == {f"{part}.onnx" for part in parts(model.config)}
    monkeypatch.setattr(onnx_codec, "graph_folder", lambda config: tmp_path / folder_name(config))
    for size in ((61, 45), (1, 1)):
        assert difference(model, draw_tokens(*size, model)) < 0.01


@pytest.mark.parametrize("given", ["1", "2,1", "", "many"])
def test_threads(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    model = registry.load("anchor")
    codec = OnnxCodec(model)
    assert codec.decode(draw_tokens(20, 20, model)).shape == (3, 20, 20)
    threads = codec._sessions["inverse"].get_session_options().intra_op_num_threads
    assert threads == {"1": 1, "2,1": 2}.get(given, 0)
