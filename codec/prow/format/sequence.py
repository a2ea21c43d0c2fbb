"""Tokens in stream order, and as one row of symbols for models that generate.

The order is that of a stream (SPEC section 5.3): pass by pass; within a pass round by round, the first token of all
tiles, then the second one of all that have it, and so on; within a round tile by tile in raster order. So whatever is
cut behind, each tile keeps its first tokens. (The bytes of a round mix its tiles: a file that is cut within a round has
the first integers of each of its tokens.)

The row of symbols has a vocabulary of 260:

    0         PAD     nothing follows; fills a row up to its length
    1         NEXT    no tile has another token in this pass; the next pass follows
    2         STOP    this tile has no further token in this pass
    3         ESCAPE  an integer follows as two BYTEs: v + 32768, high one first
    4 to 259  BYTE    b = 0 to 255; as an integer by itself, it is b - 128

A row begins with the base as a BYTE. Then each pass, round by round: of each tile that had a token in the round before
(of each tile in the first round) either STOP or all integers of its token, -128 to 127 as one BYTE, others by ESCAPE.
STOPs behind the last token of a pass are left out, and so are NEXTs behind the last token of all. A tile that is
smaller than the others has zeros where it lacks integers, so that the n-th token of a tile is as long for all tiles.

Any row cut short and filled with PAD is a row: integers that are cut off are 0. Size and model are not in it.

A row of an ordered tokenizer's tokens (`prow.ordered`) has no base, no NEXT and no ESCAPE. Its one pass is written in
the same way, with a VALUE for each token: 4 + v, v from 0 to its alphabet - 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InputError

PAD, NEXT, STOP, ESCAPE, BYTE = range(5)  # of the bytes, that of 0
VALUE = BYTE  # of an ordered tokenizer, likewise
VOCABULARY = BYTE + 256
_MIDDLE, _HALF = 128, 1 << 15  # what is added to an integer, as one byte and as two
_MARK = 1 << 16  # in a row of integers: added to PAD, NEXT and STOP


def order(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Token index and tile of each token of a pass in stream order, int64 each; from counts [tiles]."""
    rounds = np.arange(int(counts.max(initial=0)))
    token, tile = np.nonzero(rounds[:, None] < counts)
    return token, tile


def first(counts: np.ndarray, length: int) -> np.ndarray:
    """How many tokens each tile has among the first `length` of a pass, int16 [tiles]; from counts [tiles]."""
    _, tile = order(counts)
    return np.bincount(tile[:length], minlength=len(counts)).astype(np.int16)


# -- to symbols ----------------------------------------------------------------------------------------------------


def to_symbols(base: int | None, parts: Sequence[tuple[np.ndarray, np.ndarray]], ends: np.ndarray) -> np.ndarray:
    """Base, and counts [tiles] and values [tiles, K] of each pass, as symbols int16 without any PAD.

    Args:
        ends: rank after the last one of each token.
    """
    if base is None:
        return np.zeros(0, np.int16)
    last = max((index for index, (counts, _) in enumerate(parts) if counts.any()), default=-1)
    rows = [row for part in parts[: last + 1] for row in (*_pass_integers(*part, ends), np.array([_MARK + NEXT]))]
    integers = np.concatenate([np.zeros(0, np.int64), *rows[:-1]])
    return np.append(BYTE + base, _integers_to_symbols(integers)).astype(np.int16)


