"""Pictures of other than three channels: grey ones, and those with a channel that is by itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import awaken, draw_picture, psnr, read, same
from torch import Tensor

from format_spec.tokens import decode_tokens, without_zeros_at_end
from prow.backends import onnx_backend
from prow.backends.onnx_backend import OnnxBackend
from prow.backends.torch_backend import TorchBackend, load_backend
from prow.coding.codec import Codec, Wanted
from prow.entropy.model import Model, StreamSpec
from prow.entropy.tables import Tables, check_shapes, input_count
from prow.entropy.trim import trim
from prow.entropy.writer import write
from prow.format.config import CONFIGS, Config
from prow.format.container import pack
from prow.networks.tokenizer import Tokenizer
from prow.registry import parse_model
from prow.search import rate
from prow.search.effort import EFFORTS
from prow.search.gradient_search import gradients
from prow.training import onnx_export
from prow.training.export import export
from prow.training.loop import run_passes
from prow.training.statistics import Statistics

TOY = CONFIGS["toy"]
TOYS = {
    1: dataclasses.replace(TOY, name="grey", model_id=121, channels=1, token_dims=(1, 3, 8, 20, 32)),
    4: dataclasses.replace(TOY, name="four", model_id=122, channels=4, token_dims=(4, 8, 20, 64, 160)),
}
SIZES = [(1, 1), (1, 21), (17, 23), (64, 48)]


def draw(width: int, height: int, channels: int, seed: int = 0) -> np.ndarray:
    """A drawn picture uint8 [H, W, C]."""
    layers = [draw_picture(width, height, seed + 100 * i) for i in range(-(-channels // 3))]
    return np.concatenate(layers, axis=2)[..., :channels]


def to_tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float()


def fitted(network: Tokenizer) -> Tables:
    """Tables from drawn pictures, low frequencies first."""
    config = network.config
    statistics, index = Statistics(config, "cpu"), torch.arange(config.coefficients)
    row, column = index % config.tile**2 // config.tile, index % config.tile
    statistics.order[:] = (row + column).argsort(stable=True)
    with torch.no_grad():
        for base in range(10, 60, 7):
            picture = to_tensor(draw(61, 45, config.channels, base))
            for _ in run_passes(network, picture, torch.tensor([base]), statistics, 0.08, refine=3):
                pass
    return statistics.tables()


@pytest.fixture(scope="module", params=TOYS, ids=lambda channels: f"{channels}ch")
def codec(request: pytest.FixtureRequest) -> Codec:
    """A toy of that many channels."""
    torch.manual_seed(0)
    network = awaken(Tokenizer(TOYS[request.param])).eval().requires_grad_(False)
    return Codec(TorchBackend(Model(network.config, fitted(network)), network))


def config_of(codec: Codec) -> Config:
    return codec.model.config


def test_the_tables_have_their_shapes(codec: Codec) -> None:
    config = config_of(codec)
    assert config.coefficients == sum(config.token_dims) == config.channels * TOY.tile**2
    check_shapes(codec.model.tables, config)


@pytest.mark.parametrize("size", SIZES)
def test_both_ways(size: tuple[int, int], codec: Codec) -> None:
    """Tokens come back from the stream, and the picture from the tokens, whatever its size."""
    channels = config_of(codec).channels
    pixels = draw(*size, channels)
    coded = codec.encode(pixels, 24)
    assert coded.content == write(coded.tokens, codec.model)
    received = read(codec, coded.content, *size)
    assert same(received, coded.tokens)
    assert same(read(codec, trim(coded.content, coded.tokens, codec.model, coded.classes), *size), coded.tokens)
    picture = codec.decode(received)
    assert picture.shape == (channels, size[1], size[0])
    image = codec.backend.to_image(picture)
    assert image.dtype == np.uint8 and image.shape == pixels.shape
    assert psnr(pixels, image) > max(40, psnr(pixels, np.full_like(pixels, 128)) + 6)
    each = [
        psnr(pixels[..., c], image[..., c]) - psnr(pixels[..., c], np.full(size[::-1], 128)) for c in range(channels)
    ]
    assert min(each) > 3  # every channel is there


def test_any_prefix_is_a_picture(codec: Codec) -> None:
    pixels = draw(64, 48, config_of(codec).channels)
    content, scores = codec.encode(pixels, 24).content, []
    for n in np.unique(np.geomspace(1, len(content), 12).astype(int)):
        tokens = read(codec, content[:n], 64, 48)
        scores.append(psnr(pixels, codec.backend.to_image(codec.decode(tokens))))
    assert all(later > max(scores[: i + 1]) - 1 for i, later in enumerate(scores[1:]))
    assert scores[-1] == max(scores) > scores[0] + 15


def test_pictures_go_through_together(codec: Codec) -> None:
    pictures = [draw(40, 30, config_of(codec).channels, seed) for seed in (1, 2)]
    wanted = [Wanted(base, codec.backend.targets(p)) for base, p in zip((24, 30), pictures, strict=True)]
    batch = [coded.tokens for coded in codec.encode_many((40, 30), wanted)]
    decoded = codec.decode_many(batch)
    for pixels, picture, tokens in zip(pictures, decoded, batch, strict=True):
        torch.testing.assert_close(picture, codec.decode(tokens), rtol=0, atol=0.01)
        assert psnr(pixels, codec.backend.to_image(picture)) > 40


@pytest.mark.parametrize("size", [(64, 48), (21, 34)])
def test_sizes_are_exact(size: tuple[int, int], codec: Codec) -> None:
    pictures, scores = [draw(*size, config_of(codec).channels, seed) for seed in (0, 1)], []
    for room in (20, 200):
        streams = rate.at_bytes(codec, pictures, room, EFFORTS[5])
        assert [len(stream.content) for stream in streams] == [room] * 2
        for pixels, stream in zip(pictures, streams, strict=True):
            assert same(read(codec, stream.content, *size), stream.tokens)
            scores.append(psnr(pixels, codec.backend.to_image(codec.decode(stream.tokens))))
    assert scores[2] > scores[0] + 3 and scores[3] > scores[1] + 3


def test_gradients_are_those_of_the_decoder(codec: Codec) -> None:
    """What the search for better tokens follows."""
    pixels, spec = draw(24, 20, config_of(codec).channels), StreamSpec(24, 20, codec.model)
    tokens, last = codec.encode(pixels, 26).tokens, spec.passes[0].octaves
    target = to_tensor(pixels)
    assert isinstance(codec.backend, TorchBackend)
    for index, gradient in enumerate(gradients(codec.backend, spec, tokens, target, last)):
        tile, rank = np.unravel_index(int(gradient.abs().argmax()), gradient.shape)
        errors = []
        for change in (-1, 1):
            values = tokens.passes[index].values.copy()
            values[tile, rank] += change
            part = dataclasses.replace(tokens.passes[index], values=values)
            parts = (*tokens.passes[:index], part, *tokens.passes[index + 1 :])
            draft = codec.draft(dataclasses.replace(tokens, passes=parts), last)
            errors.append(float((draft - target).square().mean()))
        assert (errors[1] - errors[0]) / 2 == pytest.approx(float(gradient[tile, rank]), rel=0.3)


def test_a_model_file_keeps_the_channels(codec: Codec, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert isinstance(codec.backend, TorchBackend)
    path = export(codec.backend.network, codec.model.tables, tmp_path_factory.mktemp("model"))
    model = parse_model(path.read_bytes(), path.stem)
    assert model.config == config_of(codec)
    assert np.array_equal(model.tables.order, codec.model.tables.order)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_onnx_runtime_does_as_torch_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the linear part alone, whose graphs are quickly written."""
    network = Tokenizer(dataclasses.replace(TOYS[4], network=False))
    path = export(network, fitted(network), tmp_path)
    model = parse_model(path.read_bytes(), path.stem)
    onnx_export.export(model, tmp_path)
    folder = tmp_path / onnx_backend.folder_name(model.config)
    monkeypatch.setattr(onnx_backend, "graph_file", lambda config, name: folder / f"{name}.onnx")
    mine, other = Codec(OnnxBackend(model)), Codec(load_backend(model, "cpu"))
    pixels = draw(61, 45, 4)
    found, wanted = mine.encode(pixels, 28).tokens, other.encode(pixels, 28).tokens
    assert max((a.values != b.values).mean() for a, b in zip(found.passes, wanted.passes, strict=True)) < 0.01
    picture = mine.decode(found)
    assert picture.shape == (4, 45, 61) and psnr(pixels, mine.backend.to_image(picture)) > 40
    np.testing.assert_allclose(picture, other.decode(found), rtol=0, atol=0.01)


