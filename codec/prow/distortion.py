"""How far a picture is from its target: by square error, and by the structure that it lost."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .base_codec import LEAST, NOISE, SCALES, STRUCTURE, WINDOW


def lost_structure(picture: Tensor, target: Tensor) -> Tensor:
    """1 - the contrast and structure term of SSIM (Wang et al., 2004), in windows of 8 px that overlap by half.

    Args:
        picture, target: [B, 3, H, W], 0 to 255.

    Returns:
        [B], 0 (all there) to 2.
    """
    window = [min(WINDOW, side) for side in target.shape[-2:]]
    stride = [max(1, side // 2) for side in window]

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, window, stride)

    x, y = picture - 128, target - 128  # nearer to 0, so that the differences below lose no digits
    mean_x, mean_y = mean(x), mean(y)
    both = mean(x * y) - mean_x * mean_y
    each = mean(x * x) - mean_x.square() + mean(y * y) - mean_y.square()
    return 1 - ((2 * both + NOISE) / (each + NOISE)).mean((1, 2, 3))


def log_distortion(picture: Tensor, target: Tensor, *, full: bool) -> Tensor:
    """What an encoder wants to be small: log(square error) + STRUCTURE * log(lost structure over several scales).

    Square error alone drops faint texture everywhere for the sake of a few sharp edges.

    Args:
        picture, target: [1, 3, H, W], 0 to 255. full: these are full resolution, whose own structure is seen least.
    """
    error, lost, total = (picture - target).square().mean(), torch.zeros((), device=target.device), 0.0
    for weight in SCALES[0 if full else 1 :]:
        lost, total = lost + weight * lost_structure(picture, target).mean(), total + weight
        if min(target.shape[-2:]) < 2 * WINDOW:
            break
        picture, target = F.avg_pool2d(picture, 2), F.avg_pool2d(target, 2)
    return (error + LEAST).log() + STRUCTURE * (lost / total + LEAST).log()
