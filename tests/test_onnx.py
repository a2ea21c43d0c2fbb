"""ONNX Runtime: the same tokens and the same pictures as with torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_picture, forget_models, psnr
from safetensors import safe_open
from safetensors.torch import save_file

import prow
from prow import registry
from prow.backends import base, numpy_ops, onnx_backend
from prow.backends.onnx_backend import OnnxBackend, folder_name, graph_file, graph_names
from prow.backends.torch_backend import load_backend
from prow.coding.codec import Codec, Wanted
from prow.coding.reconstruction import filter_octaves
from prow.entropy.model import StreamSpec
from prow.errors import ModelError
from prow.format.config import KIND_NAMES
from prow.format.geometry import levels, passes
from prow.format.tokens import PassTokens, Tokens
from prow.registry import ModelFile
from prow.training import onnx_export

SIZES = [(1, 1), (1, 40), (40, 1), (17, 23), (64, 48), (101, 75)]
MODELS = ("anchor", "prow-small")


@pytest.fixture(autouse=True)
def no_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROW_BACKEND", raising=False)


def on_torch(model: ModelFile) -> Codec:
    return Codec(load_backend(model, "cpu"))


def on_onnx(model: ModelFile) -> Codec:
    return Codec(OnnxBackend(model))


def draw_tokens(width: int, height: int, model: ModelFile, empty: tuple[int, ...] = ()) -> Tokens:
    """Tokens at random: a third of the tiles has none, the first one some, and none has any in the passes `empty`."""
    rng, config, drawn = np.random.default_rng(width), model.config, []
    ranks, ends = np.arange(config.coefficients), np.array([0, *np.cumsum(config.token_dims)])
    for index, pass_ in enumerate(passes(width, height, config)):
        tiles = pass_.level.tiles
        counts = rng.integers(0, config.tokens + 1, tiles) * (rng.random(tiles) < 0.66)
        counts[0] = max(counts[0], 1)
        counts *= index not in empty
        values = rng.laplace(0, 20, (tiles, len(ranks))) / (1 + ranks) * (ranks < ends[counts][:, None])
        drawn.append(PassTokens(counts.astype(np.int16), values.round().astype(np.int16)))
    return Tokens(width, height, config.model_id, 40, tuple(drawn))


def difference(model: ModelFile, tokens: Tokens) -> float:
    """The largest difference between the pictures of torch and ONNX Runtime, in grey levels."""
    theirs, mine = on_torch(model), on_onnx(model)
    wanted, got = theirs.decode(tokens), mine.decode(tokens)
    assert got.dtype == np.float32 and got.shape == (3, tokens.height, tokens.width)
    image = mine.backend.to_image(got)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - theirs.backend.to_image(wanted)).max() <= 1
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
    kinds = [KIND_NAMES[pass_.kind] for pass_ in passes(150, 131, model.config)]
    assert kinds == [start, middle, middle, middle, full, *[refine] * len(REFINING)]
    assert {i for i, part in enumerate(tokens.passes) if not part.some} == set(empty)
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
    model = registry.load("prow-small")
    light, full = filter_octaves(tokens, StreamSpec(500, 400, model))
    assert 0 < light < full < len(levels(500, 400, model.config.tile))
    pictures = []
    for name in ("torch", "onnx"):
        monkeypatch.setenv("PROW_BACKEND", name)
        pictures.append(np.asarray(prow.detokenize(tokens), int))
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_strips_and_batches_equal_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model = registry.load("prow-small")
    tokens = draw_tokens(101, 75, model)
    codec = on_onnx(model)
    whole = codec.decode(tokens)
    monkeypatch.setattr(onnx_backend, "BLOCK", 20)
    monkeypatch.setattr(numpy_ops, "_PIXELS", 7 * 101)
    monkeypatch.setattr(base, "TILES", 3)
    np.testing.assert_allclose(codec.decode(tokens), whole, rtol=0, atol=0.01)


@pytest.mark.parametrize("empty", [(), (0, 2), tuple(range(2, 11))])
def test_many_pictures_equal_each(empty: tuple[int, ...]) -> None:
    """Pictures of one size go through the passes together, whatever their bases and their tokens."""
    model = registry.load("prow-small")
    codec, one = on_onnx(model), draw_tokens(61, 45, model)
    parts = draw_tokens(61, 45, model, empty).passes
    parts = tuple(dataclasses.replace(part, values=-part.values) for part in parts)
    other = dataclasses.replace(one, base=30, passes=(*parts[:-1], one.passes[-1]))
    third = dataclasses.replace(one, base=None)
    assert len({codec.alike(tokens) for tokens in (one, other, third)}) == 1
    together = codec.decode_many([one, other, third])
    for got, tokens in zip(together, (one, other, third), strict=True):
        np.testing.assert_allclose(got, codec.decode(tokens), rtol=0, atol=0.01)
    assert np.abs(together[0] - together[1]).max() > 1 and np.abs(together[0] - together[2]).max() > 1


# -- the same tokens ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", MODELS)
def test_tokens_equal_those_of_torch(name: str, size: tuple[int, int]) -> None:
    """But for a coefficient now and then that is as near to one integer as to the next. Up to two refining passes: one
    such coefficient changes what all passes behind it have to mend, the more of it the finer they are."""
    model, pixels = registry.load(name), draw_picture(*size)
    mine, other = on_onnx(model), on_torch(model)
    for got, wanted in zip(mine.backend.targets(pixels), other.backend.targets(pixels), strict=True):
        assert got.dtype == (np.uint8 if got.shape[2:] == pixels.shape[:2] else np.float32)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-3)
    count = passes(*size, model.config)[0].octaves + 3
    found, expected = (
        codec.encode_many(size, [Wanted(36, codec.backend.targets(pixels, count))])[0].tokens for codec in (mine, other)
    )
    values = [(a.values != b.values).mean() for a, b in zip(found.passes, expected.passes, strict=True)]
    counts = [(a.counts != b.counts).mean() for a, b in zip(found.passes, expected.passes, strict=True)]
    assert max(values) < 0.01 and np.mean(counts) < 0.02
    assert all(part.some for part in found.passes[2:count]) or size == (1, 1)
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


# -- weights and graphs ------------------------------------------------------------------------------------------


@pytest.fixture
def trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelFile]:
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


def test_weights_come_from_the_model_file(trained_again: ModelFile) -> None:
    tokens = draw_tokens(64, 48, trained_again)
    assert difference(trained_again, tokens) < 0.01
    real = Path(onnx_export.__file__).parents[1] / "weights" / "prow-small.safetensors"
    before = on_onnx(registry.parse_model(real.read_bytes(), "prow-small")).decode(tokens)
    assert np.abs(before - on_onnx(trained_again).decode(tokens)).max() > 1


def test_graphs_are_those_of_the_installed_models() -> None:
    """No graph is missing, none is left over, none holds weights."""
    configs = [registry.load(info.name).config for info in prow.models()]
    wanted = {f"{folder_name(config)}/{name}.onnx" for config in configs for name in graph_names(config)}
    wanted.add("vivid/vivid.onnx")
    graphs = Path(onnx_export.GRAPHS)
    assert {str(path.relative_to(graphs)) for path in graphs.rglob("*.onnx")} == wanted
    assert all((graphs / name).stat().st_size < 100_000 for name in wanted)
    assert {graph_file(config, name) for config in configs for name in (*graph_names(config), "vivid")} == {
        graphs / name for name in wanted
    }


def test_each_network_has_a_graph_of_its_own() -> None:
    """What chooses tokens and what inverts the transform has no weights, and there is nothing else without networks."""
    small, anchor = (registry.load(name) for name in ("prow-small", "anchor"))
    networks = ("decoder", "coarse_filter", "fine_filter", "light_filter")
    assert graph_names(small.config) == ("encoder", "inverse", *networks)
    assert graph_names(anchor.config) == ("encoder", "inverse")
    weights = {name: set(small.weights(f"network.{name}.")) for name in graph_names(small.config)}
    assert [name for name, names in weights.items() if not names] == ["encoder", "inverse"]
    assert set.union(*weights.values()) == set(small.weights("network."))
    assert not anchor.weights("network.")


def test_folder_follows_the_shape_of_the_networks() -> None:
    config = registry.load("prow-small").config
    schedule = {"usual_base": 30, "octave_step": 2, "refine_shifts": ()}
    assert folder_name(dataclasses.replace(config, description="better", **schedule)) == folder_name(config)
    changed = [{"fine_dilations": (1, 2, 1, 1)}, {"heads": 4}, {"decoder_depth": 1}, {"network": False}]
    grey = {"channels": 1, "token_dims": (16, 48, 192)}
    assert len({folder_name(dataclasses.replace(config, **fields)) for fields in [{}, grey, *changed]}) == 6


def test_weights_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    model = registry.load("prow-small")
    tokens, weights = draw_tokens(16, 16, model), model.weights("network.decoder.")
    assert all(w.dtype == np.float32 for w in weights.values())
    name = "network.decoder.head.weight"
    for wrong in ({**weights, name: weights[name][1:]}, {k: v for k, v in weights.items() if k != name}):
        given = {"network.inverse.": {}, "network.decoder.": wrong}
        monkeypatch.setattr(ModelFile, "weights", lambda self, prefix, given=given: given[prefix])
        with pytest.raises(ModelError, match="the weights of prow-small do not fit its graph decoder"):
            on_onnx(model).decode(tokens)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_export_command(installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs that it writes are those of a model: here of one that needs other graphs than the installed ones."""
    model = registry.load("toy")
    assert not graph_file(model.config, "inverse").parent.is_dir()
    onnx_export.export(model, tmp_path)
    written = (tmp_path / folder_name(model.config)).iterdir()
    assert {path.name for path in written} == {f"{name}.onnx" for name in graph_names(model.config)}
    written_file = lambda config, name: tmp_path / folder_name(config) / f"{name}.onnx"  # noqa: E731
    monkeypatch.setattr(onnx_backend, "graph_file", written_file)
    for size in ((61, 45), (1, 1)):
        assert difference(model, draw_tokens(*size, model)) < 0.01


@pytest.mark.parametrize("given", ["1", "2,1", "", "many"])
def test_threads(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    model = registry.load("anchor")
    backend = OnnxBackend(model)
    assert Codec(backend).decode(draw_tokens(20, 20, model)).shape == (3, 20, 20)
    threads = backend._sessions["inverse"].get_session_options().intra_op_num_threads
    assert threads == {"1": 1, "2,1": 2}.get(given, 0)
