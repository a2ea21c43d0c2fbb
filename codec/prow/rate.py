"""Rate control: the stream of a picture, cut to an exact size.

Any prefix of a stream is a stream, and the schedule of passes (`prow.geometry.passes`) makes it a good one: so encoding
is one run and a cut. The base step is the only choice: smooth pictures want a finer one, busy ones a coarser one. A few
are tried for the first bytes, which is quick, and the best one serves for all sizes. With much effort others are tried
at the size that is wanted, too, and the tokens of what remains are refined (`prow.refine`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from .base_codec import PENDING, BaseCodec, Coded, Pictures, Wanted
from .config import NEAR, STEPS_PER_OCTAVE
from .geometry import Pass, passes
from .stream import read, trim
from .tokens import Tokens

FINEST, COARSEST = 8, 48  # base steps that an encoder uses: tables know little beyond
SMALLEST, LARGEST = 56, 8  # quality 0 and 100: grid index at full resolution of the step that a stream ends with


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long to look for better tokens of the same size.

    Attributes:
        probes: how many base steps are tried at most for the first PROBE bytes.
        tries: how many around the best of these for all bytes.
        rounds: of refinement (`prow.refine`).
    """

    probes: int
    tries: int
    rounds: int = 0


EFFORTS = {
    1: Effort(1, 1),
    2: Effort(2, 1),
    3: Effort(3, 1),
    4: Effort(4, 1),
    5: Effort(4, 1),
    6: Effort(6, 3, 3),
    7: Effort(8, 5, 6),
    8: Effort(8, 8, 12),
    9: Effort(8, 12, 40),
}
PROBE = 512  # bytes; coarse levels take about as many in any picture
_DISTANCES = (4, 2, 1)  # in base steps, of those that are tried around the best so far
_SPARSE = 0.01  # bits a px: a pass at a level for which there are fewer in all is not worth looking at
_SPARSE_HUGE = 0.03  # the same for levels of more than _HUGE px, where looking takes very long
_HUGE = 1 << 21  # px


@dataclasses.dataclass(frozen=True)
class Stream:
    """A finished stream. `exhausted`: shorter than the budget, since the model has nothing left to say."""

    content: bytes
    tokens: Tokens
    exhausted: bool = False


def at_quality(codec: BaseCodec, pictures: Sequence[np.ndarray], quality: float) -> list[Stream]:
    """The streams of pictures of one size that end with the step of a quality, 0 (smallest) to 100 (step 1)."""
    height, width = pictures[0].shape[:2]
    wanted_step = round(SMALLEST - (SMALLEST - LARGEST) * quality / 100)
    base, count = _ending(passes(width, height, codec.config), codec.config.usual_base, wanted_step)
    wanted = [Wanted(base, codec.targets(pixels, count)) for pixels in pictures]
    return [Stream(_trimmed(codec, c), c.tokens) for c in codec.encode_many((width, height), wanted)]


def _ending(plan: tuple[Pass, ...], usual: int, wanted: int) -> tuple[int, int]:
    """The base step nearest to the usual one with which some pass has a step as fine as wanted, and how many passes
    there are up to that one. The coarsest pass if none is as coarse."""
    for base in sorted(range(usual - NEAR, usual + NEAR + 1), key=lambda base: abs(base - usual)):
        for index, step in enumerate(plan):
            # the same detail has twice the coefficient a level up
            if base - step.shift + STEPS_PER_OCTAVE * step.depth == wanted:
                return base, index + 1
    return usual + NEAR, 1


def at_bytes(
    codec: BaseCodec, pictures: Sequence[np.ndarray], room: int, effort: int, refiner: BaseCodec | None = None
) -> list[Stream]:
    """For pictures of one size streams of exactly `room` bytes, or all that the model can say if that is less.

    They go through the networks together.

    Args:
        refiner: the same model in torch, for efforts with rounds of refinement if the codec is not in torch itself.
    """
    height, width = pictures[0].shape[:2]
    plan = passes(width, height, codec.config)
    areas = [step.level.width * step.level.height for step in plan]
    affordable = sum(area * (_SPARSE if area <= _HUGE else _SPARSE_HUGE) <= 8 * room for area in areas)
    count = max(1, affordable)
    searches = _searched(codec, pictures, count, room, EFFORTS[effort])
    simple = [i for i, search in enumerate(searches) if search.best is None]  # there is room for more passes
    if simple and count < len(plan):
        again = _searched(codec, [pictures[i] for i in simple], len(plan), room, EFFORTS[effort])
        for i, search in zip(simple, again, strict=True):
            searches[i] = search
    found = []
    for pixels, search in zip(pictures, searches, strict=True):
        rounds = EFFORTS[effort].rounds
        wanted = (refiner or codec).targets(pixels, len(search.targets)) if rounds and search.best else []
        found.append(search.result(refiner or codec, wanted, rounds))
    return found


