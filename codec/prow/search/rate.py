"""Rate control: the stream of a picture, cut to an exact size.

Any prefix of a stream is a stream, and the schedule of passes (`prow.format.geometry.passes`) makes it a good one: so
encoding is one run and a cut. The base is the only choice: a few are tried for the first bytes, and the best one serves
for all sizes. With much effort others are tried at the size that is wanted, too, and tokens are chosen again by
gradients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from ..coding.codec import Codec, Coded, Wanted
from ..coding.focus import Focus
from ..coding.planes import split
from ..entropy.model import Model, StreamSpec
from ..entropy.trim import trim
from ..format.config import NEAR, STEPS_PER_OCTAVE
from ..format.geometry import Pass
from ..format.tokens import Tokens
from .base_search import BaseSearch, Candidate, run
from .effort import Effort

SMALLEST, LARGEST = 56, 8  # quality 0 and 100: step index at full resolution that a stream ends with
PROBE = 512  # bytes; coarse levels take about as many in any picture
_SPARSE = 0.01  # bits a px: a pass at a level for which there are fewer in all is not worth looking at
_SPARSE_HUGE = 0.03  # the same for levels of more than _HUGE px, where looking takes very long
_HUGE = 1 << 21  # px


@dataclasses.dataclass(frozen=True)
class Stream:
    """A finished stream. `exhausted`: shorter than the budget, since the model has nothing left to say."""

    content: bytes
    tokens: Tokens
    exhausted: bool = False


# The best stream so far of a picture uint8 [H, W, C] -> a stream of the same size, and what a reader gets of it.
Improve = Callable[[np.ndarray, Candidate], tuple[bytes, Tokens]]


def at_quality(
    codec: Codec, pictures: Sequence[np.ndarray], quality: float, focus: Focus | None = None
) -> list[Stream]:
    """Streams of pictures uint8 [H, W, 1 to 4] of one shape that end with the step of a quality, 0 to 100 (finest)."""
    spec = _spec(codec.model, pictures)
    wanted_step = round(SMALLEST - (SMALLEST - LARGEST) * quality / 100)
    base, count = _ending(spec.passes, spec.model.config.usual_base, wanted_step)
    wanted = [_wanted(codec, pixels, base, count, focus) for pixels in pictures]
    return [Stream(_trimmed(codec.model, c), c.tokens) for c in codec.encode_many((spec.width, spec.height), wanted)]


def _spec(model: Model, pictures: Sequence[np.ndarray]) -> StreamSpec:
    height, width = pictures[0].shape[:2]
    return StreamSpec(width, height, model)


def _wanted(codec: Codec, pixels: np.ndarray, base: int, count: int, focus: Focus | None) -> Wanted:
    """A picture uint8 [H, W, 1 to 4], up to a number of passes."""
    colour, grey, alpha = split(pixels, codec.model.config.channels)
    targets = codec.backend.targets(colour, count)
    alpha_targets = None if alpha is None else codec.backend.targets(alpha, count)
    return Wanted(base, targets, None, grey, alpha_targets, focus)


def _ending(plan: tuple[Pass, ...], usual: int, wanted: int) -> tuple[int, int]:
    """The base nearest to the usual one with which some pass has a step index as low as wanted, and how many passes
    there are up to that one. The coarsest pass if none is as coarse."""
    for base in sorted(range(usual - NEAR, usual + NEAR + 1), key=lambda base: abs(base - usual)):
        for index, pass_ in enumerate(plan):
            # the same detail has twice the coefficient a level up
            if base - pass_.shift + STEPS_PER_OCTAVE * pass_.octaves == wanted:
                return base, index + 1
    return usual + NEAR, 1


def at_bytes(
    codec: Codec,
    pictures: Sequence[np.ndarray],
    room: int,
    effort: Effort,
    improve: Improve | None = None,
    focus: Focus | None = None,
) -> list[Stream]:
    """For pictures of one shape streams of exactly `room` bytes, or all that the model can say if that is less.

    They go through the networks together.

    Args:
        improve: what makes the best stream better in the end. focus: parts that matter more, the same in all.
    """
    spec = _spec(codec.model, pictures)
    areas = [pass_.level.width * pass_.level.height for pass_ in spec.passes]
    count = max(1, sum(area * (_SPARSE if area <= _HUGE else _SPARSE_HUGE) <= 8 * room for area in areas))
    searches = _searched(codec, pictures, count, room, effort, focus)
    short = [i for i, search in enumerate(searches) if search.best is None]  # there is room for more passes
    if short and count < len(areas):
        again = _searched(codec, [pictures[i] for i in short], len(areas), room, effort, focus)
        for i, search in zip(short, again, strict=True):
            searches[i] = search
    return [_result(codec.model, *both, improve) for both in zip(pictures, searches, strict=True)]


def _searched(
    codec: Codec, pictures: Sequence[np.ndarray], count: int, room: int, effort: Effort, focus: Focus | None
) -> list[BaseSearch]:
    """The searches for pictures of one size, of `count` passes, when they are over."""
    spec = _spec(codec.model, pictures)
    wanted = [_wanted(codec, pixels, spec.model.config.usual_base, count, focus) for pixels in pictures]
    searches = [BaseSearch(codec, spec, one, room, effort, PROBE) for one in wanted]
    run(codec, (spec.width, spec.height), searches)
    return searches


def _result(model: Model, pixels: np.ndarray, search: BaseSearch, improve: Improve | None) -> Stream:
    if search.best is None:
        longest = max(search.tried.values(), key=lambda coded: len(coded.content))
        return Stream(_trimmed(model, longest), longest.tokens, exhausted=True)
    if improve is None:
        return Stream(search.best.content, search.best.tokens)
    return Stream(*improve(pixels, search.best))


def _trimmed(model: Model, coded: Coded) -> bytes:
    return trim(coded.content, coded.tokens, model, coded.classes)