def values_to_symbols(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Counts [tiles] and values [tiles, N] of an ordered tokenizer's tokens as symbols int32 without any PAD."""
    ends = np.arange(1, values.shape[1] + 1)
    integers = np.concatenate([np.zeros(0, np.int64), *_pass_integers(counts, values, ends)])
    return np.where(integers >= _MARK, integers - _MARK, VALUE + integers).astype(np.int32)


def _pass_integers(counts: np.ndarray, values: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
    """Integers and marked STOPs of a pass, a row for each of its rounds."""
    rows, start = [], 0
    for token in range(int(counts.max(initial=0))):
        end, tiles = int(ends[token]), np.flatnonzero(counts >= token)
        stops = counts[tiles] == token
        table = values[tiles, start:end].astype(np.int64)
        table[stops, 0] = _MARK + STOP
        said = ~stops[:, None] | (np.arange(end - start) == 0)
        rows.append(table[said])
        start = end
    if rows:
        tail = np.flatnonzero(rows[-1] != _MARK + STOP)
        rows[-1] = rows[-1][: tail[-1] + 1]
    return rows


def _integers_to_symbols(integers: np.ndarray) -> np.ndarray:
    """int64 [N] -> int64 [N or more]."""
    marked, small = integers >= _MARK, (integers >= -_MIDDLE) & (integers < 256 - _MIDDLE)
    escaped = ~(marked | small)
    lengths = np.where(escaped, 3, 1)
    places = np.cumsum(lengths) - lengths
    symbols = np.empty(int(lengths.sum()), np.int64)
    symbols[places] = np.where(marked, integers - _MARK, np.where(small, BYTE + _MIDDLE + integers, ESCAPE))
    high, low = divmod(integers[escaped] + _HALF, 256)
    symbols[places[escaped] + 1], symbols[places[escaped] + 2] = BYTE + high, BYTE + low
    return symbols


# -- from symbols --------------------------------------------------------------------------------------------------


def from_symbols(
    symbols: np.ndarray, tiles: Sequence[int], ends: np.ndarray
) -> tuple[int | None, list[tuple[np.ndarray, np.ndarray]]]:
    """Symbols -> base, and of each pass counts int16 [tiles] and values int16 [tiles, K].

    Args:
        symbols: integers [N], with or without PAD behind them. tiles: how many each pass has. ends: as in `to_symbols`.

    Raises:
        InputError: symbols that say nothing; names the place of the first of these, counted from 0.
    """
    said = _check(symbols)
    parts = [(np.zeros(count, np.int16), np.zeros((count, int(ends[-1])), np.int16)) for count in tiles]
    if not len(said):
        return None, parts
    base = int(said[0]) - BYTE
    if not 0 <= base < 64:
        raise InputError(f"symbol {said[0]} at 0 came, wanted the base: {BYTE} to {BYTE + 63}")
    integers, places = _symbols_to_integers(said)
    start = 0
    for index, part in enumerate(parts):
        if start < len(integers):
            start = _read_pass(integers, places, start, part, ends, index)
    if start < len(integers):
        raise InputError(f"symbol {said[places[start]]} at {places[start]} came behind the last of {len(parts)} passes")
    return base, parts


def values_from_symbols(symbols: np.ndarray, tiles: int, tokens: int, alphabet: int) -> tuple[np.ndarray, np.ndarray]:
    """Symbols of an ordered tokenizer's tokens -> counts int16 [tiles] and values int32 [tiles, tokens]. Raises as
    `from_symbols`."""
    said = _check(symbols, VALUE + alphabet)
    wrong = np.flatnonzero((said == ESCAPE) | (said == NEXT))
    if len(wrong):
        raise InputError(f"symbol {said[wrong[0]]} at {wrong[0]} came, wanted {STOP}, or {VALUE} and more")
    integers = np.where(said >= VALUE, said - VALUE, _MARK + said)
    counts, values = np.zeros(tiles, np.int16), np.zeros((tiles, tokens), np.int32)
    _read_pass(integers, np.arange(len(said)), 0, (counts, values), np.arange(1, tokens + 1), 0)
    return counts, values


def as_symbols(array: object) -> np.ndarray:
    """-> integers [N]. Raises InputError for what is no row of these."""
    try:
        symbols = np.asarray(array)
    except ValueError as error:
        raise InputError(f"symbols came that are no array: {error}") from None
    if symbols.ndim != 1 or not (np.issubdtype(symbols.dtype, np.integer) or not symbols.size):
        raise InputError(f"symbols {symbols.dtype} {list(symbols.shape)} came, wanted integers [N]")
    return symbols


def _check(symbols: np.ndarray, vocabulary: int = VOCABULARY) -> np.ndarray:
    """-> int64 [N], the symbols before any PAD. Raises InputError."""
    symbols = as_symbols(symbols)
    wrong = np.flatnonzero((symbols < 0) | (symbols >= vocabulary))
    if len(wrong):
        raise InputError(f"symbol {symbols[wrong[0]]} at {wrong[0]} came, wanted 0 to {vocabulary - 1}")
    said = np.flatnonzero(symbols != PAD)
    length = int(said[-1]) + 1 if len(said) else 0
    if length != len(said):
        place = np.flatnonzero(symbols == PAD)[0]
        raise InputError(f"PAD at {place} came before the last symbol at {length - 1}, wanted nothing behind it")
    return symbols[:length].astype(np.int64)


def _symbols_to_integers(said: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symbols [N] without PAD -> integers and marks behind the base, and the place of the first symbol of each."""
    escapes = np.flatnonzero(said == ESCAPE)
    whole = np.append(said, [BYTE, BYTE])  # where an escape is cut off
    behind = whole[escapes[:, None] + [1, 2]]
    wrong = np.flatnonzero((behind < BYTE).any(1))
    if len(wrong):
        raise InputError(f"ESCAPE at {escapes[wrong[0]]} came without two BYTEs behind it")
    integers = np.where(said >= BYTE, said - BYTE - _MIDDLE, _MARK + said)
    integers[escapes] = (behind - BYTE) @ [256, 1] - _HALF
    integers[escapes[escapes + 2 >= len(said)]] = 0
    own = np.ones(len(said) + 2, bool)
    own[escapes + 1] = own[escapes + 2] = own[0] = False
    places = np.flatnonzero(own[: len(said)])
    return integers[places], places


def _read_pass(
    integers: np.ndarray,
    places: np.ndarray,
    place: int,
    part: tuple[np.ndarray, np.ndarray],
    ends: np.ndarray,
    index: int,
) -> int:
    """Fill counts and values of a pass from integers[place:]; -> where the next pass begins."""
    (counts, values), first_rank = part, 0
    active = range(len(counts))
    for token, end in enumerate(ends.tolist()):
        going = []
        for tile in active:
            if place == len(integers):
                return place
            if integers[place] == _MARK + NEXT:
                return place + 1
            if integers[place] == _MARK + STOP:
                place += 1
                continue
            some = integers[place : place + end - first_rank]
            marks = np.flatnonzero(some >= _MARK)
            if len(marks):
                name = "NEXT" if some[marks[0]] == _MARK + NEXT else "STOP"
                raise InputError(
                    f"{name} at {places[place + marks[0]]} came, wanted an integer: "
                    f"token {token} of tile {tile} in pass {index} has {end - first_rank}"
                )
            values[tile, first_rank : first_rank + len(some)] = some
            counts[tile] = token + 1
            place += len(some)
            going.append(tile)
        active, first_rank = going, end
    if place < len(integers) and integers[place] != _MARK + NEXT:
        raise InputError(f"symbol at {places[place]} came, wanted NEXT: pass {index} has no more tokens")
    return min(place + 1, len(integers))