def _searched(codec: BaseCodec, pictures: Sequence[np.ndarray], count: int, room: int, effort: Effort) -> list[_Search]:
    """The searches for pictures of one size, of `count` passes, when they are done."""
    height, width = pictures[0].shape[:2]
    searches = [_Search(codec, codec.targets(pixels, count), min(room, PROBE)) for pixels in pictures]
    for size, tries in ((min(room, PROBE), effort.probes), (room, effort.tries)):
        for search in searches:
            search.go_on(size)
        while asked := [(s, base) for s in searches if len(s.tried) < tries and (base := s.next_base()) is not None]:
            wanted = [Wanted(base, search.targets, search.room) for search, base in asked]
            for (search, base), coded in zip(asked, codec.encode_many((width, height), wanted), strict=True):
                search.take(base, coded)
    return searches


@dataclasses.dataclass(frozen=True)
class _Try:
    """A stream of exactly the room, what it was cut from, and what is known of its distortion after some passes."""

    content: bytes
    tokens: Tokens
    coded: Coded
    known: dict[int, float] = dataclasses.field(default_factory=dict)


class _Search:
    """The search for the base step whose stream is best when it is cut at `room` bytes."""

    def __init__(self, codec: BaseCodec, targets: list[Pictures], room: int) -> None:
        self.codec, self.targets, self.room, self.start = codec, targets, room, codec.config.usual_base
        self.tried: dict[int, Coded] = {}
        self.best: _Try | None = None

    def go_on(self, room: int) -> None:
        """Look for the best stream of another size from now on, around the base step that was the best so far."""
        if room != self.room:
            self.start, self.room, self.tried, self.best = self.centre, room, {}, None

    @property
    def centre(self) -> int:
        """The best base step so far; where all streams are too short the finest one, which has most to say."""
        return self.best.coded.tokens.base if self.best else min(self.tried, default=self.start)  # type: ignore[return-value]

    def next_base(self) -> int | None:
        """The next base step to try; None if those around the best one are all worse."""
        if not self.tried:
            return self.start
        centre = self.centre
        for distance in _DISTANCES:
            for base in (centre - distance, centre + distance):
                if FINEST <= base <= COARSEST and base not in self.tried:
                    return base
        return None

    def take(self, base: int, coded: Coded) -> None:
        """Learn of the stream of a base step."""
        self.tried[base] = coded
        more = len(self.targets) < len(coded.tokens.passes)  # to come, which would change the last bytes
        if len(coded.content) < self.room + more * PENDING:
            return
        content, sent = coded.content[: self.room], coded.tokens
        received = read(
            content, sent.width, sent.height, sent.model_id, self.codec.config, self.codec.tables, coded.classes
        )
        new = _Try(content, received, coded)
        if self.best is None or self._distortion(new, self.best) < self._distortion(self.best, new):
            self.best = new

    def _distortion(self, one: _Try, other: _Try) -> float:
        """Of the picture after the last pass that matters to either; the rest changes little."""
        last = max(one.tokens.depth(), other.tokens.depth())
        if last not in one.known:
            one.known[last] = self.codec.distortion(one.tokens, self.targets, last, one.coded)
        return one.known[last]

    def result(self, refiner: BaseCodec, targets: list[Pictures], rounds: int) -> Stream:
        if self.best is None:
            longest = max(self.tried.values(), key=lambda coded: len(coded.content))
            return Stream(_trimmed(self.codec, longest), longest.tokens, exhausted=True)
        if not rounds:
            return Stream(self.best.content, self.best.tokens)
        from .refine import refine  # takes torch

        return Stream(*refine(refiner, self.best.coded, self.best.tokens, targets, self.room, rounds))


def _trimmed(codec: BaseCodec, coded: Coded) -> bytes:
    return trim(coded.content, coded.tokens, codec.config, codec.tables, coded.classes)
