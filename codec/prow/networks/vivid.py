"""The network of the vivid style (`prow.coding.vivid`).

A decoder trained on square errors answers with the average of all pictures that the tokens allow, which is blurred.
This network is trained on a perceptual distance (ST-LPIPS, arXiv:2207.13686) and a square error that keeps it near: it
adds edges and texture that are likely, not certain.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..format.config import VIVID_DILATIONS, VIVID_WIDTH


class Vivid(nn.Module):
    """Residual convolutions on pixels; what they add is zero in a new model.

    Without strides: a network that works on cells of some pixels soon draws a pattern with their period all over the
    picture, which the perceptual distance it is trained on takes for texture. This one can only shape the noise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(4, VIVID_WIDTH, 5, padding=2, padding_mode="replicate")
        self.condition = nn.Linear(2, VIVID_WIDTH)
        self.layers = nn.ModuleList(
            nn.Conv2d(VIVID_WIDTH, VIVID_WIDTH, 3, padding=d, dilation=d, padding_mode="replicate")
            for d in VIVID_DILATIONS
        )
        self.leave = nn.Conv2d(VIVID_WIDTH, 3, 3, padding=1, padding_mode="replicate")
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(self, picture: Tensor, noise: Tensor, cond: Tensor) -> Tensor:
        """Pictures [B, 3, H, W], 0 to 255, noise [B, 1, H, W] and condition [B, 2] -> pictures, 0 to 255."""
        x = torch.cat([(picture - 128) / 64, noise], dim=1).contiguous(memory_format=torch.channels_last)
        x = self.enter(x) + self.condition(cond)[:, :, None, None]
        for layer in self.layers:
            x = x + layer(F.leaky_relu(x, 0.1))
        return (picture + 16 * self.leave(F.leaky_relu(x, 0.1))).clamp(0, 255)
