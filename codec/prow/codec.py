"""Pictures to tokens and back: every pass, one picture, as the encoder and the decoder run them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import astuple
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .config import FULL, MIDDLE, REFINE, START, UNKNOWN_BASE, Config
from .distortion import log_distortion
from .geometry import Level, Pass, every_other, passes, strips
from .quantise import Costs, choose_prefix, keep_prefix, quantise
from .stream import Layout, PassTokens, Tokens, Writer, empty_tokens
from .tables import Tables
from .tiling import Tiling, double, halve, pyramid
from .tokenizer import Tokenizer, step_tensor

KAPPA = 0.04  # price of a bit in squared quantiser steps
_TILES = 2048  # tiles that go through the network at once
_PENDING = 8  # bytes at the end of a stream in the making that later symbols may change
_STRIP = 1 << 20  # px of a level that go through the loop filter at once, about

ALLOCATIONS = ("slope", "even")


@dataclasses.dataclass(frozen=True)
class Coded:
    """An encoder's result.

    Attributes:
        tokens: what it chose; none in the passes that it did not come to.
        content: the stream, untrimmed. contexts: what each pass that it came to started from.
    """

    tokens: Tokens
    content: bytes
    contexts: tuple[Tensor, ...]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A picture to encode.

    Attributes:
        base: grid index of the base step.
        targets: what each pass that is run should arrive at (`Codec.targets`).
        room: how many bytes of the stream are wanted; None: all.
        left_out: indices of passes that shall have no tokens; None: `geometry.every_other`.
        spare: how many bytes of the room must be left when a pass at full or half resolution, which take most of the
            time, begins; if fewer are, the stream ends before it.
    """

    base: int
    targets: list[Tensor]
    room: int | None = None
    left_out: frozenset[int] | None = None
    spare: int = 0


class _Work:
    """The stream of a picture in the making."""

    def __init__(self, wanted: Wanted, codec: Codec, plan: list[Pass]) -> None:
        self.wanted, self.config = wanted, codec.config
        self.left_out = every_other(plan) if wanted.left_out is None else wanted.left_out
        self.writer = Writer(wanted.base, codec.config, codec.tables)
        self.parts: list[PassTokens] = []
        self.contexts: list[Tensor] = []

    def ends(self, index: int, step: Pass) -> bool:
        """Whether nothing of a pass is wanted."""
        if self.wanted.room is None:
            return index >= len(self.wanted.targets)
        left = self.wanted.room - len(self.writer.bytes())
        few = step.depth < 2 and bool(self.wanted.spare) and left < self.wanted.spare
        return few or left <= -_PENDING or index >= len(self.wanted.targets)

    def add(self, step: Pass, part: PassTokens, context: Tensor) -> None:
        self.writer.add(step, part)
        self.parts.append(part)
        self.contexts.append(context)

    def add_nothing(self, index: int, step: Pass) -> None:
        """That a pass has no tokens, unless nothing of it is wanted."""
        if not self.ends(index, step):
            self.parts.append(empty_tokens(step.level, self.config))
            self.writer.add(step, self.parts[-1])

    def coded(self, size: tuple[int, int], plan: list[Pass]) -> Coded:
        rest = [empty_tokens(step.level, self.config) for step in plan[len(self.parts) :]]
        parts = (*self.parts, *rest)
        tokens = Tokens(*size, self.config.model_id, self.wanted.base, parts)
        return Coded(tokens, self.writer.bytes(), tuple(self.contexts))


