"""An independent reader of prow model files: standard library only, written from SPEC.md section 6.

It reads what tokens depend on, the config's sizes and the integer tables, and leaves the network's weights alone.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import struct
from collections.abc import Sequence
from typing import Any

KINDS = ("start", "middle", "full", "refine")
STEPS = 64  # indices of the grid of quantiser steps
NEAR = 3  # how far from the usual base those are that have a short symbol
SYMBOLS = 63
TOTAL = 1 << 24  # every table's frequencies sum to this
TILE_BINS, AROUND = 24, 5
INPUTS = 51  # and one more for each channel
MAX_HIDDEN = 1024
MAX_HEADER = 1 << 20  # bytes of JSON
FORMATS = {"I32": "i", "I16": "h", "I8": "b", "U8": "B"}  # dtype of safetensors -> struct


class Refused(ValueError):
    """The file needs another model (R10), has too many pixels (R11), or the model file is not one (section 6)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """What a token stream needs of a model. Tables are nested lists with the indices of section 6."""

    model_id: int
    channels: int
    tile: int
    token_dims: list[int]
    usual_base: int
    octave_step: int
    refine_shifts: list[int]
    bank: list[list[int]]  # running sums of each class: [0, f0, f0 + f1, ..., 2**24]
    classes: list
    w1: list  # by hidden unit, then input; so is w2
    b1: list
    w2: list
    b2: list
    w3: list
    b3: list
    odds: list[int]
    go: list
    flag_around: list
    flag_own: list
    order: list


@functools.lru_cache(maxsize=4)
def parse_model(content: bytes) -> Model:
    """A model from the bytes of its safetensors file. Raises Refused if it breaks a MUST of section 6."""
    try:
        return read_model(content)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, struct.error) as error:
        if isinstance(error, Refused):
            raise
        raise Refused(f"no prow model file: {type(error).__name__} {error}") from None


def read_model(content: bytes) -> Model:
    length = int.from_bytes(content[:8], "little")
    if length > MAX_HEADER:
        raise Refused(f"a model file's header of {length} bytes came, at most {MAX_HEADER} wanted")
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    config = json.loads(header["__metadata__"]["prow"])
    channels = config.get("channels", 3)
    k, n = channels * config["tile"] ** 2, len(config["token_dims"])
    if sum(config["token_dims"]) != k or min(config["token_dims"]) < 1:
        raise Refused(f"token_dims {config['token_dims']} came, positive numbers that sum to {k} wanted")
    if min([config["octave_step"], *config["refine_shifts"]]) < 0:
        raise Refused("a negative shift came, 0 or more wanted")
    if not NEAR <= config["usual_base"] <= STEPS - 1 - NEAR:
        raise Refused(f"usual_base {config['usual_base']} came, {NEAR} to {STEPS - 1 - NEAR} wanted")
    classes = header["tables.bank"]["shape"][0]
    odds = header["tables.odds"]["shape"][0]
    kinds = len(KINDS)
    (hidden,) = header["tables.w3"]["shape"]
    if not 1 <= hidden <= MAX_HIDDEN:
        raise Refused(f"a context network of {hidden} hidden units came, 1 to {MAX_HIDDEN} wanted")

    def tensor(name: str, dtype: str, *shape: int, low: int = -(2**31), high: int = 2**31 - 1) -> list:
        return read_tensor(name, header[f"tables.{name}"], body, dtype, shape, low, high)

    bank = tensor("bank", "I32", classes, SYMBOLS, low=1, high=TOTAL)
    if any(sum(row) != TOTAL for row in bank):
        raise Refused("a row of tables.bank does not sum to 2**24")
    order = tensor("order", "I32", kinds, k, low=0, high=k - 1)
    if any(len(set(ranks)) != k for ranks in order):
        raise Refused("a row of tables.order is no permutation")
    return Model(
        model_id=config["model_id"],
        channels=channels,
        tile=config["tile"],
        token_dims=config["token_dims"],
        usual_base=config["usual_base"],
        octave_step=config["octave_step"],
        refine_shifts=config["refine_shifts"],
        bank=[running_sums(row) for row in bank],
        classes=tensor("classes", "U8", kinds, STEPS, k, low=0, high=classes - 1),
        w1=list(zip(*tensor("w1", "I16", INPUTS + channels, hidden), strict=True)),
        b1=tensor("b1", "I32", hidden),
        w2=list(zip(*tensor("w2", "I16", hidden, hidden), strict=True)),
        b2=tensor("b2", "I32", hidden),
        w3=tensor("w3", "I16", hidden),
        b3=tensor("b3", "I32", 1),
        odds=tensor("odds", "I32", odds, low=1, high=TOTAL - 1),
        go=tensor("go", "U8", kinds, STEPS, n, low=0, high=odds - 1),
        flag_around=tensor("flag_around", "I8", kinds, n, AROUND, TILE_BINS),
        flag_own=tensor("flag_own", "I8", kinds, n, TILE_BINS),
        order=order,
    )


def read_tensor(
    name: str, entry: dict[str, Any], body: bytes, dtype: str, shape: tuple[int, ...], low: int, high: int
) -> list:
    """A tensor as nested lists, all numbers from `low` to `high`."""
    if entry["dtype"] != dtype or entry["shape"] != list(shape):
        raise Refused(f"tables.{name} is {entry['dtype']} {entry['shape']}, {dtype} {list(shape)} wanted")
    start, end = entry["data_offsets"]
    numbers = struct.unpack(f"<{math.prod(shape)}{FORMATS[dtype]}", body[start:end])
    if min(numbers) < low or max(numbers) > high:
        raise Refused(f"tables.{name} holds {min(numbers)} to {max(numbers)}, {low} to {high} wanted")
    nested = list(numbers)
    for side in reversed(shape[1:]):
        nested = [nested[i : i + side] for i in range(0, len(nested), side)]
    return nested


def running_sums(frequencies: Sequence[int]) -> list[int]:
    return [0, *itertools.accumulate(frequencies)]
