"""Token streams: what is written is read again, whole, cut and by the independent reader, with exact frequencies."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from format_spec import passes as spec_passes
from format_spec import tokens as independent
from format_spec.make_vectors import describe, describe_row, random_tokens
from format_spec.model_file import Model as IndependentModel
from format_spec.model_file import parse_model as parse_independently
from format_spec.model_file import running_sums
from prow.entropy import writer
from prow.entropy.layout import Layout, Rounds
from prow.entropy.model import Model, StreamSpec
from prow.entropy.range_coder import Encoder
from prow.entropy.reader import read
from prow.entropy.tables import (
    AROUND,
    MAX_MAGNITUDE,
    SYMBOLS,
    TILE_BINS,
    TOTAL,
    Tables,
    from_symbols,
    input_count,
    raw_bit_counts,
    to_symbols,
)
from prow.entropy.trim import trim
from prow.entropy.writer import Classes, write, written
from prow.format.config import CONFIGS, KIND_NAMES, STEPS
from prow.format.geometry import Level, passes, split
from prow.format.tokens import Tokens
from prow.registry import load, parse_model

TOY = CONFIGS["toy"]
some = settings(deadline=None, max_examples=15)


def frequencies(rng: np.random.Generator, symbols: int, evenness: float) -> np.ndarray:
    """Positive integers that sum to 2**24: nearly equal if `evenness` is large, one above all if it is small."""
    share = rng.dirichlet(np.full(symbols, evenness))
    table = np.floor(share * (TOTAL - symbols)).astype(np.int64) + 1
    table[rng.integers(symbols)] += TOTAL - table.sum()
    return table.astype(np.int32)


def synthetic_tables() -> Tables:
    """Tables of the toy config with every extreme that the format allows."""
    rng = np.random.default_rng(1)
    kinds, k, n = len(KIND_NAMES), TOY.coefficients, TOY.tokens
    bank = np.array([frequencies(rng, SYMBOLS, evenness) for evenness in (0.01, 0.03, 0.1, 0.3, 1, 10) * 6])
    bank[0] = 1
    bank[0, 0] = TOTAL - SYMBOLS + 1  # everything but 0 is as unlikely as can be
    bank[1] = 1
    bank[1, -1] = TOTAL - SYMBOLS + 1
    odds = np.array([1, TOTAL // 100, TOTAL // 3, TOTAL // 2, TOTAL * 3 // 4, TOTAL * 9 // 10, TOTAL - 1])

    def shifts(*shape: int, most: int = 3) -> np.ndarray:
        found = rng.integers(-most, most + 1, shape)
        return np.where(rng.random(shape) < 0.02, rng.choice([-128, 127], shape), found).astype(np.int8)

    def weights(*shape: int, spread: int) -> np.ndarray:
        found = rng.normal(0, spread, shape).clip(-(2**15), 2**15 - 1)
        return np.where(rng.random(shape) < 0.05, rng.choice([-(2**15), 2**15 - 1], shape), found).astype(np.int16)

    return Tables(
        bank=bank,
        classes=rng.integers(0, len(bank), (kinds, STEPS, k)).astype(np.uint8),
        w1=weights(input_count(TOY), 5, spread=600),
        b1=rng.integers(-(2**15), 2**15, 5).astype(np.int32),
        w2=weights(5, 5, spread=600),
        b2=rng.integers(-(2**19), 2**19, 5).astype(np.int32),
        w3=weights(5, spread=8000),
        b3=np.array([-(2**20)], np.int32),
        odds=odds.astype(np.int32),
        go=rng.integers(0, len(odds), (kinds, STEPS, n)).astype(np.uint8),
        flag_around=shifts(kinds, n, AROUND, TILE_BINS),
        flag_own=shifts(kinds, n, TILE_BINS),
        order=np.stack([rng.permutation(k) for _ in range(kinds)]).astype(np.int32),
    )


TABLES = synthetic_tables()
MODEL = Model(TOY, TABLES)
NAMES = [field.name for field in dataclasses.fields(Tables)]
MODEL_FILE = save({f"tables.{name}": getattr(TABLES, name) for name in NAMES}, metadata={"prow": TOY.to_json()})
INDEPENDENT = parse_independently(MODEL_FILE)


@st.composite
def tokens(draw: st.DrawFn) -> Tokens:
    """Tokens of a picture of up to 40 x 40 px: none, zeros, small and large integers, refining passes or not."""
    seed = draw(st.integers(0, 2**32 - 1))
    return random_tokens(
        draw(st.integers(1, 40)),
        draw(st.integers(1, 40)),
        draw(st.integers(0, STEPS - 1)),
        MODEL,
        np.random.default_rng(seed),
        density=draw(st.sampled_from([0.0, 0.05, 1.0])),
        largest=draw(st.sampled_from([1, 10, MAX_MAGNITUDE])),
        mean_tokens=draw(st.sampled_from([0.0001, 0.3, 5.0])),
        refine=draw(st.booleans()),
        grey=draw(st.booleans()),
        alpha=draw(st.booleans()),
    )


def ours(data: bytes, like: Tokens) -> Tokens:
    return read(data, StreamSpec(like.width, like.height, MODEL))


def theirs(data: bytes, width: int, height: int, model: IndependentModel = INDEPENDENT) -> dict:
    """What the independent reader finds, put as `describe` does."""
    return describe_row(independent.decode_stream(independent.RangeDecoder(data), width, height, model))


def flat(t: Tokens) -> tuple[np.ndarray, np.ndarray]:
    """Counts [tiles of all passes] and values [same, K]."""
    return np.concatenate([p.counts for p in t.passes]), np.concatenate([p.values for p in t.passes])


def small() -> Tokens:
    """A dozen tiles with a bit of everything."""
    rng = np.random.default_rng(11)
    return random_tokens(13, 9, 30, MODEL, rng, density=0.3, largest=MAX_MAGNITUDE, mean_tokens=1, refine=True)


# -- symbols and tables ----------------------------------------------------------------------------------------


def test_every_integer_has_a_symbol_and_comes_back() -> None:
    values = np.arange(-MAX_MAGNITUDE, MAX_MAGNITUDE + 1)
    symbols, raw, counts = to_symbols(values)
    assert (symbols.min(), symbols.max()) == (0, SYMBOLS - 1)
    assert np.array_equal(counts, raw_bit_counts(symbols)) and np.all(raw < 1 << counts)
    assert np.array_equal(from_symbols(symbols, raw), values)
    # Each symbol with n raw bits stands for 2**n integers: no code is wasted, none is shared.
    found, times = np.unique(symbols, return_counts=True)
    assert np.array_equal(times, 1 << raw_bit_counts(found)) and len(found) == SYMBOLS


def test_symbols_by_hand() -> None:
    symbols, raw, counts = to_symbols(np.array([0, 1, -1, 7, 8, -11, 12, 500, 32767, -32767]))
    assert symbols.tolist() == [0, 1, 2, 13, 15, 16, 17, 37, 61, 62]
    assert raw.tolist() == [0, 0, 0, 0, 0, 3, 0, 116, 8191, 8191]
    assert counts.tolist() == [0, 0, 0, 0, 2, 2, 2, 7, 13, 13]


def code(symbols: Sequence[int], tables: Sequence[np.ndarray]) -> tuple[int, int, int]:
    """A range encoder in integers of any size: low, range, and how often 32 bits were appended."""
    low, width, words = 0, 2**64 - 1, 0
    for symbol, table in zip(symbols, tables, strict=True):
        scale = width >> 24
        low += scale * int(table[:symbol].sum())
        width = scale * int(table[symbol])
        if width < 2**32:
            low, width, words = low << 32, width << 32, words + 1
    return low, width, words


@pytest.mark.parametrize("evenness", [0.003, 0.03, 0.3, 3.0, 300.0])
def test_constriction_uses_exactly_the_frequencies(evenness: float) -> None:
    """On any table, the coder's bytes lie in the interval that integer arithmetic says, and decode by it."""
    rng = np.random.default_rng(round(1000 * evenness))
    for _ in range(12):
        size = int(rng.choice([2, 3, 17, 63, 64, 255]))
        table = frequencies(rng, size, evenness)
        symbols = np.concatenate([rng.integers(0, size, 150), rng.choice(size, 350, p=table / TOTAL), np.arange(size)])
        encoder = Encoder(TABLES)
        encoder.choices(symbols, table)
        data = encoder.bytes()
        low, width, words = code(symbols.tolist(), [table] * len(symbols))
        length = 8 + 4 * words
        point = int.from_bytes(data[:length].ljust(length, b"\x00"), "big")
        assert low <= point and point + 256 ** max(0, length - len(data)) <= low + width
        decoder, sums = independent.RangeDecoder(data), running_sums(table.tolist())
        assert [decoder.symbol(sums) for _ in symbols] == symbols.tolist()


