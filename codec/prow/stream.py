"""Tokens to bytes and back: one range-coded stream that can be cut anywhere (SPEC section 5).

No torch here, and no pixel: what is written depends on integers alone, so it is the same on every machine.

The stream has no end marker. A reader decodes it twice, once as if zero bytes followed and once as if 0xFF bytes
followed, and believes a symbol as long as both agree; whatever number of bytes it holds, it gets exactly the
symbols that these bytes determine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from constriction import stream as coding  # pyright: ignore[reportAttributeAccessIssue]

from .config import NEAR, STEPS, Config
from .contexts import PassContext
from .geometry import Pass, passes
from .tables import TOTAL, Tables, from_symbols, raw_bit_counts, to_symbols
from .tokens import Layout, PassTokens, Tokens, empty_tokens, layout_of

_FAMILY = coding.model.Categorical(perfect=False)
_BATCH = 1 << 15  # symbols a call: bounds the memory of their probabilities to 8 MiB


@dataclasses.dataclass(frozen=True)
class Classes:
    """uint8 each, the classes of all symbols and those of all flags of a stream, in their order."""

    symbols: np.ndarray
    flags: np.ndarray


# -- writing -----------------------------------------------------------------------------------------------------


class _Coder:
    """A range encoder with a model's tables, which remembers the classes that came."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.coder = coding.queue.RangeEncoder()
        self.symbol_classes, self.flag_classes = [np.zeros(0, np.uint8)], [np.zeros(0, np.uint8)]

    def symbols(self, symbols: np.ndarray, classes: np.ndarray) -> None:
        self.symbol_classes.append(classes.astype(np.uint8))
        for i in range(0, len(symbols), _BATCH):
            rows = self.tables.probabilities[classes[i : i + _BATCH]]
            self.coder.encode(symbols[i : i + _BATCH], _FAMILY, rows)

    def flags(self, flags: np.ndarray, classes: np.ndarray) -> None:
        self.flag_classes.append(classes.astype(np.uint8))
        for i in range(0, len(flags), _BATCH):
            rows = self.tables.flag_probabilities[classes[i : i + _BATCH]]
            self.coder.encode(flags[i : i + _BATCH].astype(np.int32), _FAMILY, rows)

    def choices(self, choices: np.ndarray, frequencies: np.ndarray) -> None:
        if len(choices):
            self.coder.encode(choices.astype(np.int32), _model(frequencies))

    def bytes(self) -> bytes:
        return self.coder.get_compressed().astype(">u4").tobytes()


def _model(frequencies: np.ndarray) -> coding.model.Categorical:
    """A model with exactly these frequencies, which sum to 2**24."""
    return coding.model.Categorical((frequencies - 1).astype(np.float32), perfect=False)


