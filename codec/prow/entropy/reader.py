"""Bytes to tokens: of any prefix of a stream, exactly what its bytes determine (SPEC section 5)."""

from __future__ import annotations

import dataclasses

import numpy as np

from ..format.config import NEAR
from ..format.limits import Meter
from ..format.tokens import PassTokens, Tokens, empty_tokens
from .context_model import PassContext
from .layout import Layout, Rounds
from .model import Model, StreamSpec
from .range_coder import Decoder, Ended
from .tables import from_symbols, raw_bit_counts, raw_bit_shifts
from .writer import ALPHA, BIT, FAR, GREY, LONG, SHORT, Classes, Plane, skip_frequencies

_OF_A_TILE = 16  # symbols that take as long as to make the context of a tile in a pass


class _Recalled:
    """In the place of contexts, the classes that a writer had: nothing is left to find out.

    That holds as long as the symbols read are those that were written.
    """

    def __init__(self, classes: Classes, model: Model) -> None:
        self._symbols, self._flags = classes.symbols, classes.flags
        self._ends = [0, *np.cumsum(model.config.token_dims)]

    def groups(self, token: int) -> list[tuple[int, int]]:
        return [(self._ends[token], self._ends[token + 1])]

    def classes(self, rank: np.ndarray, tile: np.ndarray) -> np.ndarray:
        classes, self._symbols = self._split(self._symbols, len(rank))
        return classes

    def flag_classes(self, token: int, tile: np.ndarray) -> np.ndarray:
        classes, self._flags = self._split(self._flags, len(tile))
        return classes

    @staticmethod
    def _split(classes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        if count > len(classes):
            raise Ended(np.zeros(0, np.int32))
        return classes[:count], classes[count:]

    def update(self, rank: np.ndarray, tile: np.ndarray, symbols: np.ndarray) -> None:
        pass

    def go_on(self, token: int, tile: np.ndarray) -> None:
        pass


def read(payload: bytes, spec: StreamSpec, classes: Classes | None = None, meter: Meter | None = None) -> Tokens:
    """The tokens that the bytes of a stream determine: all of a whole one, a prefix of a cut one.

    Args:
        classes: `Writer.classes` of the stream that these bytes are a prefix of, if they are at hand: this takes a
            fraction of the time then. Of any other bytes it finds what they say up to where they differ, and then some
            other tokens than a reader would.
        meter: of the work that bytes from outside may ask for.

    Raises:
        LimitError: there is a `meter`, and the bytes ask for more than its limit. Without, it never fails.
    """
    decoder, tokens = Decoder(payload, spec.model.tables, meter), spec.empty(None)
    recalled = classes and _Recalled(classes, spec.model)
    try:
        base = _read_base(decoder, spec)
        tokens = spec.empty(base)
        tokens = spec.empty(base, grey=bool(decoder.choices(1, GREY)[0]))
        colour, alpha = Plane(grey=tokens.grey), Plane(grey=True)
        for index, part in enumerate(tokens.passes):
            _read_pass(decoder, spec, base, colour, index, part, recalled)
            if index == 0 and decoder.choices(1, ALPHA)[0]:
                tokens = dataclasses.replace(tokens, alpha=spec.empty_passes())
            if tokens.alpha is not None:
                _read_pass(decoder, spec, base, alpha, index, tokens.alpha[index], recalled)
    except Ended:
        pass
    return dataclasses.replace(tokens, alpha=tokens.shown_alpha or None)


def read_start(payload: bytes, spec: StreamSpec) -> tuple[int | None, bool, bool]:
    """The base, whether a picture is grey and whether it has alpha, as far as the bytes say; reads no more than that
    takes."""
    decoder, base, grey, alpha = Decoder(payload, spec.model.tables), None, False, False
    try:
        base = _read_base(decoder, spec)
        grey = bool(decoder.choices(1, GREY)[0])
        first = empty_tokens(spec.passes[0].level, spec.model.config)
        _read_pass(decoder, spec, base, Plane(grey=grey), 0, first, None)
        alpha = bool(decoder.choices(1, ALPHA)[0])
    except Ended:
        pass
    return base, grey, alpha


def _read_base(decoder: Decoder, spec: StreamSpec) -> int:
    offset = int(decoder.choices(1, SHORT)[0])
    return spec.model.config.usual_base - NEAR + offset if offset < FAR else int(decoder.choices(1, LONG)[0])


def _read_pass(
    decoder: Decoder,
    spec: StreamSpec,
    base: int,
    plane: Plane,
    index: int,
    part: PassTokens,
    recalled: _Recalled | None,
) -> None:
    """Pass `index` of a plane into its place."""
    plane.coded_before = bool(decoder.choices(1, skip_frequencies(plane.coded_before))[0])
    if not plane.coded_before:
        return
    pass_, context = spec.passes[index], recalled
    if context is None:
        decoder.count(_OF_A_TILE * pass_.level.tiles)
        context = plane.context = PassContext(pass_, base, spec.model, plane.context)
    layout = spec.model.layout(pass_, grey=plane.grey)
    rounds = Rounds(layout)
    for token in rounds:
        tiles = rounds.go_on(decoder.flags(context.flag_classes(token, rounds.tiles)))
        context.go_on(token, tiles)
        if len(tiles):
            _read_token(decoder, layout, context, part, token, tiles)
            part.counts[tiles] = token + 1


def _read_token(
    decoder: Decoder,
    layout: Layout,
    context: PassContext | _Recalled,
    part: PassTokens,
    token: int,
    active: np.ndarray,
) -> None:
    """Read a token of all active tiles into its place; Ended after storing what there is of it."""
    ranks, tiles, symbols = [], [], []
    bits: np.ndarray | None = None
    try:
        for start, end in context.groups(token):
            rank, tile = layout.positions(active, start, end)
            ranks.append(rank)
            tiles.append(tile)
            symbols.append(decoder.symbols(context.classes(rank, tile)))
            context.update(rank, tile, symbols[-1])
        bits = decoder.choices(int(raw_bit_counts(np.concatenate(symbols)).sum()), BIT)
    except Ended as end:  # and nothing else: after an interrupt or a limit there may be no symbols
        if len(symbols) < len(ranks):
            symbols.append(end.symbols)
        else:
            bits = end.symbols
        _store(part, token, np.concatenate(ranks), np.concatenate(tiles), np.concatenate(symbols), bits)
        raise
    _store(part, token, np.concatenate(ranks), np.concatenate(tiles), np.concatenate(symbols), bits)


def _store(
    part: PassTokens, token: int, rank: np.ndarray, tile: np.ndarray, symbols: np.ndarray, bits: np.ndarray | None
) -> None:
    """Write integers into their places. Missing raw bits of an integer read as 1, 0, 0, ...: the middle."""
    counts = raw_bit_counts(symbols)
    large = counts[counts > 0]
    shift = raw_bit_shifts(large)
    owner = np.repeat(np.arange(len(large)), large)
    received = 0 if bits is None else len(bits)
    filled = np.zeros(len(owner), np.int32)
    if bits is not None:
        filled[:received] = bits
    missing = np.arange(len(owner)) >= received
    filled[missing & ((shift == large[owner] - 1) | (np.arange(len(owner)) == received))] = 1
    raw = np.zeros(len(symbols), np.int32)
    raw[counts > 0] = np.bincount(owner, filled << shift, minlength=len(large)).astype(np.int32)
    part.values[tile[: len(symbols)], rank[: len(symbols)]] = from_symbols(symbols, raw)
    touched = tile[: len(symbols)][symbols != 0]
    part.counts[touched] = np.maximum(part.counts[touched], token + 1)
