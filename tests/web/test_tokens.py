"""The decoder in JavaScript against the independent readers of format_spec: same tokens, or the same error."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from conftest import Draw

import prow
from format_spec import VECTORS, make_vectors, tokens
from format_spec.model_file import Refused
from format_spec.reader import Violation
from prow import errors, registry
from prow.coding.reconstruction import work
from prow.entropy.model import StreamSpec
from prow.format.container import pack, parse
from prow.format.limits import DEFAULT_MAX_PIXELS, Limits

from .conftest import Decoder

GOLDEN = json.loads(make_vectors.INDEX.read_text())["vectors"]
HOSTILE_FOLDER = VECTORS / "hostile"
HOSTILE = json.loads((VECTORS / "hostile.json").read_text())
# Of these every prefix is read: files and bare data, colour, grey and alpha, large integers.
CUT = (
    "prow-small_50x33_picture_bare",
    "prow-small_20x17_refine_left_out",
    "anchor_24x16_large_integers",
    "anchor_50x70_grey_alpha_bare",
)
CORRUPTED = (*CUT, "prow-small_17x23", "prow-small_33x20_zero_integers", "anchor_70x50_alpha")
CORRUPTIONS = 200
ERROR_OF_RULE = {"R2": "VersionError", "R9": "DamagedError", "R10": "ModelError", "R11": "LimitError"}


def content(name: str) -> bytes:
    return (make_vectors.GOLDEN / f"{name}.prow").read_bytes()


def model_of(name: str) -> str:
    return name.split("_")[0]


def expected(data: bytes, model: str) -> dict[str, Any]:
    """What the independent readers find, or the error of the rule that is broken."""
    try:
        found = tokens.decode_tokens(data, registry.load(model).content)
    except Violation as violation:
        return {"error": ERROR_OF_RULE.get(violation.rule, "HeaderError")}
    except Refused as refused:
        return {"error": ERROR_OF_RULE[str(refused).split()[0]]}
    return found


def check(came: dict[str, Any], wanted: dict[str, Any]) -> None:
    """`came` from answer.mjs, `wanted` as `tokens.decode_tokens` has it."""
    if "error" in wanted:
        assert came.get("error") == wanted["error"]
        return
    assert "error" not in came, came
    for name in ("width", "height", "base", "grey"):
        assert came[name] == wanted[name]
    assert (came["alpha"] is None) == (wanted["alpha"] is None)
    for plane in ("passes", "alpha"):
        rows, wanted_rows = came[plane] or [], wanted[plane] or []
        assert len(rows) == len(wanted_rows)
        for row, wanted_row in zip(rows, wanted_rows, strict=True):
            assert (row["width"], row["height"]) == (wanted_row["width"], wanted_row["height"])
            tiles = len(wanted_row["counts"])
            assert (row["counts"] or [0] * tiles) == wanted_row["counts"]
            assert (row["values"] or [[]] * tiles) == wanted_row["values"]


def check_all(decoder: Decoder, cases: list[tuple[str, bytes]]) -> list[dict[str, Any]]:
    """Cases are names of models and bytes. -> what is expected of each."""
    asked = [{"ask": "tokens", "model": model, "data": data} for model, data in cases]
    wanted = [expected(data, model) for model, data in cases]
    for came, one in zip(decoder.ask(asked), wanted, strict=True):
        check(came, one)
    return wanted


def test_golden_vectors(decoder: Decoder) -> None:
    """Against golden.json, which the independent reader is held to as well."""
    names = [vector["file"].removesuffix(".prow") for vector in GOLDEN]
    answers = decoder.ask([{"ask": "tokens", "model": model_of(name), "data": content(name)} for name in names])
    for vector, came in zip(GOLDEN, answers, strict=True):
        assert "error" not in came, (vector["file"], came)
        rows = came["passes"] + (came["alpha"] or [])
        counts = [row["counts"] or [0] * len(wanted) for row, wanted in zip(rows, vector["counts"], strict=True)]
        values = [row["values"] or [[]] * len(wanted) for row, wanted in zip(rows, vector["counts"], strict=True)]
        assert (came["base"], came["grey"], came["alpha"] is not None) == (
            vector["base"],
            vector["grey"],
            vector["alpha"],
        )
        assert counts == vector["counts"], vector["file"]
        coefficients = registry.load(vector["model"]).config.coefficients
        assert make_vectors.digest(values, coefficients) == vector["values_sha256"], vector["file"]


@pytest.mark.parametrize("name", CUT)
def test_every_prefix(name: str, decoder: Decoder) -> None:
    data = content(name)
    wanted = check_all(decoder, [(model_of(name), data[:n]) for n in range(len(data))])
    assert len({json.dumps(one.get("passes")) for one in wanted}) > 20  # they are not all the same


def corruptions() -> list[tuple[str, bytes]]:
    """Bytes changed, put in and left out; in every other case the length and the CRC are those of what is left."""
    rng, cases = np.random.default_rng(5), []
    while len(cases) < CORRUPTIONS:
        name = CORRUPTED[len(cases) % len(CORRUPTED)]
        header, payload, _ = parse(content(name))
        start = header.header_bytes if rng.random() < 0.8 else 0
        data = bytearray(content(name)[: header.header_bytes] + payload)
        for _ in range(rng.integers(1, 4)):
            place = int(rng.integers(start, len(data)))
            kind = rng.integers(3)
            if kind == 0:
                data[place] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                data.insert(place, int(rng.integers(256)))
            else:
                del data[place]
        if start and header.profile == "file" and rng.random() < 0.5:
            sizes = {"width": header.width, "height": header.height, "model_id": header.model_id}
            data = bytearray(pack(bytes(data[start:]), **sizes))
        cases.append((model_of(name), bytes(data)))
    return cases


def test_random_corruptions(decoder: Decoder) -> None:
    wanted = check_all(decoder, corruptions())
    assert {one.get("error") for one in wanted} >= {None, "DamagedError", "HeaderError"}
    assert sum("error" not in one for one in wanted) > CORRUPTIONS / 3


def test_hostile_files_raise_the_same_errors_and_soon(decoder: Decoder) -> None:
    asked = [
        {"ask": "decode", "model": "prow-small", "data": (HOSTILE_FOLDER / vector["file"]).read_bytes()}
        for vector in HOSTILE
    ]
    for vector, came in zip(HOSTILE, decoder.ask(asked, timeout=30), strict=True):
        assert came.get("error") == vector["error"], vector["file"]


def test_a_header_alone_takes_no_memory_and_no_time(decoder: Decoder) -> None:
    """2^28 px in a few bytes: tokens come at once; pixels are refused before anything is allocated for them."""
    model_id = registry.load("prow-small").config.model_id
    for payload in (b"", b"\x80\x7f\xff\x00" * 8):
        data = pack(payload, width=16384, height=16384, model_id=model_id)
        asked = [{"ask": ask, "model": "prow-small", "data": data} for ask in ("info", "decode")]
        info, decoded = decoder.ask(asked, timeout=60)
        assert (info["width"], info["state"]) == (16384, "whole")
        assert decoded["error"] == "LimitError" and "16384 x 16384 px" in decoded["message"]


def test_truncate_is_that_of_python(decoder: Decoder) -> None:
    names = ("prow-small_100x75", "prow-small_100x75_cut", "anchor_16385x1_large_form", "anchor_50x33_picture_bare")
    files = [content(name) for name in names] + [content("anchor_100x75_extras")]
    cases = [(data, n) for data in files for n in (0, 5, 12, 13, 15, 50, 200, len(data) - 1, len(data), len(data) + 9)]
    files_damaged = bytearray(files[0])
    files_damaged[-1] ^= 1
    cases.append((bytes(files_damaged), 100))
    asked = [{"ask": "truncate", "model": "anchor", "data": data, "n": n} for data, n in cases]
    for (data, n), came in zip(cases, decoder.ask(asked), strict=True):
        try:
            wanted: Any = prow.truncate(data, n)
        except errors.ProwError as error:
            assert came["error"] == type(error).__name__
            continue
        assert base64.b64decode(came) == wanted


def test_info_is_that_of_python(decoder: Decoder) -> None:
    names = [vector["file"].removesuffix(".prow") for vector in GOLDEN]
    asked = [{"ask": "info", "model": model_of(name), "data": content(name)} for name in names]
    for name, came in zip(names, decoder.ask(asked), strict=True):
        wanted = prow.inspect(content(name), tokens=True)
        assert wanted.tokens_per_pass is not None
        assert came == {
            "version": wanted.version,
            "profile": wanted.profile,
            "model": wanted.model,
            "modelId": wanted.model_id,
            "width": wanted.width,
            "height": wanted.height,
            "mode": wanted.mode,
            "declaredBytes": wanted.declared_bytes,
            "presentBytes": wanted.present_bytes,
            "state": wanted.state,
            "check": wanted.check,
            "sureBytes": wanted.sure_bytes,
            "trailingBytes": wanted.trailing_bytes,
            "extras": wanted.extras,
            "step": pytest.approx(wanted.step) if wanted.step is not None else None,
            "tokensPerPass": [
                {**vars(part), "step": pytest.approx(part.step, abs=1e-9)} for part in wanted.tokens_per_pass
            ],
        }


def test_damage_between_blocks_is_known(decoder: Decoder, draw: Draw) -> None:
    """A file with a CRC-32 a block, whose second block is damaged: only what stands before is decoded."""
    data = prow.encode(draw(48, 48), bytes=1300, check="crc32", effort=1)
    damaged = data[:1100] + bytes([data[1100] ^ 1]) + data[1101:]
    ask = {"model": "prow-small", "data": damaged}
    refused, loose, info, cut, long_cut = decoder.ask(
        [
            {**ask, "ask": "tokens"},
            {**ask, "ask": "tokens", "options": {"strict": False}},
            {**ask, "ask": "info"},
            {**ask, "ask": "truncate", "n": 900},
            {**ask, "ask": "truncate", "n": 1200},
        ]
    )
    assert refused["error"] == long_cut["error"] == "DamagedError"
    assert (info["state"], info["check"], info["sureBytes"]) == ("damaged", "crc32", 1024)
    assert base64.b64decode(cut) == prow.truncate(damaged, 900)
    check(loose, expected(prow.truncate(data, 1024), "prow-small"))


def test_work_is_that_of_python_and_limited(decoder: Decoder) -> None:
    names = [vector["file"].removesuffix(".prow") for vector in GOLDEN]
    asked = [{"ask": "work", "model": model_of(name), "data": content(name)} for name in names]
    for name, came in zip(names, decoder.ask(asked), strict=True):
        found = prow.api.read_tokens(content(name))
        assert came == work(found, StreamSpec(found.width, found.height, registry.load(model_of(name)))), name
    for pixels in (1, DEFAULT_MAX_PIXELS, 3 * DEFAULT_MAX_PIXELS):
        most = Limits(pixels).work
        ask = {"ask": "check work", "model": "anchor", "data": b"", "options": {"maxPixels": pixels}}
        fine, refused = decoder.ask([{**ask, "n": most}, {**ask, "n": most + 1}])
        assert fine == "fine"
        assert refused["error"] == "LimitError" and f"the limit is {most / 1e9:.1f} s" in refused["message"]
