"""The tokenizer: an ordered 1-D tokenizer of tiles, conditioned on the picture so far, anchored to a linear transform.

Ordered 1-D tokens and tail drop follow One-D-Piece (arXiv:2501.10064) and FlexTok (arXiv:2502.13967). The encoder is
the transform alone: a learned correction of its coefficients was worth nothing (docs/training-log.md, section 15). What
networks add to the picture is zero in a new model, which therefore is a working transform codec.

Shapes: B tiles, T tile side, P patches a tile, N tokens, K = 3 * T * T coefficients, W width. "Ranked" coefficients
are in coding order: rank r is coefficient order[kind, r].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prow_kernels import prefix_attention

from .anchor import Anchor
from .config import KIND_NAMES, MIDDLE, START, Config, filter_reach, step_size


def step_tensor(indices: Tensor) -> Tensor:
    """Quantiser steps of grid indices, same shape."""
    table = torch.tensor([step_size(i) for i in range(64)], device=indices.device)
    return table[indices]


def pixel_scale(step: Tensor) -> Tensor:
    """Grey levels that one unit of a network's output is worth at a quantiser step."""
    return (step / 4).clamp(1, 24)


def condition(step: Tensor, kind: int | Tensor) -> Tensor:
    """What a network is told about a pass: step [B], kind (or an integer tensor []) -> [B, 1 + kinds]."""
    kinds = (torch.arange(len(KIND_NAMES), device=step.device) == kind).float()
    return torch.cat([(step.log2() / 3 - 1)[:, None], kinds.expand(step.shape[0], -1)], dim=1)


