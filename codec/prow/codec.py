"""The passes in torch, on any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple

import numpy as np
import torch
from torch import Tensor

from .base_codec import STRIP, BaseCodec
from .config import MIDDLE, START
from .distortion import log_distortion
from .geometry import Level, Pass, passes, strips
from .quantise import Costs, choose_prefix, keep_prefix, quantise
from .tables import Tables
from .tiling import Tiling, double, halve, pyramid
from .tokenizer import Tokenizer, step_tensor
from .tokens import PassTokens, Tokens, layout_of


class Codec(BaseCodec):
    """A network, on whatever device it is, with its tables."""

    def __init__(self, network: Tokenizer, tables: Tables) -> None:
        super().__init__(network.config, tables)
        self.network, self.device = network, network.anchor.bank.device

    def targets(self, pixels: np.ndarray, count: int | None = None) -> list[Tensor]:
        plan = passes(pixels.shape[1], pixels.shape[0], self.config)[:count]
        finest, image = plan[-1].depth, torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None]
        if finest:  # the largest level is never there as a whole in 32 bits
            rows = max(2, STRIP // image.shape[-1] // 2 * 2)
            found = torch.cat([halve(strip.to(self.device).float()) for strip in image.split(rows, dim=-2)], dim=-2)
        else:
            found = image.to(self.device).float()
        levels = pyramid(found, plan[0].depth + 1 - min(finest, 1))
        return [levels[min(finest, 1) - 1 - step.depth] for step in plan]

    def to_image(self, picture: Tensor) -> np.ndarray:
        return to_image(picture)

    def _blank(self, level: Level, count: int = 1) -> Tensor:
        return torch.full((count, 3, level.height, level.width), 128.0, device=self.device)

    def _concatenate(self, pictures: list[Tensor]) -> Tensor:
        return torch.cat(pictures)

    def _double(self, picture: Tensor, ahead: Tensor | None, level: Level) -> Tensor:
        return double(picture, ahead, level.width, level.height)

    @torch.inference_mode()
    def _choose_tokens(
        self, step: Pass, bases: Sequence[int], targets: Tensor, context: Tensor, kappa: float, allocation: str
    ) -> list[PassTokens]:
        layout = layout_of(step, self.config, self.tables)
        prices = [self.prices(step.kind, step.step_index(base)) for base in bases]
        costs = Costs(*(torch.stack(column) for column in zip(*(astuple(p[0]) for p in prices), strict=True)))
        tiling, order = Tiling(step.level, self.device), self._order(step.kind)
        ends = torch.from_numpy(layout.ends).to(self.device)
        exists, last = torch.from_numpy(layout.exists).to(self.device), torch.from_numpy(layout.last).to(self.device)
        values, gains, residual = [], [], tiling.lap(targets - context)
        for rows, tiles in self._rows(step.level, len(bases)):
            sizes = tiling.sizes[tiles]
            delta, sizes = self._steps(step, bases, len(sizes)), sizes.repeat(len(bases), 1)
            ratios = self.network.analyse(tiling.cut(residual, *rows), sizes, delta, order)
            v, g = quantise(ratios.unflatten(0, (len(bases), -1)), costs, kappa)  # [B, tiles, K]
            values.append((v * exists[tiles]).to(torch.int16))
            gains.append(g * exists[tiles])
        found = []
        for v, g, price in zip(torch.cat(values, dim=1), torch.cat(gains, dim=1), prices, strict=True):
            counts = _choose(g, ends, price, kappa, last, allocation)
            kept = keep_prefix(v, counts, ends)
            found.append(PassTokens(counts.cpu().numpy().astype(np.int16), kept.cpu().numpy().astype(np.int16)))
        return found

    @torch.inference_mode()
    def _join(self, step: Pass, bases: Sequence[int], parts: Sequence[PassTokens], context: Tensor) -> Tensor:
        values = torch.from_numpy(np.stack([part.values for part in parts])).to(self.device)
        counts = torch.from_numpy(np.stack([part.counts for part in parts])).to(self.device)
        return self._painted(step, bases, values, counts.long(), context)

    def _painted(self, step: Pass, bases: Sequence[int], values: Tensor, counts: Tensor, context: Tensor) -> Tensor:
        """The pictures of a pass before the loop filter: values [B, tiles, K], counts [B, tiles]."""
        network, tiling, order = self.network, Tiling(step.level, self.device), self._order(step.kind)

        def in_rows(paint: Callable[[tuple[int, int], slice, Tensor], Tensor]) -> Tensor:
            found = []
            for rows, tiles in self._rows(step.level, len(bases)):
                delta = self._steps(step, bases, tiles.stop - tiles.start)
                found.append(paint(rows, tiles, delta).unflatten(0, (len(bases), -1)))
            return tiling.join(torch.cat(found, dim=1).flatten(0, 1))

        def restored(_: tuple[int, int], tiles: slice, delta: Tensor) -> Tensor:
            sizes = tiling.sizes[tiles].repeat(len(bases), 1)
            return network.restore(values[:, tiles].float().flatten(0, 1), sizes, delta, order)

        anchored = context + tiling.lap(in_rows(restored), back=True)
        if not self.config.network:
            return anchored

        def corrected(rows: tuple[int, int], tiles: slice, delta: Tensor) -> Tensor:
            some, told = values[:, tiles].float().flatten(0, 1), counts[:, tiles].flatten()
            cut, before = tiling.cut(anchored, *rows), tiling.cut(context, *rows)
            return network.correct(some, told, cut, before, delta, step.kind, order)

        return anchored + in_rows(corrected)

    @torch.inference_mode()
    def _finish(
        self,
        step: Pass,
        bases: Sequence[int],
        picture: Tensor,
        context: Tensor,
        parts: Sequence[PassTokens],
        *,
        light: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """In strips that overlap by the reach of the filter, so that memory stays bounded."""
        finished, ahead, delta, received = [], [], self._steps(step, bases), self._received(step, parts)
        height, width = picture.shape[-2:]
        for given, kept in strips(height, width, STRIP, self.config.reach):
            part, before, share = (t[..., given, :] for t in (picture, context, received))
            out, more = self.network.finish(part, before, share, delta, step.kind, light=light)
            finished.append(out[..., kept, :])
            if more is not None:
                ahead.append(more[..., 2 * kept.start : 2 * kept.stop, :])
        return torch.cat(finished, dim=-2), torch.cat(ahead, dim=-2) if ahead else None

    def _log_distortion(self, picture: Tensor, target: Tensor, full: bool) -> float:
        return float(log_distortion(picture, target, full=full))

    def _received(self, step: Pass, parts: Sequence[PassTokens]) -> Tensor:
        """What the loop filter is told of tiles and tokens (`Tiling.spread`): nothing if there are no tokens."""
        counts = np.concatenate([part.counts for part in parts]).astype(np.float32)
        told = Tiling(step.level, self.device).spread(torch.from_numpy(counts).to(self.device) / self.config.tokens)
        return told * torch.tensor([[[[bool(part.counts.any())]]] for part in parts], device=self.device)

    def _steps(self, step: Pass, bases: Sequence[int], tiles: int = 1) -> Tensor:
        """Quantiser steps of a pass by base step of each picture, each as often as it has tiles: [B * tiles]."""
        grid = torch.tensor([step.step_index(base) for base in bases], device=self.device)
        return step_tensor(grid).repeat_interleave(tiles)

    def _order(self, kind: int) -> Tensor:
        return torch.from_numpy(self.tables.order[kind].astype(np.int64)).to(self.device)

    def prices(self, kind: int, grid: int) -> tuple[Costs, Tensor, Tensor]:
        """Bits of the integers of each rank, [1, K], and of continue and stop before each token, [1, N]."""
        bits = torch.from_numpy(self.tables.bits[self.tables.classes[kind, grid]]).to(self.device)  # [K, 3]
        go, stop = (torch.from_numpy(b).to(self.device)[None] for b in self.tables.flag_bits(kind, grid))
        return Costs(*bits.T[:, None]), go, stop

    @torch.inference_mode(False)
    @torch.enable_grad()
    def gradients(self, tokens: Tokens, target: Tensor, last: int) -> list[Tensor]:
        """How the square error of pass `last`, before its loop filter, changes with each integer that was sent.

        Args:
            tokens: with a base step. target: [1, 3, H, W] of the level of pass `last`.

        Returns:
            For each pass up to `last` the derivative of the mean square error by its integers, [tiles, K].
        """
        assert tokens.base is not None
        plan = passes(tokens.width, tokens.height, self.config)[: last + 1]
        picture, ahead, integers = self._blank(plan[0].level), None, []
        for step, part in zip(plan, tokens.passes, strict=False):
            bases = [tokens.base]
            values = torch.from_numpy(part.values.astype(np.float32)).to(self.device).requires_grad_()
            counts = torch.from_numpy(part.counts.astype(np.int64)).to(self.device)
            context = self._context(picture, ahead, step.level)
            picture, ahead = context, None
            if part.counts.any():
                picture = self._painted(step, bases, values[None], counts[None], context)
            if step is not plan[-1] and (part.counts.any() or step.kind in (START, MIDDLE)):
                received, delta = self._received(step, [part]), self._steps(step, bases)
                picture, ahead = self.network.finish(picture, context, received, delta, step.kind)
            integers.append(values)
        error = (picture - target.clone()).square().mean()
        return list(torch.autograd.grad(error, integers, materialize_grads=True))


def _choose(
    gains: Tensor, ends: Tensor, prices: tuple[Costs, Tensor, Tensor], kappa: float, last: Tensor, allocation: str
) -> Tensor:
    """Tokens of each tile [tiles], by slope, or the best number that is the same for all."""
    _, go, stop = prices
    if allocation == "slope":
        return choose_prefix(gains, ends, go, stop, kappa, last)
    total = gains.cumsum(1)[:, ends - 1].sum(0)
    best = torch.cat([torch.zeros_like(total[:1]), total]).argmin()
    return torch.minimum(best, last)


def to_image(picture: Tensor) -> np.ndarray:
    """[3, H, W], 0 to 255 -> uint8 [H, W, 3]."""
    return picture.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
