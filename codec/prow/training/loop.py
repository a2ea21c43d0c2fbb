"""All passes of a batch of pictures, as training and its evaluation run them: on policy, each pass on the picture
that the passes before it left behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from ..config import FULL, REFINE
from ..distortion import lost_structure
from ..geometry import Pass, every_other, passes
from ..quantise import choose_prefix, keep_prefix, quantise
from ..tiling import Tiling, double, pyramid
from ..tokenizer import Tokenizer, step_tensor
from .statistics import Statistics

SEAMS = 0.5  # weight of the squared error of a difference across a tile border, beside that of a value
STRUCTURE = 2.0  # weight of lost structure (0 to 1), beside a square error that counts for about 1


@dataclasses.dataclass
class Result:
    """What a pass or silent level gave: error [B] (mean square, grey levels), bits [B], loss (a scalar)."""

    step: Pass
    error: Tensor
    bits: Tensor
    loss: Tensor
    picture: Tensor  # [B, 3, H, W] of the pass's level
    ahead: Tensor | None  # what to add to it when it is doubled


@dataclasses.dataclass
class Drop:
    """Tail drop of a batch: the pass in which each picture's stream ends ([B]; as many as there are: not at all)."""

    last_pass: Tensor

    @classmethod
    def draw(cls, batch: int, sent: Sequence[int], device: torch.device, *, whole: float = 0.75) -> Drop:
        """For passes of these indices: a share of `whole` streams, the others end in all of them alike."""
        ends = torch.tensor(sent, device=device)[torch.randint(0, len(sent), (batch,), device=device)]
        return cls(torch.where(torch.rand(batch, device=device) < whole, sent[-1] + 1, ends))

    def cut(self, counts: Tensor, index: int, tiles: int) -> Tensor:
        """counts [B * tiles] -> uniform prefixes in the pass where a stream ends, nothing after it."""
        ends = self.last_pass.repeat_interleave(tiles)
        uniform = (torch.rand(len(counts), device=counts.device) * (counts + 1)).long()
        return torch.where(ends > index, counts, torch.where(ends == index, uniform, 0))


def existing(sizes: Tensor, order: Tensor, tile: int) -> Tensor:
    """Which ranks a tile of its size has: sizes [B, 2], order [K] -> bool [B, K]."""
    row, column = order % tile**2 // tile, order % tile
    return (row < sizes[:, :1]) & (column < sizes[:, 1:])


def run_passes(
    model: Tokenizer,
    images: Tensor,
    base: Tensor,
    statistics: Statistics,
    kappa: float,
    *,
    drop: Drop | None = None,
    learn: bool = True,
    refine: bool = True,
    coarse: bool = False,
    beyond: int = 0,
    left_out: Collection[int] | None = None,
) -> Iterator[Result]:
    """Run every pass on images [B, 3, H, W] (0 to 255) at base steps [B] (grid indices), coarse to fine.

    The passes left out (indices; None: `geometry.every_other`) have no tokens, so the loop filter runs alone there, and
    those of them at full resolution are not run at all.

    The images are what pictures `beyond` octaves larger look like at that level, and passes end there. With `coarse`
    the passes end below full resolution, which is only what the last of them looks ahead to. Both train the levels that
    matter in small files.
    """
    config = model.config
    ends = torch.tensor(config.token_dims, device=images.device).cumsum(0)
    plan = passes(images.shape[-1] << beyond, images.shape[-2] << beyond, config)
    targets = pyramid(images, plan[0].depth - beyond + 1)
    left_out = every_other(plan) if left_out is None else left_out
    stages = [s for s in enumerate(plan) if s[1].depth >= max(beyond, int(coarse))]
    finest = stages[-1][1].level
    picture, ahead = torch.full_like(targets[0], 128.0), None
    for index, step in stages:
        if step.kind in (FULL, REFINE) and (index in left_out or (step.kind == REFINE and not refine)):
            continue
        level, target = step.level, targets[beyond - 1 - step.depth]
        same = picture.shape[-2:] == target.shape[-2:]
        context = picture if same else double(picture, ahead, level.width, level.height)
        following = targets[beyond - step.depth] if step.depth > beyond else None
        grid = (base - step.shift).clamp(min=0)  # [B]
        if index in left_out:
            result = _run_filter(model, step, target, context, following, grid)
        else:
            result = _run_pass(
                model, step, index, target, context, following, grid, statistics, kappa, drop, learn, ends
            )
        share = level.width * level.height / (finest.width * finest.height)
        result.loss = result.loss * share**0.5  # the gradient of a small level is noisier, by as much
        yield result
        picture = result.picture.detach()
        ahead = None if result.ahead is None else result.ahead.detach()


def _run_filter(
    model: Tokenizer, step: Pass, target: Tensor, context: Tensor, following: Tensor | None, grid: Tensor
) -> Result:
    """The loop filter alone, in a pass without tokens."""
    loss, picture, ahead = filter_loss(model, step.kind, target, context, following, step_tensor(grid))
    error = (picture - target).square().mean((1, 2, 3)).detach()
    return Result(step, error, torch.zeros_like(error), loss, picture, ahead)


