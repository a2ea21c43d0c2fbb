"""The vivid style: after decoding, a second network repaints the picture so that it looks sharper than the mean.

A decoder trained on square errors answers with the average of all pictures that the tokens allow, which is blurred.
This network is trained on a perceptual distance (ST-LPIPS, arXiv:2207.13686) and a square error that keeps it near: it
adds edges and texture that are likely, not certain. The tokens and the faithful picture stay as they are, since later
passes build on the latter; any file can be shown either way.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import Config, step_size
from .geometry import strips
from .tokens import Tokens

WIDTH = 24  # channels
DILATIONS = (1, 2, 4, 8, 4, 2, 1, 1)
REACH = sum(DILATIONS) + 3  # px on each side that a pixel depends on
_STRIP = 1 << 19  # px that go through the network at once, about


class Vivid(nn.Module):
    """Residual convolutions on pixels; what they add is zero in a new model.

    Without strides: a network that works on cells of some pixels soon draws a pattern with their period all over the
    picture, which the perceptual distance it is trained on takes for texture. This one can only shape the noise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(4, WIDTH, 5, padding=2, padding_mode="replicate")
        self.condition = nn.Linear(2, WIDTH)
        self.layers = nn.ModuleList(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=d, dilation=d, padding_mode="replicate") for d in DILATIONS
        )
        self.leave = nn.Conv2d(WIDTH, 3, 3, padding=1, padding_mode="replicate")
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(self, picture: Tensor, noise: Tensor, cond: Tensor) -> Tensor:
        """Pictures [B, 3, H, W], 0 to 255, noise [B, 1, H, W] and `condition` [B, 2] -> pictures, 0 to 255."""
        x = torch.cat([(picture - 128) / 64, noise], dim=1).contiguous(memory_format=torch.channels_last)
        x = self.enter(x) + self.condition(cond)[:, :, None, None]
        for layer in self.layers:
            x = x + layer(F.leaky_relu(x, 0.1))
        return (picture + 16 * self.leave(F.leaky_relu(x, 0.1))).clamp(0, 255)


def condition(tokens: Tokens, config: Config) -> tuple[float, float]:
    """What the network is told of a file: the step that it ends with, and how many tokens there are for how many px."""
    step = step_size(tokens.last_step(config))
    count = sum(int(part.counts.sum(dtype=int)) for part in tokens.passes)
    return math.log2(step) / 3 - 2, math.log2((count + 1) / (tokens.width * tokens.height)) / 4 + 2


def grain(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """Fixed white noise, [H, W], -1 to 1: the same on every machine."""
    y = np.arange(height, dtype=np.uint32)[:, None]
    x = y * np.uint32(0x9E3779B1) + np.arange(width, dtype=np.uint32) * np.uint32(0x85EBCA77)
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    return torch.from_numpy((x >> np.uint32(16)).astype(np.float32) / 32767.5 - 1).to(device)


@torch.inference_mode()
def repaint(network: Vivid, config: Config, picture: Tensor, tokens: Tokens) -> Tensor:
    """A decoded picture [3, H, W] of these tokens in the vivid style, in strips so that memory stays bounded."""
    cond = torch.tensor([condition(tokens, config)], device=picture.device)
    height, width = picture.shape[-2:]
    noise, painted = grain(height, width, picture.device)[None], []
    for given, kept in strips(height, width, _STRIP, REACH):
        painted.append(network(picture[None, :, given], noise[None, :, given], cond)[0, :, kept])
    return torch.cat(painted, dim=1)
