"""One-D-Piece: the same numbers as the published code, any prefix, and files that are refused with the reason."""

from __future__ import annotations

import dataclasses
import json
import pickle
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from prow.errors import InputError, ModelError
from prow.published import one_d_piece
from prow.published.one_d_piece import CONFIGS, Config, OneDPiece, load

GOLDEN = json.loads((Path(__file__).parent / "data" / "one_d_piece.json").read_text())
TINY = Config("tiny", width=32, layers=1, heads=2, channels=32)


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in OneDPiece(config).state_dict().items()}


def draw_tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    """Normal numbers from a generator seeded with the CRC-32 of the name, scaled by what the tensor is for.

    tests/data/one_d_piece.json is what the published code makes of these: torch 2.13, float32, on a CPU.
    """
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
    if name.endswith("bias"):
        values *= np.float32(0.02)
    elif len(shape) == 1:
        values = 1 + np.float32(0.1) * values
    elif "embedding" in name or ("token" in name and len(shape) <= 3):
        values *= np.float32(1 if "quantize" in name else 0.5)
    else:
        values = (values / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    return torch.from_numpy(values)


def draw_tensors(config: Config) -> dict[str, Tensor]:
    return {name: draw_tensor(name, shape) for name, shape in shapes(config).items()}


def draw_image() -> Tensor:
    """[1, 3, 256, 256] in [0, 1]: that of the golden numbers."""
    y, x = np.mgrid[0:256, 0:256]
    image = np.stack([(x * 3 + y) % 256, (x * y // 64) % 256, (255 - x + 2 * y) % 256]).astype(np.float32)
    return torch.from_numpy(image[None] / 255)


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return draw_tensors(TINY)


@pytest.fixture(scope="module")
def weights(tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(tensors, path)
    return path


@pytest.fixture(scope="module")
def model(weights: Path) -> OneDPiece:
    return load(weights, config=TINY)


# -- the published code's numbers -----------------------------------------------------------------------------------


def test_agrees_with_the_published_code(tmp_path: Path) -> None:
    config = Config("golden", GOLDEN["width"], GOLDEN["layers"], GOLDEN["heads"])
    save_file(draw_tensors(config), tmp_path / "model.safetensors")
    model = load(tmp_path / "model.safetensors", config=config)
    latents = model.latents(draw_image())[0, [0, 1, 255]]
    torch.testing.assert_close(latents, torch.tensor(GOLDEN["latent_first"]), atol=1e-3, rtol=0)
    wanted = torch.tensor([GOLDEN["tokens"]])
    assert (model.encode(draw_image()) == wanted).sum() >= 254
    for length, numbers in GOLDEN["decoded"].items():
        pixels = model.decode(wanted[:, : int(length)], clamp=False)[0]
        for place, values in numbers["pixels"].items():
            row, column = map(int, place.split(","))
            torch.testing.assert_close(pixels[:, row, column], torch.tensor(values), atol=1e-3, rtol=0)
        torch.testing.assert_close(pixels.mean((1, 2)), torch.tensor(numbers["mean"]), atol=1e-3, rtol=0)
        torch.testing.assert_close(pixels.std((1, 2)), torch.tensor(numbers["std"]), atol=1e-3, rtol=0)


def test_tensors_have_the_published_names_and_shapes() -> None:
    named = shapes(Config("golden", GOLDEN["width"], GOLDEN["layers"], GOLDEN["heads"]))
    text = "\n".join(f"{name} {list(shape)}" for name, shape in sorted(named.items()))
    assert (len(named), zlib.crc32(text.encode())) == (GOLDEN["tensors"], GOLDEN["tensors_crc"])


def test_the_published_sizes() -> None:
    sizes = {config.name[12:]: (config.width, config.layers, config.heads) for config in CONFIGS.values()}
    assert sizes == {"s-256": (512, 8, 8), "b-256": (768, 12, 12), "l-256": (1024, 24, 16)}
    assert {config.channels for config in CONFIGS.values()} == {128}
    assert round(sum(np.prod(shape) for shape in shapes(CONFIGS["one-d-piece-l-256"]).values()) / 1e6) == 642


# -- encode, decode -------------------------------------------------------------------------------------------------


def test_any_prefix_decodes(model: OneDPiece) -> None:
    indices = model.encode(draw_image())
    assert indices.shape == (1, 256) and indices.dtype == torch.int64
    assert indices.min() >= 0 and indices.max() < 4096
    last = None
    for length in (1, 2, 77, 256):
        pixels = model.decode(indices[:, :length])
        assert pixels.shape == (1, 3, 256, 256) and pixels.min() >= 0 and pixels.max() <= 1
        assert last is None or not torch.equal(pixels, last)
        last = pixels


def test_clamp(model: OneDPiece) -> None:
    indices = model.encode(draw_image())[:, :3]
    free = model.decode(indices, clamp=False)
    assert free.min() < 0
    assert torch.equal(free.clamp(0, 1), model.decode(indices))


def test_a_batch_is_its_pictures_one_by_one(model: OneDPiece, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_d_piece, "BATCH", 2)  # so that three are more than go at once
    images = torch.cat([draw_image(), draw_image().flip(2), draw_image().roll(40, 3)])
    indices = model.encode(images)
    assert torch.equal(indices, torch.cat([model.encode(image[None]) for image in images]))
    one_by_one = torch.cat([model.decode(row[None, :9]) for row in indices])
    torch.testing.assert_close(model.decode(indices[:, :9]), one_by_one, atol=1e-4, rtol=0)


def test_bfloat16(weights: Path, model: OneDPiece) -> None:
    """Of the transformers alone; nearly the same picture."""
    half = load(weights, config=TINY, bf16=True)
    types = {name: tensor.dtype for name, tensor in half.state_dict().items()}
    assert {name for name, dtype in types.items() if dtype == torch.bfloat16} == {
        n for n in types if ".transformer." in n
    }
    indices = model.encode(draw_image())
    assert (half.encode(draw_image()) == indices).float().mean() > 0.8
    assert (half.decode(indices) - model.decode(indices)).abs().mean() < 0.005


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (np.zeros((1, 3, 256, 256), np.float32), "images of ndarray came"),
        (torch.zeros(1, 3, 256, 256, dtype=torch.uint8), "images of torch.uint8 came, wanted a tensor of floats"),
        (torch.zeros(3, 256, 256), r"images \[3, 256, 256\] came, wanted \[B, 3, 256, 256\]"),
        (torch.zeros(1, 3, 256, 255), r"images \[1, 3, 256, 255\] came"),
        (torch.zeros(0, 3, 256, 256), "B at least 1"),
        (torch.full((1, 3, 256, 256), 255.0), "images from 255 to 255 came, wanted values from 0 to 1"),
        (torch.full((1, 3, 256, 256), torch.nan), "images from nan"),
    ],
)
def test_bad_images_are_refused(model: OneDPiece, images: Tensor, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        model.encode(images)


@pytest.mark.parametrize(
    ("indices", "reason"),
    [
        ([[1]], "indices of list came"),
        (torch.zeros(1, 4), "indices of torch.float32 came, wanted a tensor of int64 or int32"),
        (torch.zeros(4, dtype=torch.int64), r"indices \[4\] came, wanted \[B, n\]"),
        (torch.zeros(1, 0, dtype=torch.int64), r"indices \[1, 0\] came"),
        (torch.zeros(1, 257, dtype=torch.int64), r"indices \[1, 257\] came"),
        (torch.tensor([[0, 4096]]), "indices from 0 to 4096 came, wanted 0 to 4095"),
        (torch.tensor([[-1, 5]]), "indices from -1 to 5 came"),
    ],
)
def test_bad_indices_are_refused(model: OneDPiece, indices: Tensor, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        model.decode(indices)


# -- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pytorch_file_is_as_good(model: OneDPiece, tensors: dict[str, Tensor], tmp_path: Path, zipped: bool) -> None:
    torch.save(tensors, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    other = load(tmp_path / "pytorch_model.bin", config=TINY)
    assert all(torch.equal(other.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_weights_are_mapped_not_copied(weights: Path) -> None:
    """Where nothing is converted, tensors are those of the file: its pages come when they are used."""
    mapped = Path("/proc/self/maps")
    if not mapped.is_file():
        pytest.skip("needs /proc")
    model = load(weights, config=TINY)
    address = model.pixel_decoder.conv_in.weight.data_ptr()
    lines = [line.split() for line in mapped.read_text().splitlines()]
    ranges = [(line[0].split("-"), line[-1]) for line in lines]
    assert str(weights) in {name for (low, high), name in ranges if int(low, 16) <= address < int(high, 16)}


def test_half_precision_files_are_widened(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    save_file({name: tensor.half() for name, tensor in tensors.items()}, tmp_path / "model.safetensors")
    model = load(tmp_path / "model.safetensors", config=TINY)
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}


def test_each_wrong_tensor_is_named(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    wrong = dict(tensors)
    del wrong["encoder.ln_post.bias"], wrong["pixel_decoder.up.3.block.0.nin_shortcut.weight"]
    wrong["discriminator.weight"] = torch.zeros(3)
    wrong["decoder.mask_token"] = torch.zeros(1, 1, 31)
    wrong["decoder.ln_pre.bias"] = torch.zeros(32, dtype=torch.int64)
    save_file(wrong, tmp_path / "model.safetensors")
    with pytest.raises(ModelError) as caught:
        load(tmp_path / "model.safetensors", config=TINY)
    assert str(caught.value) == (
        "model.safetensors is not tiny: decoder.ln_pre.bias is torch.int64, wanted floats; "
        "decoder.mask_token is [1, 1, 31], wanted [1, 1, 32]; "
        "discriminator.weight is extra; encoder.ln_post.bias is missing; "
        "pixel_decoder.up.3.block.0.nin_shortcut.weight is missing"
    )


@pytest.mark.parametrize("config", CONFIGS.values(), ids=lambda config: config.name)
def test_published_sizes_are_recognised(config: Config) -> None:
    with torch.device("meta"):
        tensors = OneDPiece(config).state_dict()
    assert one_d_piece._recognise(tensors, "model.safetensors") == config


@pytest.mark.parametrize(
    ("latents", "reason"),
    [
        (torch.zeros(32, 1024), "32 latent tokens, One-D-Piece has 256: this is perhaps a checkpoint of TiTok"),
        (torch.zeros(256, 640), "640 wide, wanted one of 512 .one-d-piece-s-256., 768"),
        (torch.zeros(256, 512), "is not one-d-piece-s-256: .*decoder.class_embedding is missing"),
        (None, "has no latent_tokens .256, W.: it is no checkpoint of One-D-Piece"),
    ],
)
def test_other_checkpoints_are_refused(tmp_path: Path, latents: Tensor | None, reason: str) -> None:
    save_file({"x": torch.zeros(1)} if latents is None else {"latent_tokens": latents}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=reason):
        load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("kept", [0, 5, 1000, -1])
def test_cut_files_are_refused(tensors: dict[str, Tensor], weights: Path, tmp_path: Path, name: str, kept: int) -> None:
    path = tmp_path / name
    if path.suffix == ".bin":
        torch.save(tensors, path)
    else:
        path.write_bytes(weights.read_bytes())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match=f"{name} is no whole "):
        load(path, config=TINY)


class Touch:
    """A pickle of this makes a file when it is read as Python objects."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_does_not_run(tmp_path: Path, zipped: bool) -> None:
    path, trace = tmp_path / "pytorch_model.bin", tmp_path / "trace"
    if zipped:
        torch.save({"latent_tokens": Touch(trace)}, path)
    else:
        path.write_bytes(pickle.dumps({"latent_tokens": Touch(trace)}, protocol=2))
    with pytest.raises(ModelError, match="holds more than tensors, which is not read: it could run code"):
        load(path)
    assert not trace.exists()


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"state": {"a": torch.zeros(1)}}, {1: torch.zeros(1)}])
def test_other_contents_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="does not hold tensors by name"):
        load(tmp_path / "pytorch_model.bin")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing.bin came, wanted a file of weights"):
        load(tmp_path / "nothing.bin")


def test_sizes_of_the_pixel_decoder() -> None:
    """Fewer channels make a smaller model of the same structure: what the tests run."""
    tiny, full = shapes(TINY), shapes(dataclasses.replace(TINY, channels=128))
    assert tiny.keys() == full.keys()
    assert tiny["pixel_decoder.conv_out.weight"] == (3, 32, 3, 3)
    assert full["pixel_decoder.conv_out.weight"] == (3, 128, 3, 3)