def test_constriction_uses_exactly_the_frequencies_of_a_bank() -> None:
    """The same for symbols that have a table each: the shipped tables and the synthetic ones."""
    for tables in (load("anchor").tables, TABLES):
        rng = np.random.default_rng(7)
        classes = rng.permutation(np.tile(np.arange(len(tables.bank)), 3))
        symbols = rng.integers(0, SYMBOLS, len(classes))
        encoder = Encoder(tables)
        encoder.symbols(symbols.astype(np.int32), classes)
        decoder = independent.RangeDecoder(encoder.bytes())
        sums = [running_sums(row) for row in tables.bank.tolist()]
        assert [decoder.symbol(sums[c]) for c in classes] == symbols.tolist()


# -- geometry --------------------------------------------------------------------------------------------------


@given(st.integers(1, 70_000), st.integers(1, 64))
def test_split_is_balanced(length: int, tile: int) -> None:
    parts = split(length, tile)
    assert sum(parts) == length and max(parts) <= tile and max(parts) - min(parts) <= 1
    assert parts == sorted(parts, reverse=True) == spec_passes.parts(length, tile)


@settings(max_examples=40)
@given(st.integers(1, 100), st.integers(1, 100))
def test_passes_are_those_of_the_specification(width: int, height: int) -> None:
    found = [(p.kind, p.level.width, p.level.height, p.octaves, p.shift) for p in passes(width, height, TOY)]
    assert found == [
        (p.kind, p.width, p.height, p.octaves, p.shift) for p in spec_passes.passes(width, height, INDEPENDENT)
    ]
    for level in (pass_.level for pass_ in passes(width, height, TOY)):
        sizes = spec_passes.tile_sizes(level.width, level.height, TOY.tile)
        assert [tuple(box[2:]) for box in level.boxes.tolist()] == sizes
        covered = np.zeros((level.height, level.width), int)
        for x, y, w, h in level.boxes:
            covered[y : y + h, x : x + w] += 1
        assert (covered == 1).all()


