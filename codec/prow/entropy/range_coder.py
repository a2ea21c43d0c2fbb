"""The range coder of constriction, and a decoder that knows where its bytes end (SPEC sections 5.5 and 5.6).

A stream has no end marker. It is decoded twice, once as if zero bytes followed and once as if 0xFF bytes followed. A
symbol is believed as long as both agree: so any number of bytes gives exactly the symbols that they determine.
"""

from __future__ import annotations

import numpy as np
from constriction import stream as coding  # pyright: ignore[reportAttributeAccessIssue]

from ..format.limits import READ, Meter
from .tables import Tables

_FAMILY = coding.model.Categorical(perfect=False)
_BATCH = 1 << 15  # symbols a call: bounds the memory of their probabilities to 8 MiB


def _model(frequencies: np.ndarray) -> coding.model.Categorical:
    """A model with exactly these frequencies, which sum to 2**24."""
    return coding.model.Categorical((frequencies - 1).astype(np.float32), perfect=False)


class Encoder:
    """A range encoder with a model's tables, which remembers the classes that came. `choices` wants no tables."""

    def __init__(self, tables: Tables | None) -> None:
        self._tables, self._coder = tables, coding.queue.RangeEncoder()
        self.symbol_classes, self.flag_classes = [np.zeros(0, np.uint8)], [np.zeros(0, np.uint8)]

    def symbols(self, symbols: np.ndarray, classes: np.ndarray) -> None:
        assert self._tables is not None
        self.symbol_classes.append(classes.astype(np.uint8))
        self._encode(symbols, self._tables.probabilities, classes)

    def flags(self, flags: np.ndarray, classes: np.ndarray) -> None:
        assert self._tables is not None
        self.flag_classes.append(classes.astype(np.uint8))
        self._encode(flags, self._tables.flag_probabilities, classes)

    def _encode(self, symbols: np.ndarray, probabilities: np.ndarray, classes: np.ndarray) -> None:
        for i in range(0, len(symbols), _BATCH):
            rows = probabilities[classes[i : i + _BATCH]]
            self._coder.encode(symbols[i : i + _BATCH].astype(np.int32), _FAMILY, rows)

    def choices(self, choices: np.ndarray, frequencies: np.ndarray) -> None:
        """Symbols that all have the same frequencies."""
        if len(choices):
            self._coder.encode(choices.astype(np.int32), _model(frequencies))

    def bytes(self) -> bytes:
        return self._coder.get_compressed().astype(">u4").tobytes()


class Ended(Exception):
    """The bytes determine no further symbol; `symbols` are those of the batch that they still determine."""

    def __init__(self, symbols: np.ndarray) -> None:
        self.symbols = symbols


class Decoder:
    """Two range decoders in lockstep, one on the bytes with zeros after them, one with 0xFF. Raises Ended.

    `choices` wants no tables. The meter, if there is one, may refuse what is asked for.
    """

    def __init__(self, data: bytes, tables: Tables | None, meter: Meter | None = None) -> None:
        self._tables, self._meter = tables, meter
        fill = 16 + -len(data) % 4
        words = [np.frombuffer(data + pad * fill, dtype=">u4").astype(np.uint32) for pad in (b"\x00", b"\xff")]
        self._coders = [coding.queue.RangeDecoder(w) for w in words]

    def count(self, symbols: int) -> None:
        """So many symbols are asked for, or work that takes as long."""
        if self._meter is not None:
            self._meter.add(READ * symbols)

    def symbols(self, classes: np.ndarray) -> np.ndarray:
        assert self._tables is not None
        return self._many(self._tables.probabilities, classes)

    def flags(self, classes: np.ndarray) -> np.ndarray:
        assert self._tables is not None
        return self._many(self._tables.flag_probabilities, classes)

    def _many(self, probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
        parts = []
        for i in range(0, len(classes), _BATCH):
            rows = probabilities[classes[i : i + _BATCH]]
            try:
                parts.append(self._both(lambda c, r: c.decode(_FAMILY, r), rows))
            except Ended as end:
                raise Ended(np.concatenate([*parts, end.symbols])) from None
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)

    def choices(self, count: int, frequencies: np.ndarray) -> np.ndarray:
        """Symbols that all have the same frequencies."""
        if not count:
            return np.zeros(0, np.int32)
        model = _model(frequencies)
        return self._both(lambda c, r: c.decode(model, len(r)), np.empty(count))

    def _both(self, decode, batch: np.ndarray) -> np.ndarray:
        """Decode a batch with both coders; Ended with what they agree on if they do not agree on all."""
        self.count(len(batch))
        answers = [self._decode(coder, decode, batch) for coder in self._coders]
        length = min(len(a) for a in answers)
        differ = np.flatnonzero(answers[0][:length] != answers[1][:length])
        agreed = int(differ[0]) if len(differ) else length
        if agreed < len(batch):
            raise Ended(answers[0][:agreed])
        return answers[0]

    @staticmethod
    def _decode(coder, decode, batch: np.ndarray) -> np.ndarray:
        """As many symbols of a batch as the coder accepts: no table covers the last few of its 2**64 points."""
        again = coder.clone()
        try:
            return decode(coder, batch)
        except AssertionError:
            coder = again
        symbols = []
        for i in range(len(batch)):
            try:
                symbols.append(decode(coder, batch[i : i + 1]))
            except AssertionError:
                break
        return np.concatenate(symbols) if symbols else np.zeros(0, np.int32)
