"""Rate control: the base step and the cut that make a stream of an exact size.

A stream's size falls smoothly as the base step grows. The coarsest step whose stream reaches the budget, or one near
it, is found by a bracketing search in the logarithm of the size, with the linear anchor alone, which is quick; so are
the base step and the choice of levels that are best for the anchor. The network looks around there again; what sticks
out of the budget is cut off. Nothing is lost by the cut but the end of the story: any prefix of a stream is a stream.
With much effort what remains is refined (`prow.refine`); with little the anchor's first guess is all there is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Sequence
from typing import TypeVar

import numpy as np

from .base_codec import BaseCodec, Coded, Pictures, Wanted
from .config import STEPS
from .geometry import Pass, every_other, passes
from .stream import read, trim
from .tokens import Tokens

FINEST, COARSEST = 8, 56  # base steps that an encoder uses: 1 to 4,096 grey levels; tables know little beyond


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long to look for better tokens of the same size.

    Attributes:
        guesses: whether the linear anchor looks for base steps and choices of passes first.
        tries: how many streams the network makes at most until one is refined.
        plans: for how many choices of passes.
        rounds: of refinement (`prow.refine`).
        share: of the room that must be left for passes at full or half resolution of large pictures, which take most of
            the time.
    """

    guesses: bool
    tries: int
    plans: int
    rounds: int
    share: float


_ALL = 4 * STEPS
EFFORTS = {
    1: Effort(False, 1, 1, 0, 0.3),
    2: Effort(False, _ALL, 1, 0, 0.3),
    3: Effort(True, 1, 1, 0, 0.3),
    4: Effort(True, _ALL, 2, 0, 0.3),
    5: Effort(True, _ALL, 4, 0, 0.3),
    6: Effort(True, _ALL, 4, 3, 0.12),
    7: Effort(True, _ALL, 4, 6, 0.0),
    8: Effort(True, _ALL, 4, 12, 0.0),
    9: Effort(True, _ALL, 4, 40, 0.0),
}
_PLANS = ((0, True), (0, False), (1, True), (1, False))  # of `geometry.every_other`: phase, lowest
_PATIENCE = 1  # base steps in a row that may do worse before the anchor's search ends
_NEAR = 1.5  # a stream with at most so many times the bytes of a budget has a base step near enough to start from
_MOST = 1.35  # a stream that is too short has at least the so manieth part of the bytes of one a base step finer
_AHEAD = 3  # the best base step is about so much finer than the coarsest one that reaches a budget
_GROWTH = math.log(3) / 4  # the logarithm of a stream's size falls by this much a step
_SPARSE = 0.01  # bits a px: a pass at a level for which there are fewer in all is not worth looking at
_SPARSE_HUGE = 0.03  # the same for levels of more than _HUGE px, where looking takes very long
_LARGE, _HUGE = 1 << 17, 1 << 21  # px; more is a large picture, a huge level
_FAR = 8  # sizes beyond so many times the room are not told apart
_TYPICAL = (42, 1200, 400_000)  # at this base step, this many bytes for so many px

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Stream:
    """A finished stream. `exhausted`: shorter than the budget, since the model has nothing left to say."""

    content: bytes
    tokens: Tokens
    exhausted: bool = False


def at_quality(codec: BaseCodec, pictures: Sequence[np.ndarray], quality: float) -> list[Stream]:
    """The natural streams of pictures of one size at a quality of 0 (smallest) to 100 (base step 1)."""
    base = round(COARSEST - (COARSEST - FINEST) * quality / 100)
    height, width = pictures[0].shape[:2]
    found = codec.encode_many((width, height), [Wanted(base, codec.targets(pixels)) for pixels in pictures])
    return [Stream(_trimmed(codec, coded), coded.tokens) for coded in found]


