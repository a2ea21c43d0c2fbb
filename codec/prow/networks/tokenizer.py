"""The tokenizer: an ordered 1-D tokenizer of tiles, conditioned on the prediction, anchored to a linear transform.

Ordered 1-D tokens and tail drop follow One-D-Piece (arXiv:2501.10064) and FlexTok (arXiv:2502.13967). The encoder is
the transform alone: a learned correction of its coefficients was worth nothing (docs/training-log.md, section 15). What
networks add to the picture is zero in a new model, which therefore is a working transform codec.

Shapes: B tiles, C channels, T tile side, P patches a tile, N tokens, K = C * T * T coefficients, W width. "Ranked"
coefficients are in scan order: rank r is coefficient order[kind, r].
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prow_kernels import prefix_attention

from ..format.config import KIND_NAMES, MIDDLE, START, Config
from .condition import condition, pixel_scale
from .loop_filter import LoopFilter
from .transform import Anchor


def patchify(pixels: Tensor, patch: int) -> Tensor:
    """[B, C, T, T] -> [B, P, C * patch * patch]."""
    b, c, t, _ = pixels.shape
    grid = pixels.view(b, c, t // patch, patch, t // patch, patch)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * patch * patch)


def unpatchify(patches: Tensor, patch: int) -> Tensor:
    """[B, P, C * patch * patch] -> [B, C, T, T]."""
    b, p, n = patches.shape
    side, channels = math.isqrt(p), n // patch**2
    grid = patches.view(b, side, side, channels, patch, patch)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(b, channels, side * patch, side * patch)


# q [B, P, H, D], k and v [B, N, H, D], counts [B] -> [B, P, H, D]: attention on the first counts[b] entries.
PrefixAttention = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class Attention(nn.Module):
    """Multi-head attention of x on memory; with counts, only on the first counts[b] entries of memory b."""

    def __init__(self, width: int, heads: int, attend: PrefixAttention) -> None:
        super().__init__()
        self.heads, self.attend = heads, attend
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor, counts: Tensor | None = None) -> Tensor:
        b, n, w = x.shape
        q = self.q(x).view(b, n, self.heads, -1)
        k, v = self.kv(memory).view(b, memory.shape[1], 2, self.heads, -1).unbind(2)  # [B, M, H, D]
        if counts is None:
            mixed = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
            mixed = mixed.transpose(1, 2)
        else:
            mixed = self.attend(q, k, v, counts)
        return self.out(mixed.reshape(b, n, w))


class Block(nn.Module):
    """Pre-norm transformer block: self attention, attention on a prefix of a memory, MLP x4."""

    def __init__(self, width: int, heads: int, attend: PrefixAttention) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(width)
        self.attend_self = Attention(width, heads, attend)
        self.norm_memory = nn.LayerNorm(width)
        self.attend_memory = Attention(width, heads, attend)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, memory: Tensor, counts: Tensor) -> Tensor:
        h = self.norm_self(x)
        x = x + self.attend_self(h, h)
        x = x + self.attend_memory(self.norm_memory(x), memory, counts)
        return x + self.mlp(self.norm_mlp(x))


class PatchEmbed(nn.Module):
    """Two pictures of a tile, the detail (in pixel scales) and the prediction, to P vectors that know step and kind."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.patch = config.patch
        self.project = nn.Linear(config.channels * (2 * config.patch**2 + 1), config.width)
        self.position = nn.Parameter(torch.randn((config.tile // config.patch) ** 2, config.width) * 0.02)
        self.condition = nn.Linear(1 + len(KIND_NAMES), config.width)

    def forward(self, detail: Tensor, prediction: Tensor, scale: Tensor, cond: Tensor) -> Tensor:
        mean = F.avg_pool2d(prediction, self.patch)  # [B, C, T / patch, T / patch]
        local = prediction - F.interpolate(mean, scale_factor=self.patch, mode="nearest")
        both = patchify(torch.cat([detail, local], dim=1) / scale[:, None, None, None], self.patch)
        x = torch.cat([both, (mean.flatten(2).transpose(1, 2) - 128) / 64], dim=2)
        return self.project(x) + self.position + self.condition(cond)[:, None]


class Decoder(nn.Module):
    """Received tokens, the anchor's picture and the prediction -> a correction of the picture, in grey levels."""

    def __init__(self, config: Config, attend: PrefixAttention) -> None:
        super().__init__()
        self.patch = config.patch
        self.token_dims = config.token_dims
        self.embed = PatchEmbed(config)
        self.token_embed = nn.Parameter(torch.randn(config.coefficients, config.width) * 0.1)
        self.token_position = nn.Parameter(torch.randn(config.tokens, config.width) * 0.02)
        self.token_norm = nn.LayerNorm(config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.heads, attend) for _ in range(config.decoder_depth))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, config.channels * config.patch**2)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def embed_tokens(self, values: Tensor, order: Tensor) -> Tensor:
        """Ranked integers [B, K] -> [B, N, W]."""
        rows = self.token_embed[order].split(self.token_dims)
        parts = torch.asinh(values).split(self.token_dims, dim=1)
        tokens = torch.stack([p @ r for p, r in zip(parts, rows, strict=True)], dim=1)
        return self.token_norm(tokens + self.token_position)

    def forward(
        self,
        values: Tensor,
        counts: Tensor,
        anchored: Tensor,
        prediction: Tensor,
        cond: Tensor,
        scale: Tensor,
        order: Tensor,
    ) -> Tensor:
        tokens = self.embed_tokens(values, order)
        x = self.embed(anchored - prediction, prediction, scale, cond)  # [B, P, W]
        for block in self.blocks:
            x = block(x, tokens, counts)
        return unpatchify(self.head(self.norm(x)), self.patch) * scale[:, None, None, None]


class Tokenizer(nn.Module):
    """One network for every pass: anchor, decoder and loop filters.

    Args:
        attend: what stands in for `prow_kernels.prefix_attention`, which looks at the counts.
    """

    def __init__(self, config: Config, attend: PrefixAttention = prefix_attention) -> None:
        super().__init__()
        self.config = config
        self.anchor = Anchor(config.tile, config.channels)
        if config.network:
            channels = config.channels
            self.decoder = Decoder(config, attend)
            self.coarse_filter = LoopFilter(channels, config.coarse_width, config.coarse_dilations, ahead=True)
            self.fine_filter = LoopFilter(channels, config.fine_width, config.fine_dilations, ahead=False)
            self.light_filter = LoopFilter(channels, config.light_width, config.light_dilations, ahead=True)
        self.bf16 = False  # run the network, never the anchor, in bfloat16

    def _autocast(self, *, convolutions: bool = False) -> torch.autocast:
        """bfloat16 if it is asked for; on a CPU for convolutions alone, since it makes small matrix products slower."""
        device = self.anchor.bank.device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.bf16 and (convolutions or device != "cpu"))

    def analyse(self, residual: Tensor, sizes: Tensor, step: Tensor, order: Tensor) -> Tensor:
        """What to quantise.

        Args:
            residual: [B, C, T, T], tiles of (level - prediction), mixed across their borders (`prow.format.lapping`),
                grey levels.
            sizes: [B, 2] height and width of each tile. step: [B], quantiser steps. order: [K], scan order.

        Returns:
            [B, K] ranked coefficients in quantiser steps.
        """
        return self.anchor(residual, sizes)[:, order] / step[:, None]

    def restore(self, values: Tensor, sizes: Tensor, step: Tensor, order: Tensor) -> Tensor:
        """Inverse of `analyse`: ranked integers [B, K] -> residual [B, C, T, T], zero outside each tile's own size."""
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=order.device)
        return self.anchor.inverse((values * step[:, None])[:, rank], sizes)

    def correct(
        self,
        values: Tensor,
        counts: Tensor,
        anchored: Tensor,
        prediction: Tensor,
        step: Tensor,
        kind: int | Tensor,
        order: Tensor,
    ) -> Tensor:
        """What the decoder adds to each tile before the loop filter. Only with a network.

        Args:
            values: [B, K] ranked integers, zero where not received. counts: [B] tokens received.
            anchored, prediction: [B, C, T, T], the level with and without what the integers add to it.
            step, order: as in `analyse`.

        Returns:
            [B, C, T, T] grey levels (meaningless outside each tile's own size).
        """
        scale, cond = pixel_scale(step), condition(step, kind)
        with self._autocast():
            return self.decoder(values, counts, anchored, prediction, cond, scale, order)

    def finish(
        self, picture: Tensor, prediction: Tensor, coverage: Tensor, step: Tensor, kind: int, *, light: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """The loop filter: pictures [B, C, H, W] and per-image step [B] -> the level as a reader sees it, 0 to 255, and
        what to add to it when it is doubled (see `LoopFilter.forward`; None for nothing).

        With `light`, which coarse levels alone may be, the light filter in place of the coarse one.
        """
        ahead = None
        if self.config.network:
            coarse = self.light_filter if light else self.coarse_filter
            loop_filter = coarse if kind in (START, MIDDLE) else self.fine_filter
            with self._autocast(convolutions=True):
                picture, ahead = loop_filter(picture, prediction, coverage, pixel_scale(step), condition(step, kind))
        return picture.clamp(0, 255), ahead
