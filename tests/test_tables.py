"""Integers, symbols and tables: exact round trips, and no malformed table gets through."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prow.entropy.tables import (
    AROUND,
    DIRECT,
    MAX_MAGNITUDE,
    SYMBOLS,
    TILE_BINS,
    TOTAL,
    Tables,
    check_shapes,
    from_symbols,
    input_count,
    raw_bit_counts,
    to_symbols,
)
from prow.errors import ModelError
from prow.format.config import CONFIGS, KIND_NAMES, STEPS
from prow.registry import ModelFile, parse_model

EVERY = np.arange(-MAX_MAGNITUDE, MAX_MAGNITUDE + 1)
TOY = CONFIGS["toy"]


def test_every_integer_comes_back() -> None:
    symbols, raw, count = to_symbols(EVERY)
    assert np.array_equal(from_symbols(symbols, raw), EVERY)
    assert symbols.min() == 0 and symbols.max() == SYMBOLS - 1
    assert len(np.unique(symbols)) == SYMBOLS
    assert {a.dtype for a in (symbols, raw, count, from_symbols(symbols, raw))} == {np.dtype(np.int32)}


def test_raw_bits() -> None:
    symbols, raw, count = to_symbols(EVERY)
    assert np.array_equal(count, raw_bit_counts(symbols))
    assert np.all((raw >= 0) & (raw < 1 << count))
    assert np.all(count[np.abs(EVERY) < DIRECT] == 0)
    # each (symbol, raw bits) stands for one integer: nothing of the alphabet is wasted
    assert sum(1 << int(raw_bit_counts(np.array(s))) for s in range(SYMBOLS)) == len(EVERY)


def test_symbols_by_example() -> None:
    values = np.array([0, 1, -1, 7, -7, 8, 11, -12, 15, 16, 32_767])
    symbols, raw, count = to_symbols(values)
    assert symbols.tolist() == [0, 1, 2, 13, 14, 15, 15, 18, 17, 19, 61]
    assert raw.tolist() == [0, 0, 0, 0, 0, 0, 3, 0, 3, 0, 8191]
    assert count.tolist() == [0, 0, 0, 0, 0, 2, 2, 2, 2, 3, 13]


def test_symbols_keep_shapes_and_small_dtypes() -> None:
    values = np.array([[-300, 0], [9, 32_767]], np.int16)
    symbols, raw, _ = to_symbols(values)
    assert np.array_equal(from_symbols(symbols, raw), values)


# -- tables ------------------------------------------------------------------------------------------------------


def uniform_tables() -> Tables:
    """The simplest tables of the toy config: all symbols alike, all flags even."""
    kinds, k, n = len(KIND_NAMES), TOY.coefficients, TOY.tokens
    row = np.full(SYMBOLS, TOTAL // SYMBOLS, np.int32)
    row[0] += TOTAL - row.sum()
    return Tables(
        bank=np.stack([row, row[::-1].copy()]),
        classes=np.zeros((kinds, STEPS, k), np.uint8),
        w1=np.zeros((input_count(TOY), 2), np.int16),
        b1=np.zeros(2, np.int32),
        w2=np.zeros((2, 2), np.int16),
        b2=np.zeros(2, np.int32),
        w3=np.zeros(2, np.int16),
        b3=np.zeros(1, np.int32),
        odds=np.array([1, TOTAL // 2, TOTAL - 1], np.int32),
        go=np.ones((kinds, STEPS, n), np.uint8),
        flag_around=np.zeros((kinds, n, AROUND, TILE_BINS), np.int8),
        flag_own=np.zeros((kinds, n, TILE_BINS), np.int8),
        order=np.tile(np.arange(k, dtype=np.int32), (kinds, 1)),
    )


def with_value(array: np.ndarray, index: Any, value: int) -> np.ndarray:
    changed = array.copy()
    changed[index] = value
    return changed


def test_fitted_tables_are_sound(toy_model: ModelFile) -> None:
    tables = toy_model.tables
    check_shapes(tables, toy_model.config)
    assert np.all(tables.bank.sum(1, dtype=np.int64) == TOTAL) and tables.bank.min() >= 1
    assert np.all(np.sort(tables.order, axis=1) == np.arange(toy_model.config.coefficients))
    assert (tables.probabilities.dtype, tables.bank.dtype) == (np.float32, np.int32)
    # float32 holds them exactly
    assert np.array_equal(tables.probabilities.astype(np.int64) + 1, tables.bank)
    assert np.array_equal(tables.flag_probabilities.astype(np.int64).sum(1) + 2, np.full(len(tables.odds), TOTAL))
    assert np.all(np.diff(tables.odds) > 0)


def test_bits_follow_from_frequencies() -> None:
    tables = uniform_tables()
    zero, one, more = tables.bits[1]
    assert one == pytest.approx(np.log2(SYMBOLS), abs=0.001)
    assert zero == pytest.approx(-np.log2(tables.bank[1, 0] / TOTAL))
    assert more == pytest.approx(0.05)  # never free, however the table bends
    go, stop = tables.flag_bits(2, 30)
    assert go.tolist() == stop.tolist() == [1.0] * TOY.tokens


BROKEN = {
    "a row sums to too much": ("bank", (0, 5), TOTAL // SYMBOLS + 1),
    "a zero frequency": ("bank", (1, 7), 0),
    "a negative frequency": ("bank", (1, 7), -5),
    "a class that the bank has not": ("classes", (3, 63, 0), 2),
    "odds that the model has not": ("go", (0, 0, 0), 3),
    "a flag that never continues": ("odds", 0, 0),
    "a flag that always continues": ("odds", 2, TOTAL),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_tables_are_refused(name: str) -> None:
    field, index, value = BROKEN[name]
    tables = uniform_tables()
    with pytest.raises(ValueError, match="table|out of range"):
        dataclasses.replace(tables, **{field: with_value(getattr(tables, field), index, value)})


def test_a_zero_is_refused_though_the_sum_is_right() -> None:
    tables = uniform_tables()
    bank = with_value(tables.bank, (0, 4), 0)
    bank[0, 0] += TOTAL // SYMBOLS
    assert bank[0].sum() == TOTAL
    with pytest.raises(ValueError, match="holds a zero"):
        dataclasses.replace(tables, bank=bank)


def test_tables_of_another_size_are_refused() -> None:
    tables = uniform_tables()
    check_shapes(tables, TOY)
    with pytest.raises(ValueError, match=r"classes is \(4, 64, 192\), config anchor wants \(4, 64, 768\)"):
        check_shapes(tables, CONFIGS["anchor"])
    for field in (f.name for f in dataclasses.fields(Tables) if f.name not in ("bank", "odds")):
        shorter = dataclasses.replace(tables, **{field: getattr(tables, field)[..., :-1]})
        wrong = "w1" if field == "w3" else field  # the length of w3 is that of all layers
        with pytest.raises(ValueError, match=f"table {wrong} is"):
            check_shapes(shorter, TOY)
    narrow = np.full((2, 64), TOTAL // 64, np.int32)
    with pytest.raises(ValueError, match="bank has 64 symbols, the format wants 63"):
        check_shapes(dataclasses.replace(tables, bank=narrow), TOY)


# -- model files -------------------------------------------------------------------------------------------------


def repack(content: bytes, change: Any) -> bytes:
    """A model file with its JSON header changed by `change(header)`."""
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    text = json.dumps(change(header) or header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def drop(*keys: str) -> Any:
    def change(header: dict) -> None:
        for key in keys:
            del header[key]

    return change


def put(key: str, **fields: Any) -> Any:
    return lambda header: header[key].update(fields)


HOSTILE_MODELS = {
    "empty": lambda content: b"",
    "seven bytes": lambda content: content[:7],
    "no header": lambda content: content[:8],
    "cut in the tables": lambda content: content[:20_000],
    "a header of 2**63 bytes": lambda content: struct.pack("<Q", 2**63) + content[8:],
    "no JSON": lambda content: struct.pack("<Q", 4) + b"none" + content[8:],
    "a list for a header": lambda content: repack(content, lambda header: [1]),
    "no metadata": lambda content: repack(content, drop("__metadata__")),
    "no tables": lambda content: repack(content, drop("tables.bank")),
    "an unknown field": lambda content: repack(content, put("__metadata__", prow='{"name": "x", "colour": 1}')),
    "dimensions that do not add up": lambda content: repack(
        content, put("__metadata__", prow=json.dumps({**json.loads(TOY.to_json()), "token_dims": [3, 5]}))
    ),
    "a foreign dtype": lambda content: repack(content, put("tables.go", dtype="F32")),
    "a foreign shape": lambda content: repack(content, put("tables.go", shape=[4, 64, 6])),
    "no offsets": lambda content: repack(content, put("tables.order", data_offsets=[0])),
    "offsets past the end": lambda content: repack(content, put("tables.order", data_offsets=[10**9, 10**9 + 3072])),
    "another model's tables": lambda content: repack(content, put("__metadata__", prow=CONFIGS["anchor"].to_json())),
}


@pytest.mark.parametrize("name", HOSTILE_MODELS)
def test_a_broken_model_file_is_a_model_error(name: str, toy_file: Path) -> None:
    with pytest.raises(ModelError, match="broken.safetensors is not a prow model file"):
        parse_model(HOSTILE_MODELS[name](toy_file.read_bytes()), "broken.safetensors")


def test_a_model_file_holds_what_was_exported(toy_file: Path) -> None:
    model = parse_model(toy_file.read_bytes(), "toy")
    assert model.config == TOY
    assert (model.tables.classes.dtype, model.tables.w1.dtype) == (np.uint8, np.int16)
    assert np.array_equal(model.tables.order[0], model.tables.order[3])
