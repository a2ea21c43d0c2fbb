"""Pictures to tokens and back: encoders and decoders run the same loop (`prow.coding.reconstruction`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial

import numpy as np

from ..backends.base import BLOCK, Backend, Pictures
from ..entropy.model import Model, StreamSpec
from ..entropy.writer import Classes, Writer
from ..format.geometry import Pass
from ..format.tokens import PassTokens, Tokens
from .enlarge import enlarged
from .focus import Focus
from .reconstruction import Reconstruction, filter_octaves

KAPPA = 0.02  # price of a bit in squared quantiser steps: low, since what a pass drops the next one has to mend
KEPT = 1 << 22  # px of predictions that an encoder keeps for drafts
PENDING = 8  # bytes at the end of a stream in the making that later symbols may change


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A picture to encode.

    Attributes:
        base: step index of the first pass at full resolution.
        targets: what each pass that is run should arrive at (`Backend.targets`); passes beyond these are left out.
        room: how many bytes of the stream are wanted, beyond which passes are left out; None: all.
        grey: a picture without colour. alpha: targets of its alpha plane as a grey picture; None: opaque.
        focus: parts that matter more than the rest, if there are any.
    """

    base: int
    targets: list[Pictures]
    room: int | None = None
    grey: bool = False
    alpha: list[Pictures] | None = None
    focus: Focus | None = None


@dataclasses.dataclass(frozen=True)
class Coded:
    """An encoder's result.

    Attributes:
        tokens: what it chose; none in the passes that it did not come to.
        content: the stream, untrimmed. classes: what helps `read` with any prefix of it (`Writer.classes`).
        predictions: what each pass that it came to started from, up to those that are too large to be kept (`KEPT`).
    """

    tokens: Tokens
    content: bytes
    classes: Classes
    predictions: tuple[Pictures, ...]

    def same_passes(self, tokens: Tokens) -> int:
        """How many of the passes that the encoder ran, less the last, have these tokens too; at most as many as stand
        before the last one with tokens, since behind it a decoder may leave out filters (`filter_octaves`)."""
        coded = tokens.coded
        limit = min(len(self.predictions) - 1, coded[-1]) if coded and tokens.base == self.tokens.base else 0
        pairs = zip(tokens.passes[:limit], self.tokens.passes, strict=False)
        return next((index for index, (a, b) in enumerate(pairs) if not a.same_as(b)), limit)


class _Stream:
    """The stream of a picture in the making."""

    def __init__(self, wanted: Wanted, spec: StreamSpec) -> None:
        self.wanted, self.spec = wanted, spec
        self.writer = Writer(wanted.base, spec, grey=wanted.grey, alpha=wanted.alpha is not None)
        self.parts: list[PassTokens] = []
        self.alpha_parts: list[PassTokens] = []
        self.predictions: list[Pictures] = []
        self.unused = KEPT

    def wants(self, index: int) -> bool:
        """Whether anything of a pass is wanted."""
        full = self.wanted.room is not None and len(self.writer.bytes()) - PENDING >= self.wanted.room
        return not full and index < len(self.wanted.targets)

    def add(self, part: PassTokens, alpha: PassTokens | None, prediction: Pictures) -> None:
        self.writer.add(part, alpha)
        self.parts.append(part)
        self.alpha_parts += [] if alpha is None else [alpha]
        self.unused -= prediction.shape[2] * prediction.shape[3]
        if self.unused >= 0:
            self.predictions.append(prediction)

    def coded(self) -> Coded:
        tokens, done = self.spec.empty(self.wanted.base, grey=self.wanted.grey), len(self.parts)
        rest, alpha = tokens.passes[done:], self.wanted.alpha is not None
        for part in rest:
            self.writer.add(part, part if alpha else None)  # or a reader would take the coder's last bytes for more
        planes = (*self.parts, *rest), (*self.alpha_parts, *rest) if alpha else None
        tokens = dataclasses.replace(tokens, passes=planes[0], alpha=planes[1])
        return Coded(tokens, self.writer.bytes(), self.writer.classes(), tuple(self.predictions))


