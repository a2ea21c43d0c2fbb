"""The convolutional network that ends a pass, over a whole level."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..format.config import KIND_NAMES


def nine_mean(picture: Tensor, dim: int) -> Tensor:
    """Means of each pixel and the four on either side along a dimension, of those that exist. As sums of sums of 2, 4
    and 8: an average pool over all 81 takes ten times as long, and bfloat16 never touches it.
    """
    size = picture.shape[dim]
    wide = F.pad(picture, (0, 0, 4, 4) if dim == picture.ndim - 2 else (4, 4))
    sums = wide
    for reach in (1, 2, 4):
        left = sums.shape[dim] - reach
        sums = sums.narrow(dim, 0, left) + sums.narrow(dim, reach, left)
    place = torch.arange(size, device=picture.device)
    count = place.clamp(max=4) + (size - 1 - place).clamp(max=4) + 1
    share = (1 / count.float()).view([-1 if d == dim else 1 for d in range(picture.ndim)])
    return (sums.narrow(dim, 0, size) + wide.narrow(dim, 8, size)) * share


class LoopFilter(nn.Module):
    """Sees a whole level and returns it improved, and what it expects of the next level (`ahead`), which the tokens of
    the next pass need not say then.

    Works at half resolution (pixel unshuffle), residual, borders replicated. The activations leak: with plain ReLU
    the sum of the residual layers drifted below zero in training, where it stays for good.
    """

    def __init__(self, channels: int, width: int, dilations: tuple[int, ...], *, ahead: bool) -> None:
        super().__init__()
        self.enter = nn.Conv2d(4 * (3 * channels + 3), width, 3, padding=1, padding_mode="replicate")
        self.condition = nn.Linear(1 + len(KIND_NAMES), width)
        self.layers = nn.ModuleList(self._zero_conv(width, width, d) for d in dilations)
        self.leave = self._zero_conv(width, 4 * channels)
        self.leave_ahead = self._zero_conv(width, 16 * channels) if ahead else None

    @staticmethod
    def _zero_conv(width: int, channels: int, dilation: int = 1) -> nn.Conv2d:
        """What is added to a residual stream starts at zero, so that a trained model can grow layers."""
        conv = nn.Conv2d(width, channels, 3, padding=dilation, dilation=dilation, padding_mode="replicate")
        nn.init.zeros_(conv.weight)
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
        return conv

    def forward(
        self, picture: Tensor, prediction: Tensor, coverage: Tensor, scale: Tensor, cond: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """A level improved, and what to add to it when it is doubled.

        Args:
            picture, prediction: [B, C, H, W]. coverage: [B, 3, H, W], share of tokens and tile edges
                (`prow.backends.torch_ops.spread`). scale: [B].

        Returns:
            [B, C, H, W]; [B, C, 2 H, 2 W] (one more row or column of cells where H or W is odd), or None.
        """
        h, w = picture.shape[-2:]
        per_image = scale[:, None, None, None]
        local = nine_mean(nine_mean(picture, 2), 3)
        detail = [(picture - local) / per_image, (picture - prediction) / per_image]
        x = torch.cat([*detail, (local - 128) / 64, coverage], dim=1)
        x = F.pad(x, (0, w % 2, 0, h % 2), mode="replicate")
        # F.pixel_unshuffle(x, 2), which takes more than twice as long
        x = torch.stack([x[..., row::2, column::2] for row in (0, 1) for column in (0, 1)], dim=2).flatten(1, 2)
        x = self.enter(x.contiguous(memory_format=torch.channels_last)) + self.condition(cond)[:, :, None, None]
        for layer in self.layers:
            x = x + layer(F.leaky_relu(x, 0.1))
        x = F.leaky_relu(x, 0.1)
        picture = picture + F.pixel_shuffle(self.leave(x), 2)[..., :h, :w] * per_image
        if self.leave_ahead is None:
            return picture, None
        return picture, F.pixel_shuffle(self.leave_ahead(x), 4) * per_image
