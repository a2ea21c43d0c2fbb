"""Pictures to tokens and back: every pass, one picture, as the encoder and the decoder run them.

What is in here does no arithmetic on pixels: that is torch in `prow.codec`, ONNX Runtime and numpy in
`prow.onnx_codec`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from .config import FULL, REFINE, Config
from .geometry import Level, Pass, passes
from .stream import Classes, Writer
from .tables import Tables
from .tokens import PassTokens, Tokens, empty_tokens

KAPPA = 0.02  # price of a bit in squared quantiser steps: low, since what a pass drops the next one has to mend
# Of the distortion that an encoder wants to be small (`prow.distortion`):
STRUCTURE = 0.75  # weight of the logarithm of lost structure, beside that of the square error
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # weights of MS-SSIM (Wang et al., 2003), from full resolution on
LEAST = 1e-3  # of lost structure, and of square error: less makes no difference
WINDOW = 8  # px
NOISE = (0.03 * 255) ** 2  # variance below which structure does not count, from SSIM

ALLOCATIONS = ("slope", "even")
TILES = 2048  # that go through the network at once
STRIP = 1 << 20  # px of a level that go through the loop filter at once, about
PENDING = 8  # bytes at the end of a stream in the making that later symbols may change

Pictures = Any  # torch tensors or numpy arrays, float32 [B, 3, H, W], 0 to 255


@dataclasses.dataclass(frozen=True)
class Coded:
    """An encoder's result.

    Attributes:
        tokens: what it chose; none in the passes that it did not come to.
        content: the stream, untrimmed. classes: what helps `read` with any prefix of it (`Writer.classes`).
        contexts: what each pass that it came to started from.
    """

    tokens: Tokens
    content: bytes
    classes: Classes
    contexts: tuple[Pictures, ...]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A picture to encode.

    Attributes:
        base: grid index of the base step.
        targets: what each pass that is run should arrive at (`Codec.targets`).
        room: how many bytes of the stream are wanted; None: all.
    """

    base: int
    targets: list[Pictures]
    room: int | None = None


class _Work:
    """The stream of a picture in the making."""

    def __init__(self, wanted: Wanted, codec: BaseCodec) -> None:
        self.wanted, self.config = wanted, codec.config
        self.writer = Writer(wanted.base, codec.config, codec.tables)
        self.parts: list[PassTokens] = []
        self.contexts: list[Pictures] = []

    def ends(self, index: int) -> bool:
        """Whether nothing of a pass is wanted."""
        full = self.wanted.room is not None and len(self.writer.bytes()) - PENDING >= self.wanted.room
        return full or index >= len(self.wanted.targets)

    def add(self, step: Pass, part: PassTokens, context: Pictures) -> None:
        self.writer.add(step, part)
        self.parts.append(part)
        self.contexts.append(context)

    def coded(self, size: tuple[int, int], plan: tuple[Pass, ...]) -> Coded:
        rest = [empty_tokens(step.level, self.config) for step in plan[len(self.parts) :]]
        for step, part in zip(plan[len(self.parts) :], rest, strict=True):
            self.writer.add(step, part)  # or a reader would take the coder's last bytes for more
        parts = (*self.parts, *rest)
        tokens = Tokens(*size, self.config.model_id, self.wanted.base, parts)
        return Coded(tokens, self.writer.bytes(), self.writer.classes(), tuple(self.contexts))


