"""What an encoder calls far: square error and lost structure."""

from __future__ import annotations

import math

import pytest
import torch

from prow import distortion
from prow.distortion import log_distortion, lost_structure


@pytest.fixture
def noise() -> torch.Tensor:
    return 128 + 40 * torch.randn(2, 3, 40, 56, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)


def test_lost_structure_of_known_pictures(noise: torch.Tensor) -> None:
    assert torch.allclose(lost_structure(noise, noise), torch.zeros(2), atol=1e-5)
    flat = torch.full_like(noise, 99.0)
    assert torch.allclose(lost_structure(flat, noise), torch.ones(2), atol=0.06)  # 1 but for the noise it allows
    assert float(lost_structure(256 - noise, noise).min()) > 1.9
    assert torch.allclose(lost_structure(noise + 9, noise), torch.zeros(2), atol=1e-4)  # brightness is not structure
    assert torch.allclose(lost_structure(flat, flat + 5), torch.zeros(2), atol=1e-5)


def test_lost_structure_is_that_of_ssim(noise: torch.Tensor) -> None:
    x, y = (p[:1, :, :8, :8].double() for p in (noise, noise.roll(1, -1)))
    per_channel = []
    for a, b in zip(x[0], y[0], strict=True):
        covariance = ((a - a.mean()) * (b - b.mean())).mean()
        spread = a.var(correction=0) + b.var(correction=0)
        per_channel.append(float((2 * covariance + 58.5225) / (spread + 58.5225)))
    assert float(lost_structure(x, y)[0]) == pytest.approx(1 - sum(per_channel) / 3, abs=1e-9)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (5, 7), (16, 16), (200, 31)])
def test_any_size_and_any_error(size: tuple[int, int]) -> None:
    target = 255 * torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    found = [float(log_distortion((target + e).clamp(0, 255), target, full=True)) for e in (0, 0.5, 4, 90)]
    assert all(math.isfinite(d) for d in found) and found == sorted(found)


def test_the_finest_scale_counts_less_at_full_resolution(noise: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = noise[:1].clone()
    fine[..., ::2] += 30
    fine[..., 1::2] -= 30
    assert float(log_distortion(fine, noise[:1], full=True)) < float(log_distortion(fine, noise[:1], full=False))
    monkeypatch.setattr(distortion, "STRUCTURE", 0.0)
    error = (fine - noise[:1]).square().mean()
    assert float(log_distortion(fine, noise[:1], full=True)) == pytest.approx(float(error.log()), abs=1e-5)