@pytest.mark.parametrize(("channels", "token_dims"), [(1, TOY.token_dims), (4, TOY.token_dims), (0, ())])
def test_channels_that_do_not_fit_the_tokens(channels: int, token_dims: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="token_dims sum to 192|below 1"):
        dataclasses.replace(TOY, channels=channels, token_dims=token_dims)


def test_the_independent_reader_finds_the_same_tokens(codec: Codec, tmp_path: Path) -> None:
    """With a context network, which is told of the channel."""
    tables, config, rng = codec.model.tables, config_of(codec), np.random.default_rng(1)
    network = {"w1": rng.normal(0, 300, (input_count(config), 6)), "w2": rng.normal(0, 1500, (6, 6))}
    network |= {"w3": rng.normal(0, 700, 6)}
    arrays = {name: weights.astype(np.int16) for name, weights in network.items()}
    arrays |= {"b1": np.zeros(6, np.int32), "b2": np.zeros(6, np.int32)}
    assert isinstance(codec.backend, TorchBackend)
    file = export(codec.backend.network, dataclasses.replace(tables, **arrays), tmp_path)
    model = parse_model(file.read_bytes(), "toy")
    coded = Codec(TorchBackend(model, codec.backend.network)).encode(draw(40, 27, config.channels), 30)
    data = pack(coded.content, width=40, height=27, model_id=config.model_id)
    told = decode_tokens(data, file.read_bytes())
    assert told["base"] == 30
    for row, part in zip(told["passes"], coded.tokens.passes, strict=True):
        assert row["counts"] == part.counts.tolist()
        assert row["values"] == [without_zeros_at_end(values) for values in part.values.tolist()]