class BaseCodec(ABC):
    """The passes of a model: a network on some device, with its tables."""

    def __init__(self, config: Config, tables: Tables) -> None:
        self.config, self.tables = config, tables

    # -- encoding ------------------------------------------------------------------------------------------------

    def encode(
        self,
        pixels: np.ndarray,
        base: int,
        *,
        kappa: float = KAPPA,
        allocation: str = "slope",
        room: int | None = None,
        targets: list[Pictures] | None = None,
    ) -> Coded:
        """Run all passes in the decoder's own loop and choose tokens by slope.

        Args:
            pixels: uint8 [H, W, 3]. base: grid index of the base step. kappa: price of a bit.
            allocation: "slope" gives each tile the prefix with the best Lagrangian, "even" gives all tiles of a
                pass the same number of tokens, the best one (for comparison).
            room: bytes of the stream that are wanted; passes beyond these are left out.
            targets: from `targets`; passes beyond these are left out.
        """
        height, width = pixels.shape[:2]
        wanted = Wanted(base, self.targets(pixels) if targets is None else targets, room)
        return self.encode_many((width, height), [wanted], kappa=kappa, allocation=allocation)[0]

    def encode_many(
        self,
        size: tuple[int, int],
        batch: Sequence[Wanted],
        *,
        kappa: float = KAPPA,
        allocation: str = "slope",
    ) -> list[Coded]:
        """As `encode`, for pictures of one size (width, height) that go through each pass together."""
        plan = passes(*size, self.config)
        work = [_Work(wanted, self) for wanted in batch]
        active, paint = list(range(len(batch))), None
        for index, step in enumerate(plan):
            going = [place for place, i in enumerate(active) if not work[i].ends(index)]
            if not going:
                break
            active, bases = [active[place] for place in going], [batch[active[place]].base for place in going]
            if paint is None:
                picture, ahead = self._blank(step.level, len(batch)), None
            else:  # the pass before, of those alone that go on
                before, parts, context = paint
                picture, ahead = self._paint(before, bases, [parts[place] for place in going], _at(context, going))
            context = self._context(picture, ahead, step.level)
            targets = self._concatenate([batch[i].targets[index] for i in active])
            parts = self._choose_tokens(step, bases, targets, context, kappa, allocation)
            for place, (i, part) in enumerate(zip(active, parts, strict=True)):
                work[i].add(step, part, context[place : place + 1])
            paint = step, parts, context
        return [done.coded(size, plan) for done in work]

    # -- decoding ------------------------------------------------------------------------------------------------

    def decode(self, tokens: Tokens, after: Coded | None = None, last: int | None = None) -> Pictures:
        """Tokens -> picture [3, H, W], 0 to 255.

        Args:
            after: an encoder's result for the same picture; passes with the same tokens are not run again.
            last: index of the pass whose picture is wanted instead of the last one's, at its own level and before its
                loop filter, which takes most of the time and changes little there.
        """
        plan = passes(tokens.width, tokens.height, self.config)
        base = self.config.usual_base if tokens.base is None else tokens.base
        picture, ahead, first, depths = self._blank(plan[0].level), None, 0, tokens.filter_depths(self.config)
        if after is not None:
            first = _same_passes(tokens, after)
            first = first if last is None else min(first, last)
            picture = after.contexts[first]
        for index in range(first, len(plan)):
            step, part = plan[index], tokens.passes[index]
            context = self._context(picture, ahead, step.level)
            if index == last:
                picture = self._join(step, [base], [part], context) if part.counts.any() else context
                return picture[0].clip(0, 255)
            picture, ahead = self._paint(step, [base], [part], context, depths)
        return picture[0]

    def decode_many(self, batch: Sequence[Tokens]) -> list[Pictures]:
        """Tokens of pictures of one size -> pictures [3, H, W], 0 to 255; they go through each pass together.

        All need filters at the same depths (`Tokens.filter_depths`) too.
        """
        (alike, *others) = {(tokens.width, tokens.height, tokens.filter_depths(self.config)) for tokens in batch}
        if others:
            raise ValueError(f"pictures of {alike} and {others[0]} came, wanted one width, height and filter_depths")
        width, height, depths = alike
        plan = passes(width, height, self.config)
        bases = [self.config.usual_base if tokens.base is None else tokens.base for tokens in batch]
        picture, ahead = self._blank(plan[0].level, len(batch)), None
        for index, step in enumerate(plan):
            context = self._context(picture, ahead, step.level)
            picture, ahead = self._paint(step, bases, [tokens.passes[index] for tokens in batch], context, depths)
        return list(picture)

    def distortion(self, tokens: Tokens, targets: list[Pictures], last: int, after: Coded | None = None) -> float:
        """How far the picture of pass `last`, before its loop filter, is from its target; see `prow.distortion`.

        Args:
            targets: from `targets`. after: as for `decode`.
        """
        picture, full = self.decode(tokens, after, last), targets[last].shape[-2:] == (tokens.height, tokens.width)
        return self._log_distortion(picture[None], targets[last], full)

    def _paint(
        self,
        step: Pass,
        bases: Sequence[int],
        parts: Sequence[PassTokens],
        context: Pictures,
        depths: tuple[int, int] = (0, 0),
    ) -> tuple[Pictures, Pictures | None]:
        """What a pass makes of its tokens and the pictures so far: [B, 3, H, W], and what to add when they are doubled.

        Without tokens the loop filter runs alone, and not even that on the last level and on those above the first of
        these `Tokens.filter_depths`: it has nothing to say there that is worth its time.
        """
        some = [i for i, part in enumerate(parts) if part.counts.any()]
        if step.kind in (FULL, REFINE) or step.depth < depths[0]:
            if not some:
                return context, None
            if len(some) < len(parts):
                better, _ = self._paint(step, [bases[i] for i in some], [parts[i] for i in some], _at(context, some))
                return self._replaced(context, some, better), None
        picture = context
        if some:
            joined = self._join(step, [bases[i] for i in some], [parts[i] for i in some], _at(context, some))
            picture = self._replaced(context, some, joined)
        return self._finish(step, bases, picture, context, parts, light=step.depth < depths[1])

    def _replaced(self, pictures: Pictures, places: list[int], better: Pictures) -> Pictures:
        """Pictures of which those at some places are others."""
        if len(places) == len(pictures):
            return better
        found = self._concatenate([pictures])
        found[places] = better
        return found

    def _context(self, picture: Pictures, ahead: Pictures | None, level: Level) -> Pictures:
        """The pictures so far at the size of a level."""
        return picture if picture.shape[-2:] == (level.height, level.width) else self._double(picture, ahead, level)

    @staticmethod
    def _rows(level: Level, pictures: int = 1) -> list[tuple[tuple[int, int], slice]]:
        """Batches of whole rows of tiles of each picture: (first and last row), tiles."""
        columns = len(level.columns)
        return [((a, b), slice(a * columns, b * columns)) for a, b in level.batches(TILES // pictures)]

    # -- arithmetic ----------------------------------------------------------------------------------------------

    @abstractmethod
    def targets(self, pixels: np.ndarray, count: int | None = None) -> list[Pictures]:
        """What the first `count` passes should arrive at, [1, 3, H, W] of their levels, for pixels uint8 [H, W, 3]."""

    @abstractmethod
    def _blank(self, level: Level, count: int = 1) -> Pictures:
        """What the first pass starts from: grey."""

    @abstractmethod
    def _concatenate(self, pictures: list[Pictures]) -> Pictures:
        """New pictures, one after the other."""

    @abstractmethod
    def _double(self, picture: Pictures, ahead: Pictures | None, level: Level) -> Pictures:
        """Pictures at the next level, whose size is about twice theirs, plus `ahead`."""

    @abstractmethod
    def _choose_tokens(
        self, step: Pass, bases: Sequence[int], targets: Pictures, context: Pictures, kappa: float, allocation: str
    ) -> list[PassTokens]:
        """Tokens of a pass for each picture."""

    @abstractmethod
    def _join(self, step: Pass, bases: Sequence[int], parts: Sequence[PassTokens], context: Pictures) -> Pictures:
        """The pictures of a pass before the loop filter."""

    @abstractmethod
    def _finish(
        self,
        step: Pass,
        bases: Sequence[int],
        picture: Pictures,
        context: Pictures,
        parts: Sequence[PassTokens],
        *,
        light: bool,
    ) -> tuple[Pictures, Pictures | None]:
        """The loop filter: pictures as a reader sees them, and what to add when they are doubled, if anything.

        It is told of tiles and tokens (`Tiling.spread`) where there are tokens.
        """

    @abstractmethod
    def to_image(self, picture: Pictures) -> np.ndarray:
        """[3, H, W], 0 to 255 -> uint8 [H, W, 3]."""

    @abstractmethod
    def _log_distortion(self, picture: Pictures, target: Pictures, full: bool) -> float:
        """See `prow.distortion.log_distortion`."""


def _at(pictures: Pictures, places: list[int]) -> Pictures:
    """Those at some places; no copy if these are all."""
    return pictures if len(places) == len(pictures) else pictures[places]


def _same_passes(tokens: Tokens, coded: Coded) -> int:
    """How many of the passes that an encoder ran, less the last, have these tokens too; at most as many as stand before
    the last one with tokens, since behind it a decoder may leave out filters (`Tokens.filter_depths`)."""
    spoken = [index for index, part in enumerate(tokens.passes) if part.counts.any()]
    limit, same = min(len(coded.contexts) - 1, spoken[-1]) if spoken else 0, 0
    for a, b in zip(tokens.passes[:limit], coded.tokens.passes, strict=False):
        if tokens.base != coded.tokens.base or not (
            np.array_equal(a.counts, b.counts) and np.array_equal(a.values, b.values)
        ):
            break
        same += 1
    return same