def patchify(pixels: Tensor, patch: int) -> Tensor:
    """[B, C, T, T] -> [B, P, C * patch * patch]."""
    b, c, t, _ = pixels.shape
    grid = pixels.view(b, c, t // patch, patch, t // patch, patch)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * patch * patch)


def unpatchify(patches: Tensor, patch: int) -> Tensor:
    """[B, P, 3 * patch * patch] -> [B, 3, T, T]."""
    b, p, _ = patches.shape
    side = math.isqrt(p)
    grid = patches.view(b, side, side, 3, patch, patch)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(b, 3, side * patch, side * patch)


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


class Attention(nn.Module):
    """Multi-head attention of x on memory; with counts, only on the first counts[b] entries of memory b."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
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
            mixed = prefix_attention(q, k, v, counts)
        return self.out(mixed.reshape(b, n, w))


class Block(nn.Module):
    """Pre-norm transformer block: self attention, optionally attention on a memory, MLP x4."""

    def __init__(self, width: int, heads: int, *, self_attention: bool = True, memory: bool = False) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(width) if self_attention else None
        self.attend_self = Attention(width, heads) if self_attention else None
        self.norm_memory = nn.LayerNorm(width) if memory else None
        self.attend_memory = Attention(width, heads) if memory else None
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, memory: Tensor | None = None, counts: Tensor | None = None) -> Tensor:
        if self.norm_self is not None and self.attend_self is not None:
            h = self.norm_self(x)
            x = x + self.attend_self(h, h)
        if self.norm_memory is not None and self.attend_memory is not None:
            assert memory is not None
            x = x + self.attend_memory(self.norm_memory(x), memory, counts)
        return x + self.mlp(self.norm_mlp(x))


class PatchEmbed(nn.Module):
    """Two pictures of a tile, the detail (in pixel scales) and the context, to P vectors that know step and kind."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.patch = config.patch
        self.project = nn.Linear(2 * 3 * config.patch**2 + 3, config.width)
        self.position = nn.Parameter(torch.randn((config.tile // config.patch) ** 2, config.width) * 0.02)
        self.condition = nn.Linear(1 + len(KIND_NAMES), config.width)

    def forward(self, detail: Tensor, context: Tensor, scale: Tensor, cond: Tensor) -> Tensor:
        mean = F.avg_pool2d(context, self.patch)  # [B, 3, T / patch, T / patch]
        local = context - F.interpolate(mean, scale_factor=self.patch, mode="nearest")
        both = patchify(torch.cat([detail, local], dim=1) / scale[:, None, None, None], self.patch)
        x = torch.cat([both, (mean.flatten(2).transpose(1, 2) - 128) / 64], dim=2)
        return self.project(x) + self.position + self.condition(cond)[:, None]


class Decoder(nn.Module):
    """Received tokens, the anchor's picture and the context -> a correction of the picture, in grey levels."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.patch = config.patch
        self.token_dims = config.token_dims
        self.embed = PatchEmbed(config)
        self.token_embed = nn.Parameter(torch.randn(config.coefficients, config.width) * 0.1)
        self.token_position = nn.Parameter(torch.randn(config.tokens, config.width) * 0.02)
        self.token_norm = nn.LayerNorm(config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.heads, memory=True) for _ in range(config.decoder_depth))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, 3 * config.patch**2)
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
        context: Tensor,
        cond: Tensor,
        scale: Tensor,
        order: Tensor,
    ) -> Tensor:
        tokens = self.embed_tokens(values, order)
        x = self.embed(anchored - context, context, scale, cond)  # [B, P, W]
        for block in self.blocks:
            x = block(x, tokens, counts)
        return unpatchify(self.head(self.norm(x)), self.patch) * scale[:, None, None, None]


class LoopFilter(nn.Module):
    """The convolutional network that ends a pass: it sees a whole level and returns it improved, and what it expects
    of the next level (`ahead`), so that the tokens of the next pass need not say it.

    Works at half resolution (pixel unshuffle), residual, borders replicated. The activations leak: with plain ReLU
    the sum of the residual layers drifted below zero in training, where it stays for good.
    """

    def __init__(self, width: int, dilations: tuple[int, ...], *, ahead: bool) -> None:
        super().__init__()
        self.reach = filter_reach(dilations)
        self.enter = nn.Conv2d(4 * 12, width, 3, padding=1, padding_mode="replicate")
        self.condition = nn.Linear(1 + len(KIND_NAMES), width)
        self.layers = nn.ModuleList(self._zero_conv(width, width, d) for d in dilations)
        self.leave = self._zero_conv(width, 4 * 3)
        self.leave_ahead = self._zero_conv(width, 16 * 3) if ahead else None

    @staticmethod
    def _zero_conv(width: int, channels: int, dilation: int = 1) -> nn.Conv2d:
        """What is added to a residual stream starts at zero, so that a trained model can grow layers."""
        conv = nn.Conv2d(width, channels, 3, padding=dilation, dilation=dilation, padding_mode="replicate")
        nn.init.zeros_(conv.weight)
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
        return conv

    def forward(
        self, picture: Tensor, context: Tensor, received: Tensor, scale: Tensor, cond: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """A level improved, and what to add to it when it is doubled.

        Args:
            picture, context: [B, 3, H, W]. received: [B, 3, H, W], share of tokens and tile edges (`Tiling.spread`).
            scale: [B].

        Returns:
            [B, 3, H, W]; [B, 3, 2 H, 2 W] (one more row or column of cells where H or W is odd), or None.
        """
        h, w = picture.shape[-2:]
        per_image = scale[:, None, None, None]
        local = nine_mean(nine_mean(picture, 2), 3)
        detail = [(picture - local) / per_image, (picture - context) / per_image]
        x = torch.cat([*detail, (local - 128) / 64, received], dim=1)
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


class Tokenizer(nn.Module):
    """One network for every pass: anchor, decoder and loop filters."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.anchor = Anchor(config.tile)
        if config.network:
            self.decoder = Decoder(config)
            self.coarse_filter = LoopFilter(config.coarse_width, config.coarse_dilations, ahead=True)
            self.fine_filter = LoopFilter(config.fine_width, config.fine_dilations, ahead=False)
            self.light_filter = LoopFilter(config.light_width, config.light_dilations, ahead=True)
        self.bf16 = False  # run the network, never the anchor, in bfloat16

    def _autocast(self, *, convolutions: bool = False) -> torch.autocast:
        """bfloat16 if it is asked for; on a CPU for convolutions alone, since it makes small matrix products slower."""
        device = self.anchor.bank.device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.bf16 and (convolutions or device != "cpu"))

    def analyse(self, residual: Tensor, sizes: Tensor, step: Tensor, order: Tensor) -> Tensor:
        """What to quantise.

        Args:
            residual: [B, 3, T, T], tiles of (level - context), mixed across their borders (`Tiling.lap`), grey levels.
            sizes: [B, 2] height and width of each tile. step: [B]. order: [K] coefficient of each rank for this kind.

        Returns:
            [B, K] ranked coefficients in quantiser steps.
        """
        return self.anchor(residual, sizes)[:, order] / step[:, None]

    def restore(self, values: Tensor, sizes: Tensor, step: Tensor, order: Tensor) -> Tensor:
        """Inverse of `analyse`: ranked integers [B, K] -> residual [B, 3, T, T], zero outside each tile's own size."""
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=order.device)
        return self.anchor.inverse((values * step[:, None])[:, rank], sizes)

    def correct(
        self,
        values: Tensor,
        counts: Tensor,
        anchored: Tensor,
        context: Tensor,
        step: Tensor,
        kind: int | Tensor,
        order: Tensor,
    ) -> Tensor:
        """What the decoder adds to each tile before the loop filter. Only with a network.

        Args:
            values: [B, K] ranked integers, zero where not received. counts: [B] tokens received.
            anchored, context: [B, 3, T, T], the level with and without what the integers add to it.
            step, order: as in `analyse`.

        Returns:
            [B, 3, T, T] grey levels (meaningless outside each tile's own size).
        """
        scale, cond = pixel_scale(step), condition(step, kind)
        with self._autocast():
            return self.decoder(values, counts, anchored, context, cond, scale, order)

    def finish(
        self, picture: Tensor, context: Tensor, received: Tensor, step: Tensor, kind: int, *, light: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """The loop filter: pictures [B, 3, H, W] and per-image step [B] -> the level as a reader sees it, 0 to 255, and
        what to add to it when it is doubled (see `LoopFilter.forward`; None for nothing).

        With `light`, which coarse levels alone may be, the light filter in place of the coarse one.
        """
        ahead = None
        if self.config.network:
            coarse = self.light_filter if light else self.coarse_filter
            loop_filter = coarse if kind in (START, MIDDLE) else self.fine_filter
            with self._autocast(convolutions=True):
                picture, ahead = loop_filter(picture, context, received, pixel_scale(step), condition(step, kind))
        return picture.clamp(0, 255), ahead