_FAR = 2 * NEAR + 1  # the symbol for all others
_SHORT, _STEPS = (np.full(n, TOTAL // n) for n in (_FAR + 1, STEPS))
_BIT = np.array([TOTAL // 2, TOTAL // 2])
_SENT = np.array([TOTAL // 64, TOTAL - TOTAL // 64])  # whether a pass is sent, if the one before it was


class Writer:
    """A stream in the making: passes are added in their order, and what there is so far can be had at any time."""

    def __init__(self, base: int, config: Config, tables: Tables) -> None:
        self.base, self.config, self.tables = base, config, tables
        self.known: PassContext | None = None
        self.coder, self.likely = _Coder(tables), _SENT
        offset = base - config.usual_base + NEAR
        near = 0 <= offset < _FAR
        self.coder.choices(np.array([offset if near else _FAR]), _SHORT)
        self.coder.choices(np.array([] if near else [base]), _STEPS)

    def add(self, step: Pass, part: PassTokens) -> None:
        """Every symbol of the next pass."""
        sent = bool(part.counts.any())
        self.coder.choices(np.array([sent]), self.likely)
        self.likely = _SENT if sent else _BIT
        if not sent:
            return
        known = PassContext(step, step.step_index(self.base), self.config, self.tables, self.known)
        rounds = list(self._rounds(step, part, known))
        known.look_back()  # the classes of all groups of a token at once: a reader has to find them one by one
        for flags, flag_classes, rank, tile, (symbols, *raw_bits) in rounds:
            self.coder.flags(flags, flag_classes)
            self.coder.symbols(symbols, known.classes(rank, tile))
            self.coder.choices(_split_bits(*raw_bits), _BIT)
        self.known = known

    def _rounds(self, step: Pass, part: PassTokens, known: PassContext) -> Iterator[tuple[np.ndarray, ...]]:
        """Of each token: flags and their classes; rank and tile of each integer, and `to_symbols` of these."""
        layout = layout_of(step, self.config, self.tables)
        active, start = np.arange(step.level.tiles), 0
        for token, end in enumerate(layout.ends):
            active = active[layout.last[active] > token]
            flags = part.counts[active] > token
            flag_classes = known.flag_classes(token, active)
            active = active[flags]
            known.go_on(token, active)
            rank, tile = layout.positions(active, start, end)
            symbols = to_symbols(part.values[tile, rank])
            known.update(rank, tile, symbols[0])
            yield flags, flag_classes, rank, tile, symbols
            start = end
            if not len(active):
                break

    def bytes(self) -> bytes:
        """The stream of the passes so far."""
        return self.coder.bytes()

    def classes(self) -> Classes:
        """Of the passes so far: what `read` can be told."""
        return Classes(np.concatenate(self.coder.symbol_classes), np.concatenate(self.coder.flag_classes))


def written(tokens: Tokens, config: Config, tables: Tables) -> Writer:
    """A writer of every symbol of every pass.

    Raises:
        ValueError: tokens without a base step.
    """
    if tokens.base is None:
        raise ValueError("tokens without a base step came, wanted 0 to 63")
    writer = Writer(tokens.base, config, tables)
    for step, part in zip(passes(tokens.width, tokens.height, config), tokens.passes, strict=True):
        writer.add(step, part)
    return writer


def write(tokens: Tokens, config: Config, tables: Tables) -> bytes:
    """The whole stream; empty without a base step."""
    return b"" if tokens.base is None else written(tokens, config, tables).bytes()


def _split_bits(raw: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Raw bits of all integers in a row, most significant first."""
    raw, counts = raw[counts > 0], counts[counts > 0]
    shift = _descending(counts)
    return (np.repeat(raw, counts) >> shift) & 1


def _descending(counts: np.ndarray) -> np.ndarray:
    """[3, 2] -> [2, 1, 0, 1, 0]."""
    ends = np.repeat(np.cumsum(counts), counts)
    return ends - 1 - np.arange(len(ends))


# -- reading -----------------------------------------------------------------------------------------------------


class _Ended(Exception):
    """The bytes determine no further symbol; `symbols` are those of the batch that they still determine."""

    def __init__(self, symbols: np.ndarray) -> None:
        self.symbols = symbols


class _Reader:
    """Two range decoders in lockstep, one on the bytes with zeros after them, one with 0xFF."""

    def __init__(self, data: bytes, tables: Tables) -> None:
        self.tables = tables
        fill = 16 + -len(data) % 4
        words = [np.frombuffer(data + pad * fill, dtype=">u4").astype(np.uint32) for pad in (b"\x00", b"\xff")]
        self.coders = [coding.queue.RangeDecoder(w) for w in words]

    def symbols(self, classes: np.ndarray) -> np.ndarray:
        return self._many(self.tables.probabilities, classes)

    def flags(self, classes: np.ndarray) -> np.ndarray:
        return self._many(self.tables.flag_probabilities, classes)

    def _many(self, probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
        parts = []
        for i in range(0, len(classes), _BATCH):
            rows = probabilities[classes[i : i + _BATCH]]
            try:
                parts.append(self._both(lambda c, r: c.decode(_FAMILY, r), rows))
            except _Ended as end:
                raise _Ended(np.concatenate([*parts, end.symbols])) from None
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)

    def choices(self, count: int, frequencies: np.ndarray) -> np.ndarray:
        if not count:
            return np.zeros(0, np.int32)
        model = _model(frequencies)
        return self._both(lambda c, r: c.decode(model, len(r)), np.empty(count))

    def _both(self, decode, batch: np.ndarray) -> np.ndarray:
        """Decode a batch with both coders; _Ended with what they agree on if they do not agree on all."""
        answers = [self._decode(coder, decode, batch) for coder in self.coders]
        length = min(len(a) for a in answers)
        differ = np.flatnonzero(answers[0][:length] != answers[1][:length])
        agreed = int(differ[0]) if len(differ) else length
        if agreed < len(batch):
            raise _Ended(answers[0][:agreed])
        return answers[0]

    @staticmethod
    def _decode(coder, decode, batch: np.ndarray) -> np.ndarray:
        """As many symbols of a batch as the coder accepts: no table covers the last few of its 2**64 points."""
        again = coder.clone()
        try:
            return decode(coder, batch)
        except AssertionError:
            coder = again
        found = []
        for i in range(len(batch)):
            try:
                found.append(decode(coder, batch[i : i + 1]))
            except AssertionError:
                break
        return np.concatenate(found) if found else np.zeros(0, np.int32)


class _Recalled:
    """In the place of contexts, the classes that a writer had: nothing is left to find out.

    That holds as long as the symbols read are those that were written.
    """

    def __init__(self, classes: Classes, config: Config) -> None:
        self._symbols, self._flags, self._ends = classes.symbols, classes.flags, [0, *np.cumsum(config.token_dims)]

    def groups(self, token: int) -> list[tuple[int, int]]:
        return [(self._ends[token], self._ends[token + 1])]

    def classes(self, rank: np.ndarray, tile: np.ndarray) -> np.ndarray:
        found, self._symbols = self._split(self._symbols, len(rank))
        return found

    def flag_classes(self, token: int, tile: np.ndarray) -> np.ndarray:
        found, self._flags = self._split(self._flags, len(tile))
        return found

    @staticmethod
    def _split(classes: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        if count > len(classes):
            raise _Ended(np.zeros(0, np.int32))
        return classes[:count], classes[count:]

    def update(self, rank: np.ndarray, tile: np.ndarray, symbols: np.ndarray) -> None:
        pass

    def go_on(self, token: int, tile: np.ndarray) -> None:
        pass


def read(
    data: bytes,
    width: int,
    height: int,
    model_id: int,
    config: Config,
    tables: Tables,
    classes: Classes | None = None,
) -> Tokens:
    """The tokens that the bytes of a stream determine: all of a whole one, a prefix of a cut one. Never fails.

    Args:
        classes: `Writer.classes` of the stream that these bytes are a prefix of, if they are at hand: this takes a
            fraction of the time then. Of any other bytes it finds what they say up to where they differ, and then some
            other tokens than a reader would.
    """
    plan = passes(width, height, config)
    reader = _Reader(data, tables)
    try:
        offset = int(reader.choices(1, _SHORT)[0])
        base = config.usual_base - NEAR + offset if offset < _FAR else int(reader.choices(1, _STEPS)[0])
    except _Ended:
        return Tokens(width, height, model_id, None, tuple(empty_tokens(p.level, config) for p in plan))
    parts, ended, contexts, likely = [], False, None, _SENT
    recalled = None if classes is None else _Recalled(classes, config)
    for step in plan:
        part = empty_tokens(step.level, config)
        if not ended:
            try:
                sent = reader.choices(1, likely)[0]
                likely = _SENT if sent else _BIT
                if sent:
                    known = recalled
                    if known is None:
                        known = contexts = PassContext(step, step.step_index(base), config, tables, contexts)
                    _read_pass(reader, step, known, part, config)
            except _Ended:
                ended = True
        parts.append(part)
    return Tokens(width, height, model_id, base, tuple(parts))


def _read_pass(reader: _Reader, step: Pass, known: PassContext | _Recalled, part: PassTokens, config: Config) -> None:
    layout = layout_of(step, config, reader.tables)
    active = np.arange(step.level.tiles)
    for token in range(config.tokens):
        active = active[layout.last[active] > token]
        flags = reader.flags(known.flag_classes(token, active))
        active = active[flags == 1]
        if not len(active):
            break
        known.go_on(token, active)
        _read_token(reader, layout, known, part, token, active)
        part.counts[active] = token + 1


def _read_token(
    reader: _Reader,
    layout: Layout,
    known: PassContext | _Recalled,
    part: PassTokens,
    token: int,
    active: np.ndarray,
) -> None:
    """Read a token of all active tiles into its place; _Ended after storing what there is of it."""
    ranks, tiles, found = [], [], []
    bits: np.ndarray | None = None
    try:
        for start, end in known.groups(token):
            rank, tile = layout.positions(active, start, end)
            ranks.append(rank)
            tiles.append(tile)
            symbols = reader.symbols(known.classes(rank, tile))
            found.append(symbols)
            known.update(rank, tile, symbols)
        bits = reader.choices(int(raw_bit_counts(np.concatenate(found)).sum()), _BIT)
    except _Ended as end:
        if len(found) < len(ranks):
            found.append(end.symbols)
        else:
            bits = end.symbols
        raise
    finally:
        if ranks:
            _store(part, token, np.concatenate(ranks), np.concatenate(tiles), np.concatenate(found), bits)


def _store(
    part: PassTokens, token: int, rank: np.ndarray, tile: np.ndarray, symbols: np.ndarray, bits: np.ndarray | None
) -> None:
    """Write integers into their places. Missing raw bits of an integer read as 1, 0, 0, ...: the middle."""
    counts = raw_bit_counts(symbols)
    large = counts[counts > 0]
    shift = _descending(large)
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


def trim(data: bytes, tokens: Tokens, config: Config, tables: Tables, classes: Classes | None = None) -> bytes:
    """The shortest bytes near a stream that read as the same tokens.

    Trailing stop flags are not needed; of the rest, n bytes serve if the stream's first n bytes do, or the next
    larger number of n bytes does (the coder likes to end at the very start of its interval).

    Args:
        classes: `Writer.classes` of the stream, if they are at hand, for the search; its result is read without them.
    """

    def same(part: bytes, classes: Classes | None = classes) -> bool:
        got = read(part, tokens.width, tokens.height, tokens.model_id, config, tables, classes)
        return got.base == tokens.base and all(
            np.array_equal(a.counts, b.counts) and np.array_equal(a.values, b.values)
            for a, b in zip(got.passes, tokens.passes, strict=True)
        )

    def fit(n: int) -> bytes | None:
        head = int.from_bytes(data[:n], "big")
        parts = (number.to_bytes(n, "big") for number in (head, head + 1) if number < 256**n)
        return next((part for part in parts if same(part)), None)

    low, high, best = 0, len(data), data
    while low < high:
        middle = (low + high) // 2
        found = fit(middle)
        low, high, best = (middle + 1, high, best) if found is None else (low, middle, found)
    if classes is not None and not same(best, None):
        return trim(data, tokens, config, tables)
    return best