class Codec:
    """A network, on whatever device it is, with its tables."""

    def __init__(self, network: Tokenizer, tables: Tables) -> None:
        self.config: Config = network.config
        self.tables, self.network = tables, network
        self.device = network.anchor.bank.device

    @cached_property
    def linear(self) -> Codec:
        """Without network and contexts: a quick estimate of what would be sent."""
        if not self.config.network:
            return self
        anchor = Tokenizer(dataclasses.replace(self.config, network=False)).to(self.device)
        silent = {name: np.zeros_like(getattr(self.tables, name)) for name in ("w3", "b3")}
        return Codec(anchor, dataclasses.replace(self.tables, **silent))

    # -- encoding ------------------------------------------------------------------------------------------------

    def encode(
        self,
        pixels: np.ndarray,
        base: int,
        *,
        kappa: float = KAPPA,
        refine: bool = False,
        allocation: str = "slope",
        room: int | None = None,
        targets: list[Tensor] | None = None,
    ) -> Coded:
        """Run all passes in the decoder's own loop and choose tokens by slope.

        Args:
            pixels: uint8 [H, W, 3]. base: grid index of the base step. kappa: price of a bit.
            refine: send tokens in the refining passes too; else these stay empty.
            allocation: "slope" gives each tile the prefix with the best Lagrangian, "even" gives all tiles of a
                pass the same number of tokens, the best one (for comparison).
            room: bytes of the stream that are wanted; passes beyond these are left out.
            targets: from `targets`; passes beyond these are left out.
        """
        height, width = pixels.shape[:2]
        wanted = Wanted(base, self.targets(pixels) if targets is None else targets, room)
        return self.encode_many((width, height), [wanted], kappa=kappa, refine=refine, allocation=allocation)[0]

    @torch.inference_mode()
    def encode_many(
        self,
        size: tuple[int, int],
        batch: Sequence[Wanted],
        *,
        kappa: float = KAPPA,
        refine: bool = False,
        allocation: str = "slope",
    ) -> list[Coded]:
        """As `encode`, for pictures of one size (width, height) that go through each pass together."""
        plan = passes(*size, self.config)
        work = [_Work(wanted, self, plan) for wanted in batch]
        active, paint = list(range(len(batch))), None
        for index, step in enumerate(plan):
            if step.kind == REFINE and not refine:
                for i in active:
                    work[i].add_nothing(index, step)
                continue
            going = [place for place, i in enumerate(active) if not work[i].ends(index, step)]
            if not going:
                break
            active, bases = [active[place] for place in going], [batch[active[place]].base for place in going]
            if paint is None:
                picture, ahead = self._start(plan, len(batch))
            else:  # the pass before, of those alone that go on
                before, parts, context = paint
                picture, ahead = self._paint(before, bases, [parts[place] for place in going], context[going])
            context = self._context(picture, ahead, step)
            parts = self._choose_parts(step, index, [work[i] for i in active], context, kappa, allocation)
            for place, (i, part) in enumerate(zip(active, parts, strict=True)):
                work[i].add(step, part, context[place : place + 1])
            paint = step, parts, context
        return [done.coded(size, plan) for done in work]

    def _choose_parts(
        self, step: Pass, index: int, work: list[_Work], context: Tensor, kappa: float, allocation: str
    ) -> list[PassTokens]:
        """Tokens of a pass for each picture, none where the pass is left out."""
        parts = [empty_tokens(step.level, self.config)] * len(work)
        sent = [place for place, one in enumerate(work) if index not in one.left_out]
        if sent:
            targets = torch.cat([work[place].wanted.targets[index] for place in sent])
            bases = [work[place].wanted.base for place in sent]
            chosen = self._choose_tokens(step, bases, targets, context[sent], kappa, allocation)
            for place, part in zip(sent, chosen, strict=True):
                parts[place] = part
        return parts

    def _choose_tokens(
        self, step: Pass, bases: Sequence[int], targets: Tensor, context: Tensor, kappa: float, allocation: str
    ) -> list[PassTokens]:
        layout = Layout(step.level, self.config, self.tables.order[step.kind])
        prices = [self.prices(step.kind, step.step_index(base)) for base in bases]
        costs = Costs(*(torch.stack(column) for column in zip(*(astuple(p[0]) for p in prices), strict=True)))
        tiling, order = Tiling(step.level, self.device), self._order(step.kind)
        ends = torch.from_numpy(layout.ends).to(self.device)
        exists, last = torch.from_numpy(layout.exists).to(self.device), torch.from_numpy(layout.last).to(self.device)
        values, gains = [], []
        for rows, tiles in self._rows(step.level, len(bases)):
            context_tiles, sizes = tiling.cut(context, *rows), tiling.sizes[tiles]
            delta, sizes = self._steps(step, bases, len(sizes)), sizes.repeat(len(bases), 1)
            ratios = self.network.analyse(tiling.cut(targets, *rows), context_tiles, sizes, delta, step.kind, order)
            v, g = quantise(ratios.unflatten(0, (len(bases), -1)), costs, kappa)  # [B, tiles, K]
            values.append((v * exists[tiles]).to(torch.int16))
            gains.append(g * exists[tiles])
        found = []
        for v, g, price in zip(torch.cat(values, dim=1), torch.cat(gains, dim=1), prices, strict=True):
            counts = _choose(g, ends, price, kappa, last, allocation)
            kept = keep_prefix(v, counts, ends)
            found.append(PassTokens(counts.cpu().numpy().astype(np.int16), kept.cpu().numpy().astype(np.int16)))
        return found

    # -- decoding ------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def decode(self, tokens: Tokens, after: Coded | None = None, last: int | None = None) -> Tensor:
        """Tokens -> picture [3, H, W], 0 to 255.

        Args:
            after: an encoder's result for the same picture; passes with the same tokens are not run again.
            last: index of the pass whose picture is wanted instead of the last one's, at its own level and before its
                loop filter, which takes most of the time and changes little there.
        """
        plan = passes(tokens.width, tokens.height, self.config)
        base = tokens.base if tokens.base is not None else UNKNOWN_BASE
        (picture, ahead), first, small = self._start(plan), 0, tokens.unfiltered(self.config)
        if after is not None:
            first = _same_passes(tokens, after)
            first = first if last is None else min(first, last)
            picture = after.contexts[first]
        for index in range(first, len(plan)):
            step, part = plan[index], tokens.passes[index]
            context = self._context(picture, ahead, step)
            if index == last:
                picture = self._join(step, [base], [part], context) if part.counts.any() else context
                return picture[0].clamp(0, 255)
            picture, ahead = self._paint(step, [base], [part], context, small)
        return picture[0]

    @torch.inference_mode()
    def decode_many(self, batch: Sequence[Tokens]) -> list[Tensor]:
        """Tokens of pictures of one size -> pictures [3, H, W], 0 to 255; they go through each pass together.

        All need the same number of levels without filter (`Tokens.unfiltered`) too.
        """
        (alike, *others) = {(tokens.width, tokens.height, tokens.unfiltered(self.config)) for tokens in batch}
        if others:
            raise ValueError(f"pictures of {alike} and {others[0]} came, wanted one width, height and unfiltered")
        width, height, small = alike
        plan = passes(width, height, self.config)
        bases = [UNKNOWN_BASE if tokens.base is None else tokens.base for tokens in batch]
        picture, ahead = self._start(plan, len(batch))
        for index, step in enumerate(plan):
            context = self._context(picture, ahead, step)
            picture, ahead = self._paint(step, bases, [tokens.passes[index] for tokens in batch], context, small)
        return list(picture)

    def targets(self, pixels: np.ndarray, count: int | None = None) -> list[Tensor]:
        """What the first `count` passes should arrive at, [1, 3, H, W] of their levels, for pixels uint8 [H, W, 3]."""
        plan = passes(pixels.shape[1], pixels.shape[0], self.config)[:count]
        finest, image = plan[-1].depth, torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None]
        if finest:  # the largest level is never there as a whole in 32 bits
            rows = max(2, _STRIP // image.shape[-1] // 2 * 2)
            found = torch.cat([halve(strip.to(self.device).float()) for strip in image.split(rows, dim=-2)], dim=-2)
        else:
            found = image.to(self.device).float()
        levels = pyramid(found, plan[0].depth + 1 - min(finest, 1))
        return [levels[min(finest, 1) - 1 - step.depth] for step in plan]

    def distortion(self, tokens: Tokens, targets: list[Tensor], last: int, after: Coded | None = None) -> float:
        """How far the picture of pass `last`, before its loop filter, is from its target; see `log_distortion`.

        Args:
            targets: from `targets`. after: as for `decode`.
        """
        picture, full = self.decode(tokens, after, last), targets[last].shape[-2:] == (tokens.height, tokens.width)
        return float(log_distortion(picture[None], targets[last], full=full))

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
        (picture, ahead), integers = self._start(plan), []
        for step, part in zip(plan, tokens.passes, strict=False):
            tiling, order, bases = Tiling(step.level, self.device), self._order(step.kind), [tokens.base]
            values = torch.from_numpy(part.values.astype(np.float32)).to(self.device).requires_grad_()
            counts = torch.from_numpy(part.counts.astype(np.int64)).to(self.device)
            context, delta = self._context(picture, ahead, step), self._steps(step, bases, len(counts))
            picture, ahead = context, None
            if part.counts.any():
                tiles = tiling.cut(context)
                painted = self.network.synthesise(values, counts, tiles, tiling.sizes, delta, step.kind, order)
                picture = tiling.join(painted)
            if step is not plan[-1] and (part.counts.any() or step.kind in (START, MIDDLE)):
                received, delta = self._received(step, [part]), self._steps(step, bases)
                picture, ahead = self.network.finish(picture, context, received, delta, step.kind)
            integers.append(values)
        error = (picture - target.clone()).square().mean()
        return list(torch.autograd.grad(error, integers, materialize_grads=True))

    def _paint(
        self, step: Pass, bases: Sequence[int], parts: Sequence[PassTokens], context: Tensor, unfiltered: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        """What a pass makes of its tokens and the pictures so far: [B, 3, H, W], and what to add when they are doubled.

        Without tokens the loop filter runs alone, and not even that on the last level and on the `unfiltered` finest
        ones: it has nothing to say there that is worth its time.
        """
        some = [i for i, part in enumerate(parts) if part.counts.any()]
        if step.kind in (FULL, REFINE) or step.depth < unfiltered:
            if not some:
                return context, None
            if len(some) < len(parts):
                better, _ = self._paint(step, [bases[i] for i in some], [parts[i] for i in some], context[some])
                picture = context.clone()
                picture[some] = better
                return picture, None
        picture = context
        if some:
            picture = context.clone()
            picture[some] = self._join(step, [bases[i] for i in some], [parts[i] for i in some], context[some])
        return self._finish(step, bases, picture, context, self._received(step, parts))

    def _received(self, step: Pass, parts: Sequence[PassTokens]) -> Tensor:
        """What the loop filter is told of tiles and tokens (`Tiling.spread`): nothing if there are no tokens."""
        counts = np.concatenate([part.counts for part in parts]).astype(np.float32)
        told = Tiling(step.level, self.device).spread(torch.from_numpy(counts).to(self.device) / self.config.tokens)
        return told * torch.tensor([[[[bool(part.counts.any())]]] for part in parts], device=self.device)

    def _join(self, step: Pass, bases: Sequence[int], parts: Sequence[PassTokens], context: Tensor) -> Tensor:
        """The pictures of a pass before the loop filter, [B, 3, H, W]."""
        tiling, order = Tiling(step.level, self.device), self._order(step.kind)
        painted = []
        for rows, tiles in self._rows(step.level, len(parts)):
            values = torch.from_numpy(np.concatenate([part.values[tiles] for part in parts]).astype(np.float32))
            counts = torch.from_numpy(np.concatenate([part.counts[tiles] for part in parts]).astype(np.int64))
            values, counts, sizes = values.to(self.device), counts.to(self.device), tiling.sizes[tiles]
            delta, sizes = self._steps(step, bases, len(sizes)), sizes.repeat(len(parts), 1)
            context_tiles = tiling.cut(context, *rows)
            done = self.network.synthesise(values, counts, context_tiles, sizes, delta, step.kind, order)
            painted.append(done.unflatten(0, (len(parts), -1)))
        return tiling.join(torch.cat(painted, dim=1).flatten(0, 1))

    def _finish(
        self, step: Pass, bases: Sequence[int], picture: Tensor, context: Tensor, received: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The loop filter in strips that overlap by its reach, so that memory stays bounded."""
        finished, ahead, delta = [], [], self._steps(step, bases)
        height, width = picture.shape[-2:]
        for given, kept in strips(height, width, _STRIP, self.config.reach):
            part, before, share = (t[..., given, :] for t in (picture, context, received))
            out, more = self.network.finish(part, before, share, delta, step.kind)
            finished.append(out[..., kept, :])
            if more is not None:
                ahead.append(more[..., 2 * kept.start : 2 * kept.stop, :])
        return torch.cat(finished, dim=-2), torch.cat(ahead, dim=-2) if ahead else None

    # -- shared --------------------------------------------------------------------------------------------------

    def _start(self, plan: list[Pass], count: int = 1) -> tuple[Tensor, None]:
        level = plan[0].level
        return torch.full((count, 3, level.height, level.width), 128.0, device=self.device), None

    @staticmethod
    def _context(picture: Tensor, ahead: Tensor | None, step: Pass) -> Tensor:
        """The pictures so far at the size of a pass."""
        same = picture.shape[-2:] == (step.level.height, step.level.width)
        return picture if same else double(picture, ahead, step.level.width, step.level.height)

    @staticmethod
    def _rows(level: Level, pictures: int = 1) -> list[tuple[tuple[int, int], slice]]:
        """Batches of whole rows of tiles of each picture: (first and last row), tiles."""
        columns = len(level.columns)
        return [((a, b), slice(a * columns, b * columns)) for a, b in level.batches(_TILES // pictures)]

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


def _same_passes(tokens: Tokens, coded: Coded) -> int:
    """How many of the passes that an encoder ran, less the last, have these tokens too; at most as many as stand before
    the last one with tokens, since behind it a decoder may leave out filters (`Tokens.unfiltered`)."""
    spoken = [index for index, part in enumerate(tokens.passes) if part.counts.any()]
    limit, same = min(len(coded.contexts) - 1, spoken[-1]) if spoken else 0, 0
    for a, b in zip(tokens.passes[:limit], coded.tokens.passes, strict=False):
        if tokens.base != coded.tokens.base or not (
            np.array_equal(a.counts, b.counts) and np.array_equal(a.values, b.values)
        ):
            break
        same += 1
    return same


def to_image(picture: Tensor) -> np.ndarray:
    """[3, H, W], 0 to 255 -> uint8 [H, W, 3]."""
    return picture.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