def test_layout_of_small_tiles() -> None:
    """A tile has 3 w h integers, and tokens up to the one with its last integer."""
    level = Level(11, 3, TOY.tile)
    layout = Layout(level, TOY, TABLES.order[0])
    assert level.columns == [6, 5] and layout.exists.sum(1).tolist() == [54, 45]
    for exists, last in zip(layout.exists, layout.last, strict=True):
        furthest = np.flatnonzero(exists)[-1]
        start = layout.ends[last - 2] if last > 1 else 0
        assert start <= furthest < layout.ends[last - 1]
    counts = np.array([2, 0])
    for tile, (exists, sent) in enumerate(zip(layout.exists, layout.sent(counts), strict=True)):
        ranks = sum(TOY.token_dims[: counts[tile]])
        assert np.array_equal(sent[:ranks], exists[:ranks]) and not sent[ranks:].any()


def test_rounds_of_a_pass() -> None:
    """A round for each token, of the tiles that went on and may have it, and none when there are none left."""
    layout = Layout(Level(11, 3, TOY.tile), TOY, TABLES.order[0])
    layout.last = np.array([4, 2])
    rounds = Rounds(layout)
    assert [(token, rounds.tiles.tolist()) for token in rounds] == [(0, [0, 1]), (1, [0, 1]), (2, [0]), (3, [0])]
    rounds, seen = Rounds(layout), []
    for token in rounds:
        flags = np.array([tile == 1 or token < 1 for tile in rounds.tiles])
        seen.append((rounds.tiles.tolist(), rounds.go_on(flags).tolist()))
    assert seen == [([0, 1], [0, 1]), ([0, 1], [1])]


# -- round trips -----------------------------------------------------------------------------------------------


@some
@given(tokens())
def test_round_trip(sent: Tokens) -> None:
    data = write(sent, MODEL)
    assert describe(ours(data, sent)) == describe(sent)
    assert theirs(data, sent.width, sent.height) == describe(sent)


@some
@given(tokens(), st.binary(max_size=20))
def test_bytes_after_the_end_are_ignored(sent: Tokens, tail: bytes) -> None:
    assert describe(ours(write(sent, MODEL) + tail, sent)) == describe(sent)


@settings(deadline=None, max_examples=8)
@given(tokens())
def test_trim_leaves_no_byte_to_spare(sent: Tokens) -> None:
    whole = write(sent, MODEL)
    trimmed = trim(whole, sent, MODEL)
    assert describe(ours(trimmed, sent)) == theirs(trimmed, sent.width, sent.height) == describe(sent)
    for shorter in (trimmed[:-1], whole[: len(trimmed) - 1]):
        assert describe(ours(shorter, sent)) != describe(sent)


