"""Rate control: the base step and the cut that make a stream of an exact size.

A stream's size falls smoothly as the base step grows. The coarsest step whose stream reaches the budget is found by
a bracketing search in the logarithm of the size, with the linear anchor alone, which is quick. From there the
network tries finer steps as long as the picture gets better; what sticks out of the budget is cut off. Nothing is
lost by the cut but the end of the story: any prefix of a stream is a stream. What remains is refined (`prow.refine`).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from .codec import Codec, Coded, squared_error
from .config import STEPS
from .refine import refine
from .stream import Tokens, read, trim, write

FINEST, COARSEST = 8, 60  # base steps that an encoder uses: 1 to 8,192 grey levels
# By effort: how many base steps are tried at most, and rounds of analysis by synthesis.
_ALL = STEPS
EFFORTS = {
    1: (2, 0),
    2: (4, 0),
    3: (_ALL, 0),
    4: (_ALL, 2),
    5: (_ALL, 4),
    6: (_ALL, 6),
    7: (_ALL, 10),
    8: (_ALL, 16),
    9: (_ALL, 24),
}
_GROWTH = math.log(3) / 4  # the logarithm of a stream's size falls by this much a step
_TYPICAL = (42, 1200, 400_000)  # at this base step, this many bytes for so many px


@dataclasses.dataclass(frozen=True)
class Stream:
    """A finished stream. `exhausted`: shorter than the budget, since the model has nothing left to say."""

    content: bytes
    tokens: Tokens
    exhausted: bool = False


def at_quality(codec: Codec, pixels: np.ndarray, quality: float) -> Stream:
    """The natural stream at a quality of 0 (smallest) to 100 (base step 1)."""
    base = round(COARSEST - (COARSEST - FINEST) * quality / 100)
    coded = codec.encode(pixels, base)
    return Stream(trim(coded.content, coded.tokens, codec.config, codec.tables), coded.tokens)


def at_bytes(codec: Codec, pixels: np.ndarray, room: int, effort: int) -> Stream:
    """A stream of exactly `room` bytes, or all that the model can say about the picture if that is less."""
    tries, rounds = EFFORTS[effort]
    linear = _Sizes(codec.linear, pixels)
    start = _coarsest_reaching(linear, room, _typical_base(room, pixels.shape[0] * pixels.shape[1]))
    best = _best_cut(codec, pixels, room, FINEST if start is None else start, tries)
    if best is not None:
        return _refined(codec, pixels, *best, room, rounds)
    coded = codec.encode(pixels, FINEST, refine=True)
    if len(coded.content) >= room:
        return _cut(codec, coded.content, coded.tokens, room)
    return Stream(trim(coded.content, coded.tokens, codec.config, codec.tables), coded.tokens, exhausted=True)


def _best_cut(codec: Codec, pixels: np.ndarray, room: int, start: int, tries: int) -> tuple[Stream, Coded] | None:
    """The cut stream with the least error, from the base step `start` on as long as finer ones do better.

    A finer step cut short spends its bytes on the coarse levels: the fewer the bytes, the better that is.
    None if no stream has `room` bytes.
    """
    best, least = None, math.inf
    for base in range(start, FINEST - 1, -1):
        coded = codec.encode(pixels, base, room=room)
        if len(coded.content) < room:
            continue
        stream, tries = _cut(codec, coded.content, coded.tokens, room), tries - 1
        error = squared_error(codec.decode(stream.tokens, after=coded), pixels)
        if error >= least:
            break
        best, least = (stream, coded), error
        if tries == 0:
            break
    return best


def _refined(codec: Codec, pixels: np.ndarray, stream: Stream, coded: Coded, room: int, rounds: int) -> Stream:
    """The stream with better tokens, if there are any."""
    tokens = refine(codec, pixels, coded, room, rounds) if rounds else None
    if tokens is None:
        return stream
    better = _cut(codec, write(tokens, codec.config, codec.tables), tokens, room)
    if len(better.content) < room:
        return stream
    errors = [squared_error(codec.decode(s.tokens, after=coded), pixels) for s in (stream, better)]
    return better if errors[1] < errors[0] else stream


def _cut(codec: Codec, content: bytes, sent: Tokens, room: int) -> Stream:
    content = content[:room]
    received = read(content, sent.width, sent.height, sent.model_id, codec.config, codec.tables)
    return Stream(content, received)


class _Sizes:
    """Sizes of the natural streams of one picture, by base step; each is encoded once."""

    def __init__(self, codec: Codec, pixels: np.ndarray) -> None:
        self.codec, self.pixels = codec, pixels
        self.sizes: dict[int, int] = {}

    def __call__(self, base: int) -> int:
        if base not in self.sizes:
            self.sizes[base] = len(self.codec.encode(self.pixels, base).content)
        return self.sizes[base]


def _typical_base(room: int, pixels: int) -> float:
    at, size, area = _TYPICAL
    return at - math.log(room / size * area / pixels) / _GROWTH


def _coarsest_reaching(sizes: _Sizes, room: int, guess: float) -> int | None:
    """The coarsest base step whose stream has at least `room` bytes; None if even the finest has less."""
    low, high = FINEST - 1, COARSEST + 1  # low reaches (if it exists), high does not
    while high - low > 1:
        base = min(max(round(guess), low + 1), high - 1)
        size = sizes(base)
        low, high = (base, high) if size >= room else (low, base)
        further = math.log(max(size, 1) / room) / _GROWTH
        guess = base + (math.floor(further) if size >= room else math.ceil(further) - 1)
    return low if low >= FINEST else None


assert STEPS > COARSEST
