"""The one loop over the passes: what a decoder has after each, and so what an encoder has too."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..backends.base import Backend, Pictures
from ..entropy.model import StreamSpec
from ..format.config import FULL, REFINE
from ..format.geometry import Pass
from ..format.limits import COARSE, FULL_SIZE, LIGHT, SHOWN
from ..format.tokens import PassTokens, Tokens

# px for each integer that is not 0: on a level behind the last token with more, a loop filter changes nothing that
# counts.
_WORTH = 200


class Reconstruction:
    """Pictures of one size on their way through the passes.

    For each pass in turn: `predict`, then `receive` its tokens. The networks run when the next prediction or the result
    is asked for, so an encoder never paints the pass that it ends with.

    Args:
        bases: that of each picture.
        filters: `filter_octaves`. start: what the first pass is to start from, at the size of its level; else grey.
    """

    def __init__(
        self,
        backend: Backend,
        bases: Sequence[int],
        filters: tuple[int, int] = (0, 0),
        start: Pictures | None = None,
    ) -> None:
        self.backend, self.bases = backend, list(bases)
        self._filters, self._picture = filters, start
        self._ahead: Pictures | None = None
        self._pass: Pass | None = None
        self._parts: Sequence[PassTokens] | None = None  # received, not filtered
        self._painted: Pictures | None = None  # with these

    def keep(self, places: list[int]) -> None:
        """Go on with the pictures at these places alone. Between `receive` and `predict`."""
        if len(places) < len(self.bases):
            self.bases = [self.bases[place] for place in places]
            if self._parts is not None:
                self._picture = self._picture[places]  # type: ignore[index] - the prediction
                self._parts = [self._parts[place] for place in places]

    def predict(self, pass_: Pass) -> Pictures:
        """The pictures that a pass starts from, [B, C, H, W] of its level."""
        picture, ahead, level = self.picture(), self._ahead, pass_.level
        if picture is None:
            picture = self.backend.blank(level, len(self.bases))
        elif picture.shape[-2:] != (level.height, level.width):
            picture = self.backend.double(picture, ahead, level)
        self._picture, self._ahead, self._pass = picture, None, pass_
        return picture

    def receive(self, parts: Sequence[PassTokens]) -> None:
        """The tokens of each picture in the pass that was predicted last."""
        self._parts, self._painted = parts, None

    def unfiltered(self) -> Pictures:
        """The pictures of the pass that was received last, before its loop filter."""
        parts, prediction = self._parts, self._picture
        assert self._pass is not None and parts is not None
        if self._painted is None:
            some = [place for place, part in enumerate(parts) if part.some]
            self._painted = prediction
            if some:
                bases = [self.bases[place] for place in some]
                painted = self.backend.paint(self._pass, bases, [parts[place] for place in some], _at(prediction, some))
                self._painted = self._replaced(prediction, some, painted)
        return self._painted

    def picture(self) -> Pictures:
        """The pictures of the pass that was received last, 0 to 255."""
        if self._parts is None:
            return self._picture
        picture, places = self.unfiltered(), self._filtered_places()
        if places:
            filtered, self._ahead = self._filtered(places)
            picture = self._replaced(picture, places, filtered)
        self._picture, self._parts, self._painted = picture, None, None
        return picture

    def rows(self, place: int, rows: slice) -> tuple[Pictures, Pictures | None]:
        """Rows of one picture of the pass that was received last, the first of them even, and what to add to them when
        they are doubled: [1, C, rows, W] and [1, C, 2 rows, 2 W]."""
        if self._parts is not None and place in self._filtered_places():
            return self._filtered([place], rows)
        picture: Pictures = self._picture if self._parts is None else self.unfiltered()
        ahead = None if self._ahead is None else self._ahead[place : place + 1, :, 2 * rows.start : 2 * rows.stop]
        return picture[place : place + 1, :, rows], ahead

    def _filtered_places(self) -> list[int]:
        """Where a loop filter runs behind the pass that was received last.

        Without tokens it runs alone, and not even that on the last level and on those above the first of
        these `filter_octaves`: it has nothing to say there that is worth its time.
        """
        pass_, parts = self._pass, self._parts
        assert pass_ is not None and parts is not None
        alone = pass_.kind not in (FULL, REFINE) and pass_.octaves >= self._filters[0]
        return [place for place, part in enumerate(parts) if alone or part.some]

    def _filtered(self, places: list[int], rows: slice | None = None) -> tuple[Pictures, Pictures | None]:
        pass_, parts = self._pass, self._parts
        assert pass_ is not None and parts is not None
        return self.backend.loop_filter(
            pass_,
            [self.bases[place] for place in places],
            [parts[place] for place in places],
            _at(self.unfiltered(), places),
            _at(self._picture, places),
            light=pass_.octaves < self._filters[1],
            rows=rows,
        )

    def _replaced(self, pictures: Pictures, places: list[int], better: Pictures) -> Pictures:
        """Pictures of which those at some places are others."""
        if len(places) == len(pictures):
            return better
        replaced = self.backend.concatenate([pictures])
        replaced[places] = better
        return replaced


def _at(pictures: Pictures, places: list[int]) -> Pictures:
    """Those at some places; no copy if these are one or all."""
    if len(places) == 1:
        return pictures[places[0] : places[0] + 1]
    return pictures if len(places) == len(pictures) else pictures[places]


def work(tokens: Tokens, spec: StreamSpec, octaves: int = 0) -> int:
    """Nominal time to decode these tokens, in ns, without that to read them (`prow.format.limits`)."""
    total = 0
    planes = (tokens, dataclasses.replace(tokens, passes=tokens.shown_alpha)) if tokens.shown_alpha else (tokens,)
    for plane in planes:
        total += SHOWN * (-(-spec.width >> octaves) * -(-spec.height >> octaves))
        least, last = filter_octaves(plane, spec)
        for pass_, part in zip(spec.passes, plane.passes, strict=True):
            full_size = pass_.kind in (FULL, REFINE)
            if pass_.octaves >= octaves and (part.some or (pass_.octaves >= least and not full_size)):
                pixel = FULL_SIZE if full_size else LIGHT if pass_.octaves < last else COARSE
                total += pixel * pass_.level.width * pass_.level.height
    return total


def filter_octaves(tokens: Tokens, spec: StreamSpec) -> tuple[int, int]:
    """Least octaves below full resolution of levels with a light loop filter, and of levels with a full one.

    Levels behind the last token have a light one up to 200 px for each integer that is not 0, and beyond that none:
    they are only made larger. There the networks have next to nothing to say, and most of the time of small files is
    spent. No token depends on it.
    """
    plan, coded = spec.passes, tokens.coded
    last = plan[coded[-1]].octaves if coded else plan[0].octaves + 1
    known = sum(np.count_nonzero(tokens.passes[i].values[tokens.passes[i].counts > 0]) for i in coded)

    def pixels(octaves: int) -> int:
        return -(-spec.width >> octaves) * -(-spec.height >> octaves)

    least = last
    while least and pixels(least - 1) <= _WORTH * known:
        least -= 1
    return least, last
