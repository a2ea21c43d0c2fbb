"""What an encoder calls far: square error and lost structure, in torch and in numpy."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from prow.backends import numpy_ops, torch_ops


class Distortion:
    """The functions of a module on torch tensors."""

    def __init__(self, ops: ModuleType) -> None:
        self.ops = ops

    def lost_structure(self, picture: Tensor, target: Tensor) -> Tensor:
        return torch.as_tensor(self.ops.lost_structure(self._own(picture), self._own(target)))

    def log_distortion(self, picture: Tensor, target: Tensor, *, full: bool) -> float:
        found = self.ops.log_distortion(self._own(picture), self._own(target), full=full)
        assert type(found) is float
        return found

    def _own(self, picture: Tensor) -> Any:
        return picture.numpy() if self.ops is numpy_ops else picture


@pytest.fixture(params=[torch_ops, numpy_ops], ids=["torch", "numpy"])
def distortion(request: pytest.FixtureRequest) -> Distortion:
    return Distortion(request.param)


@pytest.fixture
def noise() -> Tensor:
    return 128 + 40 * torch.randn(2, 3, 40, 56, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)


def test_lost_structure_of_known_pictures(noise: Tensor, distortion: Distortion) -> None:
    def lost(picture: Tensor, target: Tensor) -> np.ndarray:
        return distortion.lost_structure(picture, target).numpy()

    assert np.allclose(lost(noise, noise), [0, 0], atol=1e-5)
    flat = torch.full_like(noise, 99.0)
    assert np.allclose(lost(flat, noise), [1, 1], atol=0.06)  # 1 but for the noise it allows
    assert lost(256 - noise, noise).min() > 1.9
    assert np.allclose(lost(noise + 9, noise), [0, 0], atol=1e-4)  # brightness is not structure
    assert np.allclose(lost(flat, flat + 5), [0, 0], atol=1e-5)


def test_lost_structure_is_that_of_ssim(noise: Tensor, distortion: Distortion) -> None:
    x, y = (p[:1, :, :8, :8].double() for p in (noise, noise.roll(1, -1)))
    per_channel = []
    for a, b in zip(x[0], y[0], strict=True):
        covariance = ((a - a.mean()) * (b - b.mean())).mean()
        spread = a.var(correction=0) + b.var(correction=0)
        per_channel.append(float((2 * covariance + 58.5225) / (spread + 58.5225)))
    assert float(distortion.lost_structure(x, y)[0]) == pytest.approx(1 - sum(per_channel) / 3, abs=1e-9)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (5, 7), (16, 16), (200, 31)])
def test_any_size_and_any_error(size: tuple[int, int], distortion: Distortion) -> None:
    target = 255 * torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    found = [distortion.log_distortion((target + e).clamp(0, 255), target, full=True) for e in (0, 0.5, 4, 90)]
    assert all(math.isfinite(d) for d in found) and found == sorted(found)


def test_the_finest_scale_counts_less_at_full_resolution(
    noise: Tensor, distortion: Distortion, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine, target = noise[:1].clone(), noise[:1]
    fine[..., ::2] += 30
    fine[..., 1::2] -= 30
    assert distortion.log_distortion(fine, target, full=True) < distortion.log_distortion(fine, target, full=False)
    monkeypatch.setattr(distortion.ops, "STRUCTURE", 0.0)
    error = float((fine - target).square().mean())
    assert distortion.log_distortion(fine, target, full=True) == pytest.approx(math.log(error), abs=1e-5)
