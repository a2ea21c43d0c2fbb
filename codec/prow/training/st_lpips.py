"""ST-LPIPS: Shift-tolerant LPIPS (Ghildyal and Liu, arXiv:2207.13686), its AlexNet variant: a metric, and a loss.

Not the original LPIPS: numbers of the two must not be compared. The weights are those in the package
stlpips-pytorch; the package's code is not used, for it needs torchvision, IPython and torchsummary.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F

from .published import published

PACKAGE = "stlpips-pytorch"
WEIGHTS = "stlpips_pytorch/weights/vST0.0/alex_shift_tolerant.pth"
WEIGHTS_SHA256 = "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee"
MIN_SIDE = 21  # px; below it a feature map is too small for its reflected border
EPSILON = 1e-10
CONVOLUTIONS = {  # of AlexNet, all with stride 1: shape [out, in, h, w]
    "net.slice1.0": (64, 3, 11, 11),
    "net.slice2.5": (192, 64, 5, 5),
    "net.slice3.9": (384, 192, 3, 3),
    "net.slice4.11": (256, 384, 3, 3),
    "net.slice5.13": (256, 256, 3, 3),
}
BLURS = {"net.slice1.1": 64, "net.slice2.4": 64, "net.slice3.8": 192}  # channels
SHAPES = {
    **{f"scaling_layer.{name}": (1, 3, 1, 1) for name in ("shift", "scale")},
    **{f"{name}.weight": shape for name, shape in CONVOLUTIONS.items()},
    **{f"{name}.bias": shape[:1] for name, shape in CONVOLUTIONS.items()},
    **{f"{name}.filt": (channels, 1, 3, 3) for name, channels in BLURS.items()},
    **{f"lin{i}.model.1.weight": (1, shape[0], 1, 1) for i, shape in enumerate(CONVOLUTIONS.values())},
}

Weights = dict[str, torch.Tensor]


@functools.cache
def load() -> Weights:
    """-> the published weights. Raises MissingPackageError without the package, ValueError for other weights."""
    path = published(PACKAGE, "ST-LPIPS", WEIGHTS, WEIGHTS_SHA256)
    with torch.inference_mode(False):  # they are kept, and a loss needs gradients through them
        return checked(torch.load(path, map_location="cpu", weights_only=True))


def checked(weights: Weights) -> Weights:
    """-> the same weights, if they have exactly the names and shapes of SHAPES; else ValueError."""
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(shapes.keys() | SHAPES.keys()):
        if shapes.get(name) != SHAPES.get(name):
            raise ValueError(f"weight {name!r} has shape {shapes.get(name)}, wanted {SHAPES.get(name)}")
    return weights


def features(weights: Weights, x: torch.Tensor) -> Iterator[torch.Tensor]:
    """-> five maps of pictures x [B, 3, H, W] in -1 to 1, each position's vector of length 1: [B, C, h, w]."""

    def conv(x: torch.Tensor, name: str, padding: int) -> torch.Tensor:
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=padding)

    def blur(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.conv2d(F.pad(x, (2, 2, 2, 2), "reflect"), weights[f"{name}.filt"], stride=2, groups=x.shape[1])

    def pool(x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(x, 3, stride=1)

    x = (x - weights["scaling_layer.shift"]) / weights["scaling_layer.scale"]
    x = F.relu(blur(conv(x, "net.slice1.0", 2), "net.slice1.1"))
    yield _normalised(x)
    x = F.relu(conv(blur(pool(x), "net.slice2.4"), "net.slice2.5", 2))
    yield _normalised(x)
    x = F.relu(conv(blur(pool(x), "net.slice3.8"), "net.slice3.9", 1))
    yield _normalised(x)
    for name in ("net.slice4.11", "net.slice5.13"):
        x = F.relu(conv(x, name, 1))
        yield _normalised(x)


def _normalised(x: torch.Tensor) -> torch.Tensor:
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + EPSILON)


@functools.lru_cache(maxsize=1)
def _features_of(pixels: bytes, height: int, width: int) -> list[torch.Tensor]:
    """-> features of the original, kept while it is compared with one picture after the other."""
    return list(features(load(), _tensor(np.frombuffer(pixels, np.uint8).reshape(height, width, 3))))


def _tensor(picture: np.ndarray) -> torch.Tensor:
    """-> picture [H, W, 3] uint8 as [1, 3, H, W] in -1 to 1."""
    return torch.tensor(picture).permute(2, 0, 1)[None].float() / 127.5 - 1


def between(weights: Weights, x: Iterable[torch.Tensor], y: Iterable[torch.Tensor]) -> torch.Tensor:
    """-> ST-LPIPS of pictures by their `features`, the mean over a batch: a scalar."""
    pairs = enumerate(zip(x, y, strict=True))
    return sum(F.conv2d((a - b).square(), weights[f"lin{i}.model.1.weight"]).mean() for i, (a, b) in pairs)  # type: ignore


@torch.inference_mode()
def distance(wanted: np.ndarray, got: np.ndarray) -> float:
    """ST-LPIPS of two pictures [H, W, 3] uint8 of at least MIN_SIDE px a side."""
    weights = load()
    originals = _features_of(wanted.tobytes(), *wanted.shape[:2])
    return float(between(weights, originals, features(weights, _tensor(got))))