def at_bytes(
    codec: BaseCodec, pictures: Sequence[np.ndarray], room: int, effort: int, refiner: BaseCodec | None = None
) -> list[Stream]:
    """For pictures of one size streams of exactly `room` bytes, or all that the model can say if that is less.

    They go through the networks together where their searches allow it.

    Args:
        refiner: the same model in torch, for efforts with rounds of refinement if the codec is not in torch itself.
    """
    height, width = pictures[0].shape[:2]
    searches = [_search(codec, pixels, room, effort, refiner or codec) for pixels in pictures]
    asked = {i: next(search) for i, search in enumerate(searches)}
    found: dict[int, Stream] = {}
    while asked:
        first = next(iter(asked.values()))
        now = [i for i, request in asked.items() if (request.codec, request.refine) == (first.codec, first.refine)]
        wanted = [asked.pop(i).wanted for i in now]
        coded = first.codec.encode_many((width, height), wanted, refine=first.refine)
        for i, answer in zip(now, coded, strict=True):
            try:
                asked[i] = searches[i].send(answer)
            except StopIteration as end:
                found[i] = end.value
    return [found[i] for i in range(len(pictures))]


@dataclasses.dataclass(frozen=True)
class _Request:
    """What a search wants encoded next."""

    codec: BaseCodec
    wanted: Wanted
    refine: bool = False


# A search that stops for each encode, so that those of many pictures can be made at once.
_Search = Generator[_Request, Coded, T]


def _search(codec: BaseCodec, pixels: np.ndarray, room: int, level: int, refiner: BaseCodec) -> _Search[Stream]:
    """The search for one picture's stream."""
    effort = EFFORTS[level]
    height, width = pixels.shape[:2]
    plan, spare = passes(width, height, codec.config), 0
    if width * height > _LARGE:
        spare = round(effort.share * room)
    areas = [step.level.width * step.level.height for step in plan]
    affordable = sum(area * (_SPARSE if area <= _HUGE else _SPARSE_HUGE) <= 8 * room for area in areas)
    targets: list[Pictures] = []
    for count in sorted({max(1, affordable), len(plan)}):
        targets = codec.targets(pixels, count)
        start = yield from _coarsest_reaching(codec.linear, targets, room, _typical_base(room, width * height))
        if start is None and count < len(plan):  # so simple a picture that there is room for more passes
            continue
        for left in sorted({spare, 0}, reverse=True):  # perhaps no level before full resolution fills the room
            best = yield from _best_cut(codec, plan, targets, room, start, effort, left)
            if best is not None:
                content, tokens = best.stream.content, best.stream.tokens
                if effort.rounds:
                    from .refine import refine  # takes torch

                    wanted = refiner.targets(pixels, count)
                    content, tokens = refine(refiner, best.coded, tokens, wanted, room, effort.rounds)
                return Stream(content, tokens)
    coded = yield _Request(codec, Wanted(FINEST, targets), refine=True)
    if len(coded.content) >= room:
        return _cut(codec, coded, room)
    return Stream(_trimmed(codec, coded), coded.tokens, exhausted=True)


