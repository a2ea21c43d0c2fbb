"""The streams of an ordered tokenizer: range-coded, cut anywhere, in tables by position (SPEC section 7)."""

from __future__ import annotations

import numpy as np

from ..entropy.range_coder import Decoder, Encoder, Ended
from ..entropy.tables import TOTAL
from ..format.limits import Meter

_STOP, _RARE_STOP = 1 << 20, 1 << 12
LAYOUT = np.array([TOTAL // 2, TOTAL // 2])  # of tiles and letterbox


def flag(token: int) -> np.ndarray:
    """Frequencies of stop and continue before a token: writers like to stop after 0, 1, 2, 4, 8, ... tokens."""
    stop = _RARE_STOP if token & (token - 1) else _STOP
    return np.array([stop, TOTAL - stop])


def uniform(alphabet: int) -> np.ndarray:
    """Frequencies that are as equal as integers can be, int64 [alphabet]."""
    return TOTAL // alphabet + (np.arange(alphabet) < TOTAL % alphabet)


def write(counts: np.ndarray, values: np.ndarray, tables: np.ndarray, layout: bool | None) -> bytes:
    """Counts [tiles] and values [tiles, N] as bytes.

    Args:
        tables: frequencies [N or 1, alphabet] by position. layout: whether it is a letterbox; None if nothing is said.
    """
    coder, active = Encoder(None), np.arange(len(counts))
    coder.choices(np.array([] if layout is None else [layout]), LAYOUT)
    for token in range(min(int(counts.max(initial=0)) + 1, values.shape[1])):
        flags = counts[active] > token
        coder.choices(flags, flag(token))
        active = active[flags]
        coder.choices(values[active, token], tables[token % len(tables)])
    return coder.bytes()


class Reading:
    """What the bytes of a stream determine. Raises LimitError if there is a meter and the bytes ask for more work.

    Attributes:
        letterbox: what the stream says of it; False if it does not say.
        counts: int16 [tiles]. values: int32 [tiles, N], 0 beyond the tokens of each tile.
    """

    def __init__(self, data: bytes, *, has_layout: bool, meter: Meter | None) -> None:
        self._decoder, self.letterbox, self._ended = Decoder(data, None, meter), False, False
        self.counts, self.values = np.zeros(0, np.int16), np.zeros((0, 0), np.int32)
        if has_layout:
            try:
                self.letterbox = bool(self._decoder.choices(1, LAYOUT)[0])
            except Ended:
                self._ended = True

    def read(self, tiles: int, tokens: int, tables: np.ndarray) -> None:
        """Counts and values of so many tiles."""
        self.counts, self.values = np.zeros(tiles, np.int16), np.zeros((tiles, tokens), np.int32)
        active = np.arange(0 if self._ended else tiles)
        try:
            for token in range(tokens):
                if not len(active):
                    return
                active = active[self._decoder.choices(len(active), flag(token)) == 1]
                self._take(token, active, tables[token % len(tables)])
        except Ended:
            self._ended = True

    def _take(self, token: int, active: np.ndarray, frequencies: np.ndarray) -> None:
        """One token of all active tiles; Ended after those that came are in their place."""
        end = None
        try:
            came = self._decoder.choices(len(active), frequencies)
        except Ended as error:
            end, came = error, error.symbols
        some = active[: len(came)]
        self.values[some, token] = came
        self.counts[some] = token + 1
        if end is not None:
            raise end
