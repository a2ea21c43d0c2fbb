"""Tokens to bytes: one range-coded stream that can be cut anywhere (SPEC section 5).

No torch here, and no pixel: what is written depends on integers alone, so it is the same on every machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from ..format.config import NEAR, STEPS
from ..format.geometry import Pass
from ..format.tokens import PassTokens, Tokens
from .check import check_tokens
from .context_model import PassContext
from .layout import Rounds
from .model import Model, StreamSpec
from .range_coder import Encoder
from .tables import TOTAL, split_raw_bits, to_symbols

FAR = 2 * NEAR + 1  # the short symbol of all bases that have none of their own
SHORT, LONG = (np.full(n, TOTAL // n) for n in (FAR + 1, STEPS))  # frequencies of the symbols of a base
BIT = np.array([TOTAL // 2, TOTAL // 2])
_CODED = np.array([TOTAL // 64, TOTAL - TOTAL // 64])


def skip_frequencies(coded_before: bool) -> np.ndarray:
    """Of a pass's skip flag, 0 (skipped) and 1 (coded), by whether the pass before it is coded; True for the first."""
    return _CODED if coded_before else BIT


@dataclasses.dataclass(frozen=True)
class Classes:
    """uint8 each, the classes of all symbols and those of all flags of a stream, in their order."""

    symbols: np.ndarray
    flags: np.ndarray


class Writer:
    """A stream in the making: passes are added in their order, and what there is so far can be had at any time."""

    def __init__(self, base: int, model: Model) -> None:
        self.base, self.model = base, model
        self._context: PassContext | None = None
        self._coded_before = True
        self._coder = Encoder(model.tables)
        offset = base - model.config.usual_base + NEAR
        near = 0 <= offset < FAR
        self._coder.choices(np.array([offset if near else FAR]), SHORT)
        self._coder.choices(np.array([] if near else [base]), LONG)

    def add(self, pass_: Pass, part: PassTokens) -> None:
        """Every symbol of the next pass."""
        self._coder.choices(np.array([part.some]), skip_frequencies(self._coded_before))
        self._coded_before = part.some
        if not part.some:
            return
        context = PassContext(pass_, self.base, self.model, self._context)
        rounds = list(self._rounds(pass_, part, context))
        context.look_back()  # the classes of all groups of a token at once: a reader has to find them one by one
        for flags, flag_classes, rank, tile, (symbols, *raw_bits) in rounds:
            self._coder.flags(flags, flag_classes)
            self._coder.symbols(symbols, context.classes(rank, tile))
            self._coder.choices(split_raw_bits(*raw_bits), BIT)
        self._context = context

    def _rounds(self, pass_: Pass, part: PassTokens, context: PassContext) -> Iterator[tuple[np.ndarray, ...]]:
        """Of each token: flags and their classes; rank and tile of each integer, and `to_symbols` of these."""
        layout = self.model.layout(pass_)
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
    writer = Writer(tokens.base, model)
    for pass_, part in zip(StreamSpec(tokens.width, tokens.height, model).passes, tokens.passes, strict=True):
        writer.add(pass_, part)
    return writer


def write(tokens: Tokens, model: Model) -> bytes:
    """The whole stream; empty without a base. Raises InputError (`check_tokens`)."""
    if tokens.base is None:
        check_tokens(tokens, model)
        return b""
    return written(tokens, model).bytes()
