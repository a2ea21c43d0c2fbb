"""The steps between networks: numpy and torch have the same functions, and these give the same results."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from conftest import draw_picture
from torch import Tensor

from prow.backends import numpy_ops, torch_ops
from prow.format.geometry import Level

# Tiles of 8 px: single pixels, lines, a single tile, whole tiles, and tiles of several sizes.
SIZES = [(1, 1), (1, 40), (40, 1), (5, 7), (7, 5), (8, 8), (17, 23), (16, 31), (64, 48), (101, 75)]
TOLERANCE = 1e-3  # grey levels
EXACT = ("cut", "join", "spread", "to_image")  # what only moves numbers, or rounds them
CASES = [(size, batch) for size in SIZES for batch in (1, 2)]

of_any_size = pytest.mark.parametrize(("size", "batch"), CASES, ids=lambda value: str(value).replace(" ", ""))


def functions(module: ModuleType) -> dict[str, FunctionType]:
    """Public functions that are defined in a module, in the order of their definition."""
    own = [f for f in vars(module).values() if isinstance(f, FunctionType) and f.__module__ == module.__name__]
    return {f.__name__: f for f in sorted(own, key=lambda f: f.__code__.co_firstlineno) if f.__name__[0] != "_"}


def parameters(function: Callable) -> list[tuple[str, object, object]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def drawn(width: int, height: int, batch: int, seed: int = 0) -> np.ndarray:
    """Drawn pictures float32 [B, 3, H, W]."""
    pixels = np.stack([draw_picture(width, height, seed + i) for i in range(batch)])
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)


def to_torch(value: Any) -> Any:
    return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value


def same_results(name: str, *given: Any, **options: Any) -> Any:
    """What a function of both modules gives, in numpy, once the two have been compared."""
    kept = [value.copy() if isinstance(value, np.ndarray) else value for value in given]
    tensors = [to_torch(value) for value in given]
    found = getattr(numpy_ops, name)(*kept, **options)
    for got, wanted in zip(_arrays(found), _arrays(getattr(torch_ops, name)(*tensors, **options)), strict=True):
        assert got.shape == wanted.shape and got.dtype.kind == wanted.dtype.kind
        np.testing.assert_allclose(got, wanted, rtol=0, atol=0 if name in EXACT else TOLERANCE)
    assert all(np.array_equal(a, b) for a, b in zip(given, tensors, strict=True) if isinstance(b, Tensor))
    if name != "lap":  # that works in place in numpy
        assert all(np.array_equal(a, b) for a, b in zip(given, kept, strict=True) if isinstance(b, np.ndarray))
    return found


def _arrays(result: Any) -> Iterator[np.ndarray]:
    if isinstance(result, list):
        for part in result:
            yield from _arrays(part)
    else:
        yield np.asarray(result)


# -- names -------------------------------------------------------------------------------------------------------


def test_both_have_the_same_functions() -> None:
    """With the same parameters, of the same kinds and with the same defaults, in the same order of definition."""
    own, other = functions(numpy_ops), functions(torch_ops)
    assert list(own) == list(other)
    assert {"cut", "join", "lap", "spread", "halve", "double", "log_distortion", "to_image"} <= set(own)
    for name in own:
        assert parameters(own[name]) == parameters(other[name]), name


def test_every_function_is_compared_here() -> None:
    """A function that is new in both must have a test below."""
    with open(__file__) as file:
        source = file.read()
    assert [name for name in functions(numpy_ops) if f'same_results("{name}"' not in source] == []


# -- results -----------------------------------------------------------------------------------------------------


@of_any_size
def test_tiles(size: tuple[int, int], batch: int) -> None:
    level, picture = Level(*size, tile=8), drawn(*size, batch)
    tiles = same_results("cut", picture, level)
    assert tiles.shape == (batch * level.tiles, 3, 8, 8)
    assert np.array_equal(same_results("join", tiles, level), picture)
    last, rows = len(level.rows) - 1, len(level.rows)
    parts = [same_results("cut", picture, level, first, end) for first, end in ((0, last), (last, rows)) if first < end]
    if batch == 1:
        assert np.array_equal(np.concatenate(parts), tiles)
    assert np.array_equal(same_results("cut", picture, level, last), parts[-1])


@of_any_size
@pytest.mark.parametrize("back", [False, True])
def test_lapping(size: tuple[int, int], batch: int, back: bool) -> None:
    level, picture = Level(*size, tile=8), drawn(*size, batch)
    lapped = same_results("lap", picture, level, back=back)
    assert lapped.dtype == np.float32
    assert np.allclose(lapped, picture, atol=1) == (level.tiles == 1)
    returned = same_results("lap", lapped.copy(), level, back=not back)
    np.testing.assert_allclose(returned, picture, rtol=0, atol=TOLERANCE)


@of_any_size
def test_coverage(size: tuple[int, int], batch: int) -> None:
    level, rng = Level(*size, tile=8), np.random.default_rng(0)
    coverage = same_results("spread", rng.uniform(0, 1, batch * level.tiles).astype(np.float32), level)
    assert coverage.shape == (batch, 3, size[1], size[0]) and coverage.dtype == np.float32


@of_any_size
def test_levels(size: tuple[int, int], batch: int) -> None:
    picture = drawn(*size, batch)
    half = same_results("halve", picture)
    assert half.shape == (batch, 3, -(-size[1] // 2), -(-size[0] // 2)) and half.dtype == np.float32
    levels = same_results("pyramid", picture, 4)
    assert len(levels) == 4 and np.array_equal(levels[-1], picture) and np.array_equal(levels[-2], half)


def test_halves_of_whole_numbers_are_those_of_fractions() -> None:
    """An encoder in numpy gives pixels as they came."""
    pixels = draw_picture(31, 22).transpose(2, 0, 1)[None]
    assert np.array_equal(numpy_ops.halve(pixels), numpy_ops.halve(pixels.astype(np.float32)))


@of_any_size
@pytest.mark.parametrize("odd", [0, 1])
def test_doubling(size: tuple[int, int], batch: int, odd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    picture, level = drawn(*size, batch), Level(2 * size[0] - odd, 2 * size[1] - odd, tile=8)
    shape = batch, 3, 2 * size[1] + 2, 2 * size[0] + 2
    ahead = np.random.default_rng(0).normal(0, 50, shape).astype(np.float32)
    plain = same_results("double", picture, None, level)
    more = same_results("double", picture, ahead, level)
    assert plain.shape == more.shape == (batch, 3, level.height, level.width) and plain.dtype == np.float32
    assert min(plain.min(), more.min()) >= 0 and max(plain.max(), more.max()) <= 255
    assert np.abs(plain - more).max() > 1
    monkeypatch.setattr(numpy_ops, "_PIXELS", 7 * level.width)  # some rows at once
    np.testing.assert_allclose(same_results("double", picture, ahead, level), more, rtol=0, atol=1e-4)


@of_any_size
def test_distortion(size: tuple[int, int], batch: int) -> None:
    """`lost_structure` of each picture; of their distortion there is one number for all."""
    target, other = drawn(*size, batch), drawn(*size, batch, seed=5)
    for picture in (target, other, 0.9 * target + 0.1 * other):
        lost = same_results("lost_structure", picture, target)
        assert lost.shape == (batch,) and lost.min() > -1e-4 and lost.max() < 2
        for full in (True, False):
            found = same_results("log_distortion", picture, target, full=full)
            assert (
                type(found) is type(torch_ops.log_distortion(to_torch(picture), to_torch(target), full=full)) is float
            )


@of_any_size
def test_images(size: tuple[int, int], batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for picture in drawn(*size, batch) + rng.normal(0, 40, (batch, 3, size[1], size[0])).astype(np.float32):
        image = same_results("to_image", picture)
        assert image.dtype == np.uint8 and image.shape == (size[1], size[0], 3)
        with monkeypatch.context() as patch:
            patch.setattr(numpy_ops, "_PIXELS", 3 * size[0])  # some rows at once
            assert np.array_equal(same_results("to_image", picture), image)
    halves = np.arange(-1, 258, 0.5, dtype=np.float32)[None, None]
    same_results("to_image", halves)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels(channels: int) -> None:
    """All but `spread`, which knows no pictures, take as many channels as there are."""
    picture = np.random.default_rng(0).uniform(0, 255, (2, channels, 23, 17)).astype(np.float32)
    level, larger = Level(17, 23, tile=8), Level(33, 46, tile=8)
    tiles = same_results("cut", picture, level)
    assert np.array_equal(same_results("join", tiles, level), picture)
    same_results("lap", picture.copy(), level)
    levels = same_results("pyramid", picture, 3)
    assert [x.shape[1] for x in levels] == [channels] * 3
    assert same_results("double", picture, None, larger).shape == (2, channels, 46, 33)
    same_results("lost_structure", picture, picture[::-1].copy())
    assert same_results("to_image", picture[0]).shape == (23, 17, channels)