def test_tokens_without_a_base_take_no_bytes() -> None:
    nothing = StreamSpec(20, 20, MODEL).empty(None)
    assert nothing.base is None and (nothing.width, nothing.height, nothing.model_id) == (20, 20, TOY.model_id)
    assert write(nothing, MODEL) == b""
    with pytest.raises(ValueError, match="tokens without a base came, wanted 0 to 63"):
        written(nothing, MODEL)
    assert describe(ours(b"", nothing)) == describe(nothing)


@pytest.mark.parametrize("base", range(STEPS))
def test_bases_near_the_usual_one_take_3_bits(base: int) -> None:
    """The others 9. All are read again."""
    nothing = StreamSpec(20, 20, MODEL).empty(base)
    data = write(nothing, MODEL)
    bits, near = int.from_bytes(data[:2].ljust(2, b"\0"), "big"), base - TOY.usual_base + 3
    if 0 <= near < 7:
        assert bits >> 13 == near
    else:
        assert (bits >> 13, bits >> 7 & 63) == (7, base)
    assert describe(ours(data, nothing)) == theirs(data, 20, 20) == describe(nothing)


@pytest.mark.parametrize("skipped", [(), (0,), (1, 2), (2, 4, 5), range(1, 10), range(10)])
def test_a_pass_is_likely_where_the_one_before_is_coded(
    skipped: Sequence[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it is coded takes a fraction of a bit then, that it is skipped 6 bits; behind a skipped one, a bit."""
    rng, plan, made = np.random.default_rng(3), passes(40, 30, TOY), []
    tokens = random_tokens(40, 30, 32, MODEL, rng, mean_tokens=50, refine=True, skipped=skipped)
    coded = [part.some for part in tokens.passes]
    assert coded == [i not in skipped for i in range(len(plan))] and len(plan) == 10
    assert tokens.coded == [i for i in range(len(plan)) if i not in skipped]

    class Watched(Encoder):
        def choices(self, choices: np.ndarray, frequencies: np.ndarray) -> None:
            made.append((choices.tolist(), frequencies[-1] / TOTAL))
            super().choices(choices, frequencies)

    monkeypatch.setattr(writer, "Encoder", Watched)
    stream, flags = writer.Writer(32, StreamSpec(40, 30, MODEL)), []
    for part in tokens.passes:
        flags.append(len(made))
        stream.add(part)
    odds = [63 / 64 if before else 1 / 2 for before in (True, *coded[:-1])]
    assert [made[i] for i in flags] == [([flag], likely) for flag, likely in zip(coded, odds, strict=True)]
    data = stream.bytes()
    assert data == write(tokens, MODEL)
    assert describe(ours(data, tokens)) == theirs(data, 40, 30) == describe(tokens)


# -- prefixes --------------------------------------------------------------------------------------------------


def check_partial(part: Tokens, whole: Tokens) -> None:
    """A prefix's tokens are the whole's: complete up to the last one, there by symbol, and zero after it."""
    if part.base is None:
        assert not any(p.counts.any() or p.values.any() for p in part.passes)
        return
    assert part.base == whole.base
    (counts, values), (all_counts, all_values) = flat(part), flat(whole)
    assert np.all(counts <= all_counts)
    starts = np.concatenate([[0, 0], np.cumsum(TOY.token_dims)])  # of the last token of a tile with so many
    complete = np.arange(TOY.coefficients) < starts[counts][:, None]
    assert np.array_equal(values[complete], all_values[complete])
    assert not values[np.arange(TOY.coefficients) >= starts[np.minimum(counts + 1, TOY.tokens + 1)][:, None]].any()
    symbols, true_symbols = to_symbols(values)[0], to_symbols(all_values)[0]
    assert np.all((symbols == true_symbols) | (symbols == 0))


def test_every_prefix_reads_as_a_prefix() -> None:
    sent = small()
    data = write(sent, MODEL)
    wrong, before = None, np.zeros(len(flat(sent)[0]))
    for n in range(len(data) + 1):
        part = ours(data[:n], sent)
        check_partial(part, sent)
        assert describe(part) == theirs(data[:n], sent.width, sent.height)
        counts, values = flat(part)
        missing = int((to_symbols(values)[0] != to_symbols(flat(sent)[1])[0]).sum())
        assert np.all(counts >= before) and (wrong is None or missing <= wrong)
        wrong, before = missing, counts
    assert wrong == 0 and np.array_equal(values, flat(sent)[1]) and len(data) > 60


@some
@given(tokens(), st.floats(0, 1))
def test_any_prefix_reads_as_a_prefix(sent: Tokens, share: float) -> None:
    data = write(sent, MODEL)
    cut = data[: round(share * len(data))]
    check_partial(ours(cut, sent), sent)
    assert describe(ours(cut, sent)) == theirs(cut, sent.width, sent.height)


@some
@given(tokens(), st.floats(0, 1), st.binary(max_size=20))
def test_classes_of_the_writer_say_what_contexts_would(sent: Tokens, share: float, other: bytes) -> None:
    stream = written(sent, MODEL)
    data, classes = stream.bytes(), stream.classes()
    spec = StreamSpec(sent.width, sent.height, MODEL)
    for cut in (data, data[: round(share * len(data))]):
        found = read(cut, spec, classes)
        assert describe(found) == describe(ours(cut, sent))
    assert describe(ours(trim(data, sent, MODEL, classes), sent)) == describe(sent)
    for strange in (other, data[: len(data) // 2] + other):  # not the writer's: some tokens, and no error
        assert read(strange, spec, classes).width == sent.width


def test_trim_finds_the_same_bytes_with_the_classes_of_the_writer() -> None:
    sent = small()
    stream = written(sent, MODEL)
    data, classes = stream.bytes(), stream.classes()
    trimmed = trim(data, sent, MODEL)
    assert trim(data, sent, MODEL, classes) == trimmed
    wrong = Classes(np.zeros_like(classes.symbols), np.zeros_like(classes.flags))  # no help, but no harm either
    assert describe(ours(trim(data, sent, MODEL, wrong), sent)) == describe(sent)


def test_missing_raw_bits_read_as_the_middle() -> None:
    """A 1 x 1 picture whose only integer, 20,000, arrives bit by bit: 2**14, octave's half, 13 raw bits."""
    spec = StreamSpec(1, 1, MODEL)
    rank = int(np.flatnonzero(MODEL.layout(spec.passes[0]).exists[0])[0])
    count = 1 + int(np.searchsorted(np.cumsum(TOY.token_dims), rank, side="right"))
    symbol = 2**14  # 20,000 is 10 0111000100000 in binary: the lower half of its octave
    prefixes = {symbol + (20_000 - symbol >> 13 - n << 13 - n) + (1 << 13 - n >> 1) for n in range(1, 14)}
    middles = 0  # whether a cut falls right behind the symbol depends on the base before it
    for base in range(0, 64, 3):
        sent = spec.empty(base)
        sent.passes[0].values[0, rank], sent.passes[0].counts[0] = 20_000, count
        data = write(sent, MODEL)
        read_so_far = [int(ours(data[:n], sent).passes[0].values[0, rank]) for n in range(len(data) + 1)]
        assert set(read_so_far) <= {0, symbol + 2**12} | prefixes
        assert read_so_far[-1] == 20_000
        middles += symbol + 2**12 in read_so_far
    assert middles


# -- anything whatever -----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=60), st.integers(1, 30), st.integers(1, 30))
def test_any_bytes_are_a_stream_and_both_readers_find_the_same(data: bytes, width: int, height: int) -> None:
    found = read(data, StreamSpec(width, height, MODEL))
    assert describe(found) == theirs(data, width, height)


def test_long_noise_in_both_readers() -> None:
    """Random bytes decode like any picture: long streams, shipped tables, and runs of 00 and ff."""
    anchor = load("anchor")
    independent_model = parse_independently(anchor.content)
    rng = np.random.default_rng(3)
    noise = [rng.bytes(n) for n in (1, 7, 8, 9, 100, 600)]
    for data in [*noise, bytes(300), b"\xff" * 300, noise[-1] + b"\xff" * 40, b"\x80" + bytes(50)]:
        found = read(data, StreamSpec(70, 45, anchor))
        assert describe(found) == theirs(data, 70, 45, independent_model)


@settings(deadline=None, max_examples=15)
@given(tokens(), st.data())
def test_damaged_streams_are_read_alike(sent: Tokens, data: st.DataObject) -> None:
    content = bytearray(write(sent, MODEL))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    assert describe(ours(bytes(content), sent)) == theirs(bytes(content), sent.width, sent.height)


def test_both_readers_of_a_model_file_find_the_same() -> None:
    found = parse_model(MODEL_FILE, "toy")
    assert found.config == TOY and all(np.array_equal(getattr(found.tables, n), getattr(TABLES, n)) for n in NAMES)
    assert np.array_equal(np.diff(INDEPENDENT.bank), TABLES.bank)
    for name in set(NAMES) - {"bank"}:
        table = np.array(getattr(INDEPENDENT, name))
        assert np.array_equal(table.T if name in ("w1", "w2") else table, getattr(TABLES, name))