def filter_loss(
    model: Tokenizer,
    kind: int,
    target: Tensor,
    context: Tensor,
    following: Tensor | None,
    delta: Tensor,
    *,
    light: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The loop filter of a level without tokens: loss (a scalar), picture, and what to add to it when it is doubled.

    Args:
        target, context: [B, 3, H, W] of the level. following: target of the next one. delta: quantiser steps [B].
        light: the light filter.
    """
    picture, ahead = model.finish(context, context, torch.zeros_like(context), delta, kind, light=light)
    error = (picture - target).square().mean((1, 2, 3))
    loss = (error / (error.detach() + 0.05 * delta.square())).mean() + _missed(picture, ahead, following, delta)
    return loss + STRUCTURE * lost_structure(picture, target).mean(), picture, ahead


def _missed(picture: Tensor, ahead: Tensor | None, following: Tensor | None, delta: Tensor) -> Tensor:
    """The loss of what a level says ahead of the next one; a scalar."""
    if ahead is None or following is None:
        return torch.zeros((), device=delta.device)
    guess = double(picture, ahead, following.shape[-1], following.shape[-2])
    missed = (guess - following).square().mean((1, 2, 3)) / delta.square()
    lost = lost_structure(guess, following)
    return 0.5 * (missed / (missed.detach() + 0.05) + STRUCTURE * lost).mean()


def _run_pass(
    model: Tokenizer,
    step: Pass,
    index: int,
    target: Tensor,
    context: Tensor,
    following: Tensor | None,
    grid: Tensor,
    statistics: Statistics,
    kappa: float,
    drop: Drop | None,
    learn: bool,
    ends: Tensor,
) -> Result:
    tiling, order = Tiling(step.level, target.device), statistics.order[step.kind]
    tiles, batch = step.level.tiles, len(target)
    sizes, steps = tiling.sizes.repeat(batch, 1), grid.repeat_interleave(tiles)
    delta, delta_tiles = step_tensor(grid), step_tensor(steps)
    context_tiles = tiling.cut(context)
    ratios = model.analyse(tiling.cut(target), context_tiles, sizes, delta_tiles, step.kind, order)

    exists = existing(sizes, order, model.config.tile)
    with torch.no_grad():
        costs, go, stop = statistics.prices(step.kind, steps)
        values, gains = quantise(ratios.detach(), costs, kappa)
        values, gains = values * exists, gains * exists
        last = ends_of(exists, ends)
        counts = choose_prefix(gains, ends, go, stop, kappa, last)
        alive = torch.ones_like(counts, dtype=torch.bool)
        if drop is not None:
            alive = (drop.last_pass >= index).repeat_interleave(tiles)
        sent = _sent(exists, counts, ends)
        if learn and alive.any():
            statistics.add(step.kind, steps[alive], (values * sent)[alive], sent[alive], counts[alive], last[alive])
        if drop is not None:
            counts = drop.cut(counts, index, tiles)
            sent = _sent(exists, counts, ends)
        values = keep_prefix(values, counts, ends)

    moves = (values != 0).float()  # corrections of what is not sent change nothing, so they get no gradient
    received = values + (ratios - ratios.detach()) * moves
    share = counts / model.config.tokens
    painted = tiling.join(model.synthesise(received, counts, context_tiles, sizes, delta_tiles, step.kind, order))
    some = counts.view(batch, -1).any(1)[:, None, None, None]  # pictures with tokens
    filtered = torch.where(some, painted, context)
    picture, ahead = model.finish(filtered, context, tiling.spread(share) * some, delta, step.kind)

    error = (picture - target).square().mean((1, 2, 3))  # [B]
    relaxed = (costs.bits(ratios) * moves).view(batch, -1).sum(1)
    per_pixel = 3 * step.level.width * step.level.height
    weight = 1 / (error.detach() / delta.square() + 0.05)
    seams = SEAMS * across_edges(picture - target, tiling) / delta.square()
    loss = (weight * (error / delta.square() + seams + kappa * relaxed / per_pixel)).mean()
    loss = loss + STRUCTURE * lost_structure(picture, target).mean() + _missed(picture, ahead, following, delta)
    flags = torch.cat([torch.zeros_like(go[:, :1]), go.cumsum(1)], 1).gather(1, counts[:, None])[:, 0]
    flags = flags + torch.where(counts < last, stop.gather(1, counts.clamp(max=len(ends) - 1)[:, None])[:, 0], 0.0)
    bits = ((costs.bits(values) * sent).sum(1) + flags).view(batch, -1).sum(1)
    return Result(step, error.detach(), bits.detach(), loss, picture, ahead)


def across_edges(error: Tensor, tiling: Tiling) -> Tensor:
    """Squares of how much an error [B, 3, H, W] changes from tile to tile, summed, per value: [B]."""
    columns, rows = (
        torch.tensor(n, device=error.device).cumsum(0)[:-1] for n in (tiling.level.columns, tiling.level.rows)
    )
    across, down = error[..., columns] - error[..., columns - 1], error[..., rows, :] - error[..., rows - 1, :]
    return (across.square().sum((1, 2, 3)) + down.square().sum((1, 2, 3))) / error[0].numel()


def ends_of(exists: Tensor, ends: Tensor) -> Tensor:
    """How many tokens a tile can have: those up to its last existing rank, [B]."""
    ranks = torch.arange(1, exists.shape[1] + 1, device=exists.device)
    return torch.searchsorted(ends, (exists * ranks).amax(1)) + 1


def _sent(exists: Tensor, counts: Tensor, ends: Tensor) -> Tensor:
    kept = torch.cat([torch.zeros_like(ends[:1]), ends])[counts]
    return exists & (torch.arange(exists.shape[1], device=exists.device) < kept[:, None])