def _planes(batch: Sequence[Wanted]) -> tuple[bool, bool]:
    """Whether these pictures are grey, and whether they have alpha."""
    (planes, *others) = {(wanted.grey, wanted.alpha is not None) for wanted in batch}
    if others:
        raise ValueError(f"pictures of (grey, alpha) {planes} and {others[0]} came, wanted the same of all")
    return planes


def _prices(wanted: Wanted, pass_: Pass, kappa: float) -> np.ndarray:
    """The price of a bit in each tile of a pass: float32 [tiles]."""
    if wanted.focus is None:
        return np.full(len(pass_.level.boxes), kappa, np.float32)
    return np.float32(kappa) * wanted.focus.factors(pass_)


class Codec:
    """A model on a backend. All pictures of a call have one size and go through each pass together."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def model(self) -> Model:
        return self.backend.model

    def encode(self, pixels: np.ndarray, base: int, *, kappa: float = KAPPA, room: int | None = None) -> Coded:
        """One picture uint8 [H, W, C]; see `encode_many`."""
        wanted = Wanted(base, self.backend.targets(pixels), room)
        return self.encode_many((pixels.shape[1], pixels.shape[0]), [wanted], kappa=kappa)[0]

    def encode_many(self, size: tuple[int, int], batch: Sequence[Wanted], *, kappa: float = KAPPA) -> list[Coded]:
        """Run the passes in the decoder's own loop and choose tokens in each.

        Args:
            size: width and height in px. batch: all of them with grey, and all with alpha, or none.
            kappa: price of a bit in squared quantiser steps.
        """
        spec, (grey, alpha) = StreamSpec(*size, self.model), _planes(batch)
        streams, active = [_Stream(wanted, spec) for wanted in batch], list(range(len(batch)))
        pictures, alphas = (Reconstruction(self.backend, [wanted.base for wanted in batch]) for _ in range(2))
        for index, pass_ in enumerate(spec.passes):
            going = [place for place, i in enumerate(active) if streams[i].wants(index)]
            if not going:
                break
            active = [active[place] for place in going]
            prices = np.stack([_prices(batch[i], pass_, kappa) for i in active])
            prediction, parts = self._choose(
                pictures, going, pass_, [batch[i].targets[index] for i in active], prices, grey=grey
            )
            alpha_parts: list[PassTokens | None] = [None] * len(active)
            if alpha:
                wanted = [targets[index] for i in active if (targets := batch[i].alpha)]
                _, alpha_parts[:] = self._choose(alphas, going, pass_, wanted, prices, grey=True)
            for place, (i, part, alpha_part) in enumerate(zip(active, parts, alpha_parts, strict=True)):
                streams[i].add(part, alpha_part, prediction[place : place + 1])
        return [stream.coded() for stream in streams]

    def _choose(
        self,
        pictures: Reconstruction,
        going: list[int],
        pass_: Pass,
        targets: list[Pictures],
        prices: np.ndarray,
        *,
        grey: bool,
    ) -> tuple[Pictures, list[PassTokens]]:
        """Predictions and tokens of the next pass, of the pictures that go on."""
        pictures.keep(going)
        prediction, wanted = pictures.predict(pass_), self.backend.concatenate(targets)
        parts = self.backend.choose(pass_, pictures.bases, wanted, prediction, prices, grey=grey)
        pictures.receive(parts)
        return prediction, parts

    def decode(self, tokens: Tokens, octaves: int = 0) -> Pictures:
        """Tokens -> picture [C, H, W], 0 to 255; see `decode_many`."""
        return self.decode_many([tokens], octaves)[0]

    @staticmethod
    def _alpha(tokens: Tokens) -> Tokens:
        """The alpha plane as a grey picture."""
        return dataclasses.replace(tokens, passes=tokens.shown_alpha, grey=True, alpha=None)

    def decode_many(self, batch: Sequence[Tokens], octaves: int = 0) -> list[Pictures]:
        """Tokens of pictures of one size, which need filters at the same levels (`alike`) -> pictures [C, H, W].

        Args:
            octaves: how far below full resolution to stop, at most `geometry.most_octaves`: what the passes up to that
                level say, filtered, [C, H, W] of the level. Tokens of later passes are left out.
        """
        return list(self._until(batch, octaves).picture())

    def images(self, batch: Sequence[Tokens], octaves: int = 0) -> list[np.ndarray]:
        """As `decode_many`, as uint8 [H, W, C]; [H, W, 1] if grey.

        Where the last pass with a network is large, its filter and what comes behind it take the memory of a strip.
        """
        least, last = self.alike(batch[0])[2]
        plan = self._plan(batch[0])
        stop = min(max(octaves, least, 1 if last else 0), plan[0].octaves)
        levels = [pass_.level for pass_ in plan if octaves <= pass_.octaves <= stop]
        pictures = self._until(batch, stop)
        if len(levels) > 2 or len(batch) * levels[0].width * levels[0].height <= BLOCK**2:
            pictures.picture()  # all at once: strips would overlap too much, or are not needed
        return [
            enlarged(self.backend, partial(pictures.rows, place), levels, grey=tokens.grey)
            for place, tokens in enumerate(batch)
        ]

    def alpha_image(self, tokens: Tokens, octaves: int = 0) -> np.ndarray | None:
        """Tokens -> alpha uint8 [H, W, 1], 255 where opaque; None without alpha."""
        return self.images([self._alpha(tokens)], octaves)[0] if tokens.shown_alpha else None

    def _plan(self, tokens: Tokens) -> tuple[Pass, ...]:
        """The first pass of each level."""
        spec = StreamSpec(tokens.width, tokens.height, self.model)
        return spec.passes[: spec.passes[0].octaves + 1]

    def _until(self, batch: Sequence[Tokens], octaves: int) -> Reconstruction:
        """Behind the last pass that is at least so many octaves below full resolution."""
        (key, *others) = {self.alike(tokens) for tokens in batch}
        if others:
            raise ValueError(f"pictures of {key} and {others[0]} came, wanted one width, height and filter_octaves")
        width, height, filters = key
        pictures = Reconstruction(self.backend, [self._base(tokens) for tokens in batch], filters)
        for index, pass_ in enumerate(StreamSpec(width, height, self.model).passes):
            if pass_.octaves < octaves:
                break
            pictures.predict(pass_)
            pictures.receive([tokens.passes[index] for tokens in batch])
        return pictures

    def alike(self, tokens: Tokens) -> tuple[int, int, tuple[int, int]]:
        """Width, height and filters of a picture: those that have all of it in common can be decoded together."""
        spec = StreamSpec(tokens.width, tokens.height, self.model)
        return tokens.width, tokens.height, filter_octaves(tokens, spec)

    def draft(self, tokens: Tokens, last: int, after: Coded | None = None) -> Pictures:
        """Tokens -> the pictures [1, C, H, W], 0 to 255, of pass `last` at its own level and before its loop filter,
        which takes most of the time and changes little there.

        Args:
            after: an encoder's result for the same picture; passes with the same tokens are not run again.
        """
        spec, first, start = StreamSpec(tokens.width, tokens.height, self.model), 0, None
        if after is not None:
            first = min(after.same_passes(tokens), last)
            start = after.predictions[first]
        pictures = Reconstruction(self.backend, [self._base(tokens)], filter_octaves(tokens, spec), start)
        for pass_, part in zip(spec.passes[first : last + 1], tokens.passes[first:], strict=False):
            pictures.predict(pass_)
            pictures.receive([part])
        return pictures.unfiltered().clip(0, 255)

    def distortion(self, tokens: Tokens, targets: list[Pictures], last: int, after: Coded | None = None) -> float:
        """How far the draft of pass `last` is from its target (`Backend.log_distortion`).

        Args:
            targets: from `Backend.targets`. after: as for `draft`.
        """
        full = targets[last].shape[-2:] == (tokens.height, tokens.width)
        return self.backend.log_distortion(self.draft(tokens, last, after), targets[last], full=full)

    def _base(self, tokens: Tokens) -> int:
        return self.model.config.usual_base if tokens.base is None else tokens.base