@dataclasses.dataclass(frozen=True)
class _Try:
    """A stream of exactly the room, what it was cut from, which passes were to be left out, and what is known of its
    distortion after some passes."""

    stream: Stream
    coded: Coded
    base: int
    left_out: frozenset[int]
    known: dict[int, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class _Hunt:
    """The search for the best of a codec's streams, cut at `room` bytes."""

    codec: BaseCodec
    targets: list[Pictures]
    room: int
    spare: int
    tries: int = _ALL

    def better(self, one: _Try, other: _Try) -> bool:
        """Whether one is the better one, after the last pass that matters to either; the rest changes little."""
        last = max(t.stream.tokens.depth() for t in (one, other))
        return self.distortion(one, last) < self.distortion(other, last)

    def distortion(self, one: _Try, last: int) -> float:
        if last not in one.known:
            one.known[last] = self.codec.distortion(one.stream.tokens, self.targets, last, one.coded)
        return one.known[last]

    def look(self, best: _Try | None, bases: range, left_out: frozenset[int], patience: int) -> _Search[_Try | None]:
        """The best of what there was and base steps in their order, until more than `patience` in a row do worse."""
        worse, most = 0, math.inf
        for base in bases:
            if not self.tries or worse > patience:
                break
            most *= _MOST
            if most < self.room:
                continue
            coded = yield _Request(self.codec, Wanted(base, self.targets, self.room, left_out, self.spare))
            if len(coded.content) < self.room:
                if bases.step > 0:
                    break
                most = len(coded.content)
                continue  # too short; finer steps have more to say
            self.tries -= 1
            new = _Try(_cut(self.codec, coded, self.room), coded, base, left_out)
            best, worse = (new, 0) if best is None or self.better(new, best) else (best, worse + 1)
        return best


def _best_cut(
    codec: BaseCodec,
    plan: tuple[Pass, ...],
    targets: list[Pictures],
    room: int,
    start: int | None,
    effort: Effort,
    spare: int,
) -> _Search[_Try | None]:
    """The cut stream with the least distortion; None if no stream has `room` bytes.

    A finer step cut short spends its bytes on the coarse levels: the fewer the bytes, the better that is. And each
    picture and budget has levels that it should rather leave out (`geometry.every_other`). What is best for the linear
    anchor, which is quick, is nearly best for the network, too: that looks around there alone.
    """
    if start is None:
        guesses = [(FINEST, every_other(plan))]
    elif not effort.guesses:
        guesses = [(max(start - _AHEAD, FINEST), every_other(plan))]
    else:
        guesses = yield from _guesses(_Hunt(codec.linear, targets, room, spare), plan, start)
    hunt, best = _Hunt(codec, targets, room, spare, effort.tries), None
    for base, left_out in guesses[: effort.plans]:
        best = yield from hunt.look(best, range(base, FINEST - 1, -1), left_out, 0)
        if best is not None and (best.base, best.left_out) == (base, left_out):
            best = yield from hunt.look(best, range(base + 1, COARSEST + 1), left_out, 0)
    return best


def _guesses(hunt: _Hunt, plan: tuple[Pass, ...], start: int) -> _Search[list[tuple[int, frozenset[int]]]]:
    """For each choice of passes to leave out the best base step, with it; the best of all first.

    The distortion is not smooth in the base step, so the search goes past _PATIENCE steps in a row that do worse.
    """
    found: list[tuple[int, frozenset[int]]] = []
    best: _Try | None = None
    for left_out in dict.fromkeys(every_other(plan, phase, lowest=lowest) for phase, lowest in _PLANS):
        first = best.base if best else max(start - _AHEAD, FINEST)
        new = yield from hunt.look(None, range(first, FINEST - 1, -1), left_out, _PATIENCE)
        if new is None:
            continue
        new = yield from hunt.look(new, range(first + 1, COARSEST + 1), left_out, _PATIENCE)
        assert new is not None
        best = new if best is None or hunt.better(new, best) else best
        found.insert(0 if best is new else len(found), (new.base, left_out))
    return found


def _cut(codec: BaseCodec, coded: Coded, room: int) -> Stream:
    content, sent = coded.content[:room], coded.tokens
    received = read(content, sent.width, sent.height, sent.model_id, codec.config, codec.tables, coded.classes)
    return Stream(content, received)


def _trimmed(codec: BaseCodec, coded: Coded) -> bytes:
    return trim(coded.content, coded.tokens, codec.config, codec.tables, coded.classes)


def _coarsest_reaching(codec: BaseCodec, targets: list[Pictures], room: int, guess: float) -> _Search[int | None]:
    """About the coarsest base step whose stream has at least `room` bytes; None if even the finest has less."""
    low, high = FINEST - 1, COARSEST + 1  # low reaches (if it exists), high does not
    while high - low > 1:
        base = min(max(round(guess), low + 1), high - 1)
        coded = yield _Request(codec, Wanted(base, targets, _FAR * room))
        size = len(coded.content)
        if room <= size <= _NEAR * room:
            return base
        low, high = (base, high) if size >= room else (low, base)
        further = math.log(max(size, 1) / room) / _GROWTH
        guess = base + (math.floor(further) if size >= room else math.ceil(further) - 1)
    return low if low >= FINEST else None


def _typical_base(room: int, pixels: int) -> float:
    at, size, area = _TYPICAL
    return at - math.log(room / size * area / pixels) / _GROWTH


assert STEPS > COARSEST
