"""All passes of a batch of pictures, as training and its evaluation run them: on policy, each pass on the picture
that the passes before it left behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from ..config import FULL, REFINE, STEPS
from ..distortion import lost_structure
from ..geometry import Pass, passes
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


@dataclasses.dataclass(frozen=True)
class Cut:
    """Tail drop of a batch over the whole sequence of tokens, as readers see it: the stream of each picture ends
    somewhere in the same pass, in a round of tokens, at a tile.

    Attributes:
        index: of the pass; what stands behind it has no tokens. share: [B], how far the pass goes, 0 to 1.
    """

    index: int
    share: Tensor

    def of(self, counts: Tensor, index: int) -> Tensor:
        """Tokens of each tile that are left of counts [B, tiles] in a pass: whole rounds, then some tiles more."""
        if index != self.index:
            return counts if index < self.index else torch.zeros_like(counts)
        tiles = torch.arange(counts.shape[1], device=counts.device)
        rounds = self.share * (counts.amax(1) + 1)
        more = tiles < (rounds.frac() * counts.shape[1])[:, None]
        return torch.minimum(counts, rounds.long()[:, None] + more)


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
    cut: Cut | None = None,
    learn: bool = True,
    refine: int = 0,
    coarse: bool = False,
    beyond: int = 0,
) -> Iterator[Result]:
    """Run the passes on images [B, 3, H, W] (0 to 255) at base steps [B] (grid indices), coarse to fine.

    The images are what pictures `beyond` octaves larger look like at that level, and passes end there. With `coarse`
    the passes end below full resolution, which is only what the last of them looks ahead to. Both train the levels that
    matter in small files. `refine` passes at full resolution follow. Behind a cut the light filter runs alone.
    """
    config = model.config
    ends = torch.tensor(config.token_dims, device=images.device).cumsum(0)
    plan = passes(images.shape[-1] << beyond, images.shape[-2] << beyond, config)
    plan = plan[: len(plan) - len(config.refine_shifts) + refine]
    targets = pyramid(images, plan[0].depth - beyond + 1)
    stages = [s for s in enumerate(plan) if s[1].depth >= max(beyond, int(coarse))]
    finest = stages[-1][1].level
    picture, ahead = torch.full_like(targets[0], 128.0), None
    for index, step in stages:
        behind = cut is not None and index > cut.index
        if behind and step.kind in (FULL, REFINE):
            return
        level, target = step.level, targets[beyond - 1 - step.depth]
        same = picture.shape[-2:] == target.shape[-2:]
        context = picture if same else double(picture, ahead, level.width, level.height)
        following = targets[beyond - step.depth] if step.depth > beyond else None
        grid = (base - step.shift).clamp(0, STEPS - 1)  # [B]
        if behind:
            result = _run_filter(model, step, target, context, following, grid)
        else:
            result = _run_pass(
                model, step, index, target, context, following, grid, statistics, kappa, cut, learn, ends
            )
        share = level.width * level.height / (finest.width * finest.height)
        result.loss = result.loss * share**0.5  # the gradient of a small level is noisier, by as much
        yield result
        picture = result.picture.detach()
        ahead = None if result.ahead is None else result.ahead.detach()


def _run_filter(
    model: Tokenizer, step: Pass, target: Tensor, context: Tensor, following: Tensor | None, grid: Tensor
) -> Result:
    """The light loop filter alone, behind the last token."""
    loss, picture, ahead = filter_loss(model, step.kind, target, context, following, step_tensor(grid), light=True)
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
    cut: Cut | None,
    learn: bool,
    ends: Tensor,
) -> Result:
    tiling, order = Tiling(step.level, target.device), statistics.order[step.kind]
    tiles, batch = step.level.tiles, len(target)
    sizes, steps = tiling.sizes.repeat(batch, 1), grid.repeat_interleave(tiles)
    delta, delta_tiles = step_tensor(grid), step_tensor(steps)
    with torch.no_grad():
        residual = tiling.cut(tiling.lap(target - context))
        exists = existing(sizes, order, model.config.tile)
        costs, go, stop = statistics.prices(step.kind, steps)
        values, gains = quantise(model.analyse(residual, sizes, delta_tiles, order), costs, kappa)
        values, gains = values * exists, gains * exists
        last = ends_of(exists, ends)
        counts = choose_prefix(gains, ends, go, stop, kappa, last)
        sent = _sent(exists, counts, ends)
        if learn:
            statistics.add(step.kind, steps, values * sent, sent, counts, last)
        if cut is not None:
            counts = cut.of(counts.view(batch, -1), index).flatten()
            sent = _sent(exists, counts, ends)
        values = keep_prefix(values, counts, ends)
        restored = model.restore(values, sizes, delta_tiles, order)
        painted = context + tiling.lap(tiling.join(restored), back=True)
    if model.config.network:
        given = tiling.cut(painted), tiling.cut(context)
        painted = painted + tiling.join(model.correct(values, counts, *given, delta_tiles, step.kind, order))
    some = counts.view(batch, -1).any(1)[:, None, None, None]  # pictures with tokens
    filtered = torch.where(some, painted, context)
    share = counts / model.config.tokens
    picture, ahead = model.finish(filtered, context, tiling.spread(share) * some, delta, step.kind)

    error = (picture - target).square().mean((1, 2, 3))  # [B]
    weight = 1 / (error.detach() / delta.square() + 0.05)
    seams = SEAMS * across_edges(picture - target, tiling) / delta.square()
    loss = (weight * (error / delta.square() + seams)).mean()
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
