"""Shared by the tests: drawn pictures, and a toy model that is built here, so that no test needs shipped weights."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from prow import registry
from prow.backends.torch_backend import load_backend
from prow.coding.codec import Codec
from prow.entropy import reader
from prow.entropy.model import StreamSpec
from prow.entropy.tables import Tables, input_count
from prow.format.config import CONFIGS
from prow.format.tokens import Tokens
from prow.networks.tokenizer import Tokenizer
from prow.registry import ModelFile, parse_model
from prow.training.export import export
from prow.training.loop import run_passes
from prow.training.statistics import Statistics

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # where kernels run
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported, by whoever: its kernels then run on the CPU
TOY = CONFIGS["toy"]
SHIFTS = ("flag_around", "flag_own")  # the flags' context tables
Draw = Callable[..., np.ndarray]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Toy tensors gain nothing from threads, and on a busy machine these wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def interrupts() -> None:
    """Commands can be interrupted, also where tests run in the background of a shell, whose children ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def draw_picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A picture with a gradient, a disc, stripes and a little noise: uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(float)
    low, high = rng.uniform(20, 120, 3), rng.uniform(20, 120, 3)
    pixels = low + high * (x / width + y / height)[..., None] / 2
    cx, cy, radius = rng.uniform(0, width), rng.uniform(0, height), (width + height) / 6
    pixels[(x - cx) ** 2 + (y - cy) ** 2 < radius**2] = rng.uniform(0, 255, 3)
    pixels += 25 * np.sin(x * rng.uniform(0.1, 0.6) + y * rng.uniform(-0.5, 0.5))[..., None]
    return (pixels + rng.normal(0, 4, pixels.shape)).clip(0, 255).astype(np.uint8)


def psnr(wanted: np.ndarray, got: object) -> float:
    error = np.mean((np.asarray(got, float) - wanted) ** 2)
    return 10 * np.log10(255**2 / max(error, 1e-6))


def same(a: Tokens, b: Tokens) -> bool:
    return (a.width, a.height, a.model_id) == (b.width, b.height, b.model_id) and a.same_as(b)


def read(codec: Codec, content: bytes, width: int, height: int) -> Tokens:
    return reader.read(content, StreamSpec(width, height, codec.model))


@pytest.fixture(scope="session")
def draw() -> Draw:
    """draw(width, height, seed=0): a picture that is the same on every machine."""
    return draw_picture


def zero_heads(network: Tokenizer) -> tuple[Tensor, ...]:
    """What is zero in a new network."""
    coarse, fine, light = network.coarse_filter, network.fine_filter, network.light_filter
    assert coarse.leave_ahead is not None and light.leave_ahead is not None
    filters = (coarse.leave.weight, coarse.leave_ahead.weight, fine.leave.weight)
    light_heads = (light.leave.weight, light.leave_ahead.weight)
    return network.decoder.head.weight, *filters, *light_heads


def awaken(network: Tokenizer, seed: int = 1) -> Tokenizer:
    """Small random numbers where a new network has zeros, so that all its parts have an effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        filters = network.coarse_filter, network.fine_filter, network.light_filter
        layers = [layer.weight for f in filters for layer in f.layers]
        for head in (*zero_heads(network), *layers):
            head.copy_(torch.randn(head.shape, generator=generator) * 0.02)
    return network


def fit_tables(network: Tokenizer) -> Tables:
    """Tables from drawn pictures at every base step, low frequencies first, with context shifts drawn at random."""
    statistics = Statistics(TOY, "cpu")
    index = torch.arange(TOY.coefficients)
    row, column = index % TOY.tile**2 // TOY.tile, index % TOY.tile
    statistics.order[:] = (row + column).argsort(stable=True)
    with torch.no_grad():
        for base in range(8, 64, 3):
            picture = torch.from_numpy(draw_picture(61, 45, base)).permute(2, 0, 1)[None].float()
            for _ in run_passes(network, picture, torch.tensor([base]), statistics, 0.08, refine=3):
                pass
    tables, rng = statistics.tables(), np.random.default_rng(0)
    arrays = {field.name: getattr(tables, field.name).copy() for field in dataclasses.fields(tables)}
    for name in SHIFTS:
        arrays[name][:] = rng.integers(-1, 2, arrays[name].shape)
    for name, shape, spread in (("w1", (input_count(TOY), 6), 300), ("w2", (6, 6), 1500), ("w3", (6,), 700)):
        arrays[name] = rng.normal(0, spread, shape).astype(np.int16)
    for name in ("b1", "b2"):
        arrays[name] = np.zeros(6, np.int32)
    return Tables(**arrays)


@pytest.fixture(scope="session")
def toy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a toy model: random small weights, and tables fitted to a few drawn pictures."""
    torch.manual_seed(0)
    network = awaken(Tokenizer(TOY)).eval()
    return export(network, fit_tables(network), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def toy_model(toy_file: Path) -> ModelFile:
    return parse_model(toy_file.read_bytes(), "toy")


@pytest.fixture(scope="session", autouse=True)
def no_imported_models(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Those of whoever runs the tests are left out."""
    os.environ["PROW_MODELS"] = str(tmp_path_factory.mktemp("models"))


def forget_models() -> None:
    """Empty the registry's caches."""
    registry.forget()


@pytest.fixture
def installed(toy_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The toy model as the only one and the default, instead of those in the package."""
    monkeypatch.setattr(registry, "_files", lambda: {"toy": toy_file})
    monkeypatch.setattr(registry, "DEFAULT", "toy")
    forget_models()
    yield
    monkeypatch.undo()
    forget_models()


@pytest.fixture
def codec(installed: None) -> Codec:
    """The toy model on the CPU."""
    return Codec(load_backend(registry.load("toy"), "cpu"))
