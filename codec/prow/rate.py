"""Rate control: the base step and the cut that make a stream of an exact size.

A stream's size falls smoothly as the base step grows. The coarsest step whose stream reaches the budget is found by
a bracketing search in the logarithm of the size, with the linear anchor alone, which is quick. The network looks for
the best of the finer steps; what sticks out of the budget is cut off. Nothing is lost by the cut but the end of the
story: any prefix of a stream is a stream. What remains is refined (`prow.refine`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator, Sequence
from typing import TypeVar

import numpy as np
from torch import Tensor

from .codec import Codec, Coded, Wanted
from .config import STEPS
from .geometry import Pass, every_other, passes
from .refine import refine
from .stream import Tokens, read, trim

FINEST, COARSEST = 8, 56  # base steps that an encoder uses: 1 to 4,096 grey levels; tables know little beyond
# By effort: how many base steps are tried at most, rounds of analysis by synthesis, and the share of the room that must
# be left for passes at full or half resolution of large pictures, which take most of the time.
_ALL = 4 * STEPS
EFFORTS = {
    1: (2, 0, 0.3),
    2: (4, 0, 0.3),
    3: (_ALL, 0, 0.3),
    4: (_ALL, 1, 0.3),
    5: (_ALL, 3, 0.0),
    6: (_ALL, 6, 0.0),
    7: (_ALL, 10, 0.0),
    8: (_ALL, 20, 0.0),
    9: (_ALL, 40, 0.0),
}
_PATIENCE = 1  # base steps in a row that may do worse before the search ends
_AHEAD = 3  # the best base step is about so much finer than the coarsest one that reaches a budget
_GROWTH = math.log(3) / 4  # the logarithm of a stream's size falls by this much a step
_SPARSE = 0.01  # bits a px: a pass at a level for which there are fewer in all is not worth looking at
_LARGE = 1 << 17  # px; more is a large picture
_FAR = 8  # sizes beyond so many times the room are not told apart
_TYPICAL = (42, 1200, 400_000)  # at this base step, this many bytes for so many px

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Stream:
    """A finished stream. `exhausted`: shorter than the budget, since the model has nothing left to say."""

    content: bytes
    tokens: Tokens
    exhausted: bool = False


def at_quality(codec: Codec, pictures: Sequence[np.ndarray], quality: float) -> list[Stream]:
    """The natural streams of pictures of one size at a quality of 0 (smallest) to 100 (base step 1)."""
    base = round(COARSEST - (COARSEST - FINEST) * quality / 100)
    height, width = pictures[0].shape[:2]
    found = codec.encode_many((width, height), [Wanted(base, codec.targets(pixels)) for pixels in pictures])
    return [Stream(trim(coded.content, coded.tokens, codec.config, codec.tables), coded.tokens) for coded in found]


def at_bytes(codec: Codec, pictures: Sequence[np.ndarray], room: int, effort: int) -> list[Stream]:
    """For pictures of one size streams of exactly `room` bytes, or all that the model can say if that is less.

    They go through the networks together where their searches allow it.
    """
    height, width = pictures[0].shape[:2]
    searches = [_search(codec, pixels, room, effort) for pixels in pictures]
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

    codec: Codec
    wanted: Wanted
    refine: bool = False


# A search that stops for each encode, so that those of many pictures can be made at once.
_Search = Generator[_Request, Coded, T]


def _search(codec: Codec, pixels: np.ndarray, room: int, effort: int) -> _Search[Stream]:
    """The search for one picture's stream."""
    tries, rounds, share = EFFORTS[effort]
    height, width = pixels.shape[:2]
    plan, spare = passes(width, height, codec.config), round(share * room) if width * height > _LARGE else 0
    affordable = sum(step.level.width * step.level.height * _SPARSE <= 8 * room for step in plan)
    targets: list[Tensor] = []
    for count in sorted({max(1, affordable), len(plan)}):
        targets = codec.targets(pixels, count)
        start = yield from _coarsest_reaching(codec.linear, targets, room, _typical_base(room, width * height))
        if start is None and count < len(plan):  # so simple a picture that there is room for more passes
            continue
        best = yield from _best_cut(codec, plan, targets, room, FINEST if start is None else start, tries, spare)
        if best is not None:
            stream, coded = best
            return Stream(*refine(codec, coded, stream.tokens, targets, room, rounds)) if rounds else stream
    coded = yield _Request(codec, Wanted(FINEST, targets), refine=True)
    if len(coded.content) >= room:
        return _cut(codec, coded.content, coded.tokens, room)
    return Stream(trim(coded.content, coded.tokens, codec.config, codec.tables), coded.tokens, exhausted=True)


