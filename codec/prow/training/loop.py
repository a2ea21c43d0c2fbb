"""All passes of a batch of pictures, as training and its evaluation run them: on policy, each pass on the picture
that the passes before it left behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..backends.torch_ops import cut as cut_tiles
from ..backends.torch_ops import double, join, lap, lost_structure, pyramid, spread
from ..format.config import FULL, REFINE, STEPS
from ..format.geometry import Level, Pass, passes
from ..networks.condition import step_tensor
from ..networks.quantise import choose_tokens, prefix_mask
from ..networks.tokenizer import Tokenizer
from .statistics import Statistics

SEAMS = 0.5  # weight of the squared error of a difference across a tile border, beside that of a value
STRUCTURE = 2.0  # weight of lost structure (0 to 1), beside a square error that counts for about 1


@dataclasses.dataclass
class Result:
    """What a pass or a level without tokens gave: error [B] (mean square, grey levels), bits [B], loss (a scalar)."""

    pass_: Pass
    error: Tensor
    bits: Tensor
    loss: Tensor
    picture: Tensor  # [B, C, H, W] of the pass's level
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


def existing(level: Level, order: Tensor) -> tuple[Tensor, Tensor]:
    """Height and width of each tile, [tiles, 2], and which ranks it has, bool [tiles, K], in scan order [K]."""
    sizes = torch.from_numpy(level.boxes[:, :1:-1].astype(np.int64)).to(order.device)
    row, column = order % level.tile**2 // level.tile, order % level.tile
    return sizes, (row < sizes[:, :1]) & (column < sizes[:, 1:])


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
    """Run the passes on images [B, 3, H, W] (0 to 255) at bases [B], coarse to fine.

    The images are what pictures `beyond` octaves larger look like at that level, and passes end there. With `coarse`
    the passes end below full resolution, which is only what the last of them looks ahead to. Both train the levels that
    matter in small files. `refine` passes at full resolution follow. Behind a cut the light filter runs alone.
    """
    config = model.config
    plan = passes(images.shape[-1] << beyond, images.shape[-2] << beyond, config)
    plan = plan[: len(plan) - len(config.refine_shifts) + refine]
    targets = pyramid(images, plan[0].octaves - beyond + 1)
    stages = [s for s in enumerate(plan) if s[1].octaves >= max(beyond, int(coarse))]
    finest = stages[-1][1].level
    picture, ahead = torch.full_like(targets[0], 128.0), None
    for index, pass_ in stages:
        behind = cut is not None and index > cut.index
        if behind and pass_.kind in (FULL, REFINE):
            return
        level, target = pass_.level, targets[beyond - 1 - pass_.octaves]
        same = picture.shape[-2:] == target.shape[-2:]
        prediction = picture if same else double(picture, ahead, level)
        following = targets[beyond - pass_.octaves] if pass_.octaves > beyond else None
        indices = (base - pass_.shift).clamp(0, STEPS - 1)  # [B]
        given = _Given(pass_, index, target, prediction, following, indices)
        result = _run_filter(model, given) if behind else _run_pass(model, given, statistics, kappa, cut, learn)
        share = level.width * level.height / (finest.width * finest.height)
        result.loss = result.loss * share**0.5  # the gradient of a small level is noisier, by as much
        yield result
        picture = result.picture.detach()
        ahead = None if result.ahead is None else result.ahead.detach()


@dataclasses.dataclass(frozen=True)
class _Given:
    """What a pass starts from, [B, C, H, W] each: its target, the prediction, and the target of the next level, None if
    there is none. index: of the pass. indices: [B], of its quantiser steps."""

    pass_: Pass
    index: int
    target: Tensor
    prediction: Tensor
    following: Tensor | None
    indices: Tensor


def _run_filter(model: Tokenizer, given: _Given) -> Result:
    """The light loop filter alone, behind the last token."""
    prediction, target, step = given.prediction, given.target, step_tensor(given.indices)
    nothing = torch.zeros_like(prediction[:, :1]).expand(-1, 3, -1, -1)
    picture, ahead = model.finish(prediction, prediction, nothing, step, given.pass_.kind, light=True)
    error = (picture - target).square().mean((1, 2, 3))
    loss = (error / (error.detach() + 0.05 * step.square())).mean() + _missed(picture, ahead, given.following, step)
    loss = loss + STRUCTURE * lost_structure(picture, target).mean()
    return Result(given.pass_, error.detach(), torch.zeros_like(error), loss, picture, ahead)


def _missed(picture: Tensor, ahead: Tensor | None, following: Tensor | None, step: Tensor) -> Tensor:
    """The loss of what a level says ahead of the next one; a scalar."""
    if ahead is None or following is None:
        return torch.zeros((), device=step.device)
    guess = double(picture, ahead, Level(following.shape[-1], following.shape[-2], 1))
    missed = (guess - following).square().mean((1, 2, 3)) / step.square()
    lost = lost_structure(guess, following)
    return 0.5 * (missed / (missed.detach() + 0.05) + STRUCTURE * lost).mean()


def _run_pass(
    model: Tokenizer, given: _Given, statistics: Statistics, kappa: float, cut: Cut | None, learn: bool
) -> Result:
    pass_, level, target, prediction = given.pass_, given.pass_.level, given.target, given.prediction
    config, kind, order = model.config, pass_.kind, statistics.order[pass_.kind]
    batch, tiles = len(target), level.tiles
    sizes, exists = (t.repeat(batch, 1) for t in existing(level, order))
    ends = torch.tensor(config.token_dims, device=target.device).cumsum(0)
    indices = given.indices.repeat_interleave(tiles)
    step, tile_steps = step_tensor(given.indices), step_tensor(indices)
    with torch.no_grad():
        residual = cut_tiles(lap(target - prediction, level), level)
        costs, *flags = statistics.prices(kind, indices)
        last = ends_of(exists, ends)
        ratios = model.analyse(residual, sizes, tile_steps, order)
        values, counts = choose_tokens(ratios, exists, costs, (flags[0], flags[1]), ends, last, kappa)
        sent = exists & prefix_mask(counts, ends, config.coefficients)
        if learn:
            statistics.add(kind, indices, values * sent, sent, counts, last)
        if cut is not None:
            counts = cut.of(counts.view(batch, -1), given.index).flatten()
            sent = exists & prefix_mask(counts, ends, config.coefficients)
        values = values * sent
        restored = model.restore(values, sizes, tile_steps, order)
        painted = prediction + lap(join(restored, level), level, back=True)
    if config.network:
        cuts = cut_tiles(painted, level), cut_tiles(prediction, level)
        painted = painted + join(model.correct(values, counts, *cuts, tile_steps, kind, order), level)
    some = counts.view(batch, -1).any(1)[:, None, None, None]  # pictures with tokens
    filtered = torch.where(some, painted, prediction)
    coverage = spread(counts / config.tokens, level) * some
    picture, ahead = model.finish(filtered, prediction, coverage, step, kind)

    error = (picture - target).square().mean((1, 2, 3))  # [B]
    weight = 1 / (error.detach() / step.square() + 0.05)
    seams = SEAMS * across_edges(picture - target, level) / step.square()
    loss = (weight * (error / step.square() + seams)).mean()
    loss = loss + STRUCTURE * lost_structure(picture, target).mean() + _missed(picture, ahead, given.following, step)
    go, stop = flags
    spent = torch.cat([torch.zeros_like(go[:, :1]), go.cumsum(1)], 1).gather(1, counts[:, None])[:, 0]
    spent = spent + torch.where(counts < last, stop.gather(1, counts.clamp(max=len(ends) - 1)[:, None])[:, 0], 0.0)
    bits = ((costs.bits(values) * sent).sum(1) + spent).view(batch, -1).sum(1)
    return Result(pass_, error.detach(), bits.detach(), loss, picture, ahead)


def across_edges(error: Tensor, level: Level) -> Tensor:
    """Squares of how much an error [B, C, H, W] changes from tile to tile, summed, per value: [B]."""
    columns, rows = (torch.tensor(n, device=error.device).cumsum(0)[:-1] for n in (level.columns, level.rows))
    across, down = error[..., columns] - error[..., columns - 1], error[..., rows, :] - error[..., rows - 1, :]
    return (across.square().sum((1, 2, 3)) + down.square().sum((1, 2, 3))) / error[0].numel()


def ends_of(exists: Tensor, ends: Tensor) -> Tensor:
    """How many tokens a tile can have: those up to its last existing rank, [B]."""
    ranks = torch.arange(1, exists.shape[1] + 1, device=exists.device)
    return torch.searchsorted(ends, (exists * ranks).amax(1)) + 1
