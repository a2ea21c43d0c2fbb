"""Tokens to bytes: one range-coded stream that can be cut anywhere (SPEC section 5).

No torch here, and no pixel: what is written depends on integers alone, so it is the same on every machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from ..format.config import NEAR, STEPS
from ..format.tokens import PassTokens, Tokens
from .check import check_tokens
from .context_model import PassContext
from .layout import Layout, Rounds
from .model import Model, StreamSpec
from .range_coder import Encoder
from .tables import TOTAL, split_raw_bits, to_symbols

FAR = 2 * NEAR + 1  # the short symbol of all bases that have none of their own
SHORT, LONG = (np.full(n, TOTAL // n) for n in (FAR + 1, STEPS))  # frequencies of the symbols of a base
BIT = np.array([TOTAL // 2, TOTAL // 2])
_CODED = np.array([TOTAL // 64, TOTAL - TOTAL // 64])
GREY = ALPHA = np.array([TOTAL - TOTAL // 64, TOTAL // 64])  # whether a picture is grey, whether it has alpha


def skip_frequencies(coded_before: bool) -> np.ndarray:
    """Of a pass's skip flag, 0 (skipped) and 1 (coded), by whether the pass before it is coded; True for the first."""
    return _CODED if coded_before else BIT


@dataclasses.dataclass(frozen=True)
class Classes:
    """uint8 each, the classes of all symbols and those of all flags of a stream, in their order."""

    symbols: np.ndarray
    flags: np.ndarray


class Plane:
    """What is known of the passes of colour or of alpha so far.

    Attributes:
        grey: channel 0 alone. coded_before: whether the last pass has tokens; True before the first.
    """

    def __init__(self, *, grey: bool) -> None:
        self.grey, self.coded_before = grey, True
        self.context: PassContext | None = None


class Writer:
    """A stream in the making: passes are added in their order, and what there is so far can be had at any time.

    Args:
        grey: a picture of channel 0 alone. alpha: whether passes of alpha are added as well.
    """

    def __init__(self, base: int, spec: StreamSpec, *, grey: bool = False, alpha: bool = False) -> None:
        self.base, self.spec, self.added = base, spec, 0
        self._colour, self._alpha = Plane(grey=grey), Plane(grey=True) if alpha else None
        self._coder = Encoder(spec.model.tables)
        offset = base - spec.model.config.usual_base + NEAR
        near = 0 <= offset < FAR
        self._coder.choices(np.array([offset if near else FAR]), SHORT)
        self._coder.choices(np.array([] if near else [base]), LONG)
        self._coder.choices(np.array([grey]), GREY)

    def add(self, part: PassTokens, alpha: PassTokens | None = None) -> None:
        """Every symbol of the next pass, and of that of alpha if there is any."""
        self._write(self._colour, part)
        if not self.added:
            self._coder.choices(np.array([self._alpha is not None]), ALPHA)
        if self._alpha is not None:
            assert alpha is not None
            self._write(self._alpha, alpha)
        self.added += 1

    def _write(self, plane: Plane, part: PassTokens) -> None:
        pass_ = self.spec.passes[self.added]
        self._coder.choices(np.array([part.some]), skip_frequencies(plane.coded_before))
        plane.coded_before = part.some
        if not part.some:
            return
        context = PassContext(pass_, self.base, self.spec.model, plane.context)
        rounds = list(self._rounds(self.spec.model.layout(pass_, grey=plane.grey), part, context))
        context.look_back()  # the classes of all groups of a token at once: a reader has to find them one by one
        for flags, flag_classes, rank, tile, (symbols, *raw_bits) in rounds:
            self._coder.flags(flags, flag_classes)
            self._coder.symbols(symbols, context.classes(rank, tile))
            self._coder.choices(split_raw_bits(*raw_bits), BIT)
        plane.context = context

    @staticmethod
    def _rounds(layout: Layout, part: PassTokens, context: PassContext) -> Iterator[tuple[np.ndarray, ...]]:
        """Of each token: flags and their classes; rank and tile of each integer, and `to_symbols` of these."""
        rounds = Rounds(layout)
        for token in rounds:
            flags = part.counts[rounds.tiles] > token
            flag_classes = context.flag_classes(token, rounds.tiles)
            tiles = rounds.go_on(flags)
            context.go_on(token, tiles)
            rank, tile = layout.positions(tiles, *layout.span(token))
            symbols = to_symbols(part.values[tile, rank])
            context.update(rank, tile, symbols[0])
            yield flags, flag_classes, rank, tile, symbols

    def bytes(self) -> bytes:
        """The stream of the passes so far."""
        return self._coder.bytes()

    def classes(self) -> Classes:
        """Of the passes so far: what `read` can be told."""
        return Classes(np.concatenate(self._coder.symbol_classes), np.concatenate(self._coder.flag_classes))


def written(tokens: Tokens, model: Model) -> Writer:
    """A writer of every symbol of every pass.

    Raises:
        ValueError: tokens without a base. InputError: others that a stream cannot say (`check_tokens`).
    """
    if tokens.base is None:
        raise ValueError("tokens without a base came, wanted 0 to 63")
    check_tokens(tokens, model)
    spec = StreamSpec(tokens.width, tokens.height, model)
    writer = Writer(tokens.base, spec, grey=tokens.grey, alpha=tokens.alpha is not None)
    for parts in zip(tokens.passes, tokens.alpha or [None] * len(tokens.passes), strict=True):
        writer.add(*parts)
    return writer


def write(tokens: Tokens, model: Model) -> bytes:
    """The whole stream; empty without a base. Raises InputError (`check_tokens`)."""
    if tokens.base is None:
        check_tokens(tokens, model)
        return b""
    return written(tokens, model).bytes()
