"""The search for the base of a picture: it proposes what to encode and observes the result.

Smooth pictures want a finer base, busy ones a coarser one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from ..backends.base import Pictures
from ..coding.codec import PENDING, Coded, Wanted
from ..entropy.model import StreamSpec
from ..entropy.reader import read
from ..format.tokens import Tokens
from .effort import Effort

FINEST, COARSEST = 8, 48  # bases that an encoder uses: tables know little beyond
_DISTANCES = (4, 2, 1)  # of the bases that are tried around the best one so far


class Search(Protocol):
    """What looks for the best way to encode one picture."""

    def propose(self) -> Wanted | None:
        """What to encode next; None when the search is over."""
        ...

    def observe(self, coded: Coded) -> None:
        """Learn what became of the last proposal."""
        ...


class Encoder(Protocol):
    """What `prow.coding.codec.Codec` is to a search."""

    def encode_many(self, size: tuple[int, int], batch: Sequence[Wanted]) -> list[Coded]: ...

    def distortion(self, tokens: Tokens, targets: list[Pictures], last: int, after: Coded | None = None) -> float: ...


def run(encoder: Encoder, size: tuple[int, int], searches: Sequence[Search]) -> None:
    """Let searches for pictures of one size go on until all are over; what they propose is encoded together."""
    while proposals := [(search, wanted) for search in searches if (wanted := search.propose())]:
        batch = encoder.encode_many(size, [wanted for _, wanted in proposals])
        for (search, _), coded in zip(proposals, batch, strict=True):
            search.observe(coded)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A stream of exactly the room, what it was cut from, and what is known of its distortion after some passes."""

    content: bytes
    tokens: Tokens
    coded: Coded
    known: dict[int, float] = dataclasses.field(default_factory=dict)


def useful_passes(tokens: Tokens, share: float = 0.98) -> int:
    """Index of the pass up to which this share of the integers that are not 0 stands; 0 if there are none."""
    sent = np.cumsum([np.count_nonzero(part.values) for part in tokens.passes])
    return int(np.argmax(sent >= share * sent[-1]))


class BaseSearch:
    """Finds the base whose stream is best when it is cut at `room` bytes: at a few bytes first, which is quick, then
    around the best one at all of them.

    Args:
        wanted: the picture, and the base to start at. probe: bytes.

    Attributes:
        best: the best stream of the stage so far; None if all streams were too short.
        tried: the streams of the stage by base.
    """

    def __init__(
        self, encoder: Encoder, spec: StreamSpec, wanted: Wanted, room: int, effort: Effort, probe: int
    ) -> None:
        self.encoder, self.spec, self.wanted = encoder, spec, wanted
        self.stages = [(min(room, probe), effort.probes), (room, effort.tries)]
        self.room, self.start = self.stages[0][0], wanted.base
        self.tried: dict[int, Coded] = {}
        self.candidates: dict[int, Candidate] = {}
        self.best: Candidate | None = None

    def propose(self) -> Wanted | None:
        while self.stages:
            room, tries = self.stages[0]
            if room != self.room:  # a new stage, around what was best in the last one
                self.start, self.room, self.tried, self.candidates, self.best = self._centre, room, {}, {}, None
            base = next(self._untried(), None)
            if base is not None and len(self.tried) < tries:
                return dataclasses.replace(self.wanted, base=base, room=room)
            self.stages.pop(0)
        return None

    @property
    def _centre(self) -> int:
        """The best base so far; where all streams are too short the finest one, which has most to say."""
        if self.best is not None and self.best.tokens.base is not None:
            return self.best.tokens.base
        return min(self.tried, default=self.start)

    def _untried(self) -> Iterator[int]:
        """Bases around the best one, the most promising first."""
        if not self.tried:
            yield self.start
            return
        for distance in _DISTANCES:
            for side in self._sides():
                base = self._centre + side * distance
                if FINEST <= base <= COARSEST and base not in self.tried:
                    yield base

    def _sides(self) -> tuple[int, int]:
        """-1 for finer and 1 for coarser bases, that side first whose next base that was tried is better."""
        finer = max((base for base in self.candidates if base < self._centre), default=None)
        coarser = min((base for base in self.candidates if base > self._centre), default=None)
        if finer is None or coarser is None:
            return -1, 1
        one, other = self.candidates[finer], self.candidates[coarser]
        return (1, -1) if self._distortion(other, one) < self._distortion(one, other) else (-1, 1)

    def observe(self, coded: Coded) -> None:
        assert coded.tokens.base is not None
        self.tried[coded.tokens.base] = coded
        more = len(self.wanted.targets) < len(coded.tokens.passes)  # to come, which would change the last bytes
        if len(coded.content) < self.room + more * PENDING:
            return
        content = coded.content[: self.room]
        candidate = Candidate(content, read(content, self.spec, coded.classes), coded)
        self.candidates[coded.tokens.base] = candidate
        if self.best is None or self._distortion(candidate, self.best) < self._distortion(self.best, candidate):
            self.best = candidate

    def _distortion(self, one: Candidate, other: Candidate) -> float:
        """Of the draft of the last pass that matters to either; the rest changes little."""
        last = max(useful_passes(one.tokens), useful_passes(other.tokens))
        if last not in one.known:
            one.known[last] = self.encoder.distortion(one.tokens, self.wanted.targets, last, one.coded)
        return one.known[last]