def _best_cut(
    codec: Codec, plan: list[Pass], targets: list[Tensor], room: int, start: int, tries: int, spare: int
) -> _Search[tuple[Stream, Coded] | None]:
    """The cut stream with the least distortion among base steps up to `start`.

    A finer step cut short spends its bytes on the coarse levels: the fewer the bytes, the better that is. So the
    search begins some steps finer than `start` and goes coarser, then finer, past _PATIENCE steps in a row that do
    worse, for the distortion is not smooth. Then other passes are left out than every other one from full resolution
    down (`geometry.every_other`), at steps near the best one. Two streams are compared after the last pass that matters
    to one of them; what follows costs time and changes little. None if no stream has `room` bytes.
    """

    def attempt(base: int, left_out: frozenset[int] | None = None) -> _Search[tuple[Stream, Coded] | None]:
        coded = yield _Request(codec, Wanted(base, targets, room, left_out, spare))
        return (_cut(codec, coded.content, coded.tokens, room), coded) if len(coded.content) >= room else None

    def look(best: tuple[Stream, Coded], bases: range, left_out: frozenset[int] | None = None) -> _Search:
        nonlocal tries
        worse = 0
        for base in bases:
            if tries == 0 or worse > _PATIENCE:
                break
            other = yield from attempt(base, left_out)
            if other is None:  # too short, though sizes should grow with finer steps
                continue
            tries -= 1
            last = max(stream.tokens.depth() for stream, _ in (best, other))
            old, new = (codec.distortion(stream.tokens, targets, last, after=coded) for stream, coded in (best, other))
            best, worse = (other, 0) if new < old else (best, worse + 1)
        return best

    first, best = max(start - _AHEAD, FINEST), None
    while best is None and first >= FINEST:
        best, first = (yield from attempt(first)), first - 1
        if best is None and first < FINEST and spare:  # no level before full resolution fills the room
            first, spare = max(start - _AHEAD, FINEST), 0
    if best is None:
        return None
    tries -= 1
    best = yield from look(best, range(first + 2, start + 1))  # coarser
    best = yield from look(best, range(first, FINEST - 1, -1))  # finer
    tried = [every_other(plan)]
    for phase, lowest in ((0, False), (1, True), (1, False)):
        left_out, base = every_other(plan, phase, lowest=lowest), best[0].tokens.base
        assert base is not None
        if left_out not in tried:
            tried.append(left_out)
            best = yield from look(best, range(base + phase, FINEST - 1, -1), left_out)
    return best


def _cut(codec: Codec, content: bytes, sent: Tokens, room: int) -> Stream:
    content = content[:room]
    received = read(content, sent.width, sent.height, sent.model_id, codec.config, codec.tables)
    return Stream(content, received)


def _coarsest_reaching(codec: Codec, targets: list[Tensor], room: int, guess: float) -> _Search[int | None]:
    """The coarsest base step whose stream has at least `room` bytes; None if even the finest has less."""
    low, high = FINEST - 1, COARSEST + 1  # low reaches (if it exists), high does not
    while high - low > 1:
        base = min(max(round(guess), low + 1), high - 1)
        coded = yield _Request(codec, Wanted(base, targets, _FAR * room))
        size = len(coded.content)
        low, high = (base, high) if size >= room else (low, base)
        further = math.log(max(size, 1) / room) / _GROWTH
        guess = base + (math.floor(further) if size >= room else math.ceil(further) - 1)
    return low if low >= FINEST else None


def _typical_base(room: int, pixels: int) -> float:
    at, size, area = _TYPICAL
    return at - math.log(room / size * area / pixels) / _GROWTH


assert STEPS > COARSEST
