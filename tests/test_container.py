"""The container: golden bytes, hostile vectors, and properties of pack, parse and truncate."""

from __future__ import annotations

import doctest
import inspect
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from format_spec import VECTORS
from prow import errors
from prow.format import container
from prow.format.container import (
    EXTERNAL,
    EXTERNAL_ID_BYTES,
    Profile,
    crc8,
    crc16,
    header_bytes,
    pack,
    parse,
    parse_extras,
    payload_room,
    truncate,
)

HOSTILE = json.loads((VECTORS / "hostile.json").read_text())

quick = settings(deadline=None, max_examples=100)
sides = st.one_of(st.integers(1, 65_535), st.sampled_from([1, 128, 129, 16_384, 16_385, 65_535]))
profiles: st.SearchStrategy[Profile] = st.sampled_from(["file", "bare"])


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A valid file of either profile with a payload of 0 to 80 bytes; some carry extras."""
    profile = draw(profiles)
    model_id = draw(st.integers(1, 127 if profile == "bare" else 255))
    data = pack(draw(st.binary(max_size=80)), width=draw(sides), height=draw(sides), model_id=model_id, profile=profile)
    return data + (draw(st.binary(max_size=5)) if profile == "file" else b"")


def large_form(payload: bytes, width: int, height: int, model_id: int = 2) -> bytes:
    """The large form, put together by hand, whether or not the small one would do."""
    fields = 0xB << 68 | (width - 1) << 52 | (height - 1) << 36 | len(payload)
    head = b"\xf5\xf0" + fields.to_bytes(9, "big") + bytes([model_id])
    head += bytes([crc8(head)])
    return head + crc16(head + payload).to_bytes(2, "big") + payload


@pytest.mark.parametrize(
    ("fields", "payload", "golden"),
    [
        ({"width": 768, "height": 512, "model_id": 2}, b"\1\2\3", "f5f0 a0bfc1ff0003 02 29 1edd 010203"),
        ({"width": 1, "height": 1, "model_id": 1}, b"", "f5f0 a00000000000 01 2a 3c65"),
        ({"width": 16_384, "height": 16_384, "model_id": 255}, b"\xff", "f5f0 afffffff0001 ff 75 e19c ff"),
        ({"width": 16_385, "height": 1, "model_id": 2}, b"\0", "f5f0 b40000000000000001 02 fc 6c06 00"),
        ({"width": 65_535, "height": 65_535, "model_id": 2}, b"", "f5f0 bfffefffe000000000 02 1e c457"),
        ({"width": 768, "height": 512, "model_id": 2, "profile": "bare"}, b"\1\2\3", "02 857f 837f 010203"),
        ({"width": 1, "height": 128, "model_id": 127, "profile": "bare"}, b"", "7f 00 7f"),
        ({"width": 129, "height": 65_535, "model_id": 2, "profile": "bare"}, b"\0", "02 8100 83ff7e 00"),
    ],
)
def test_golden_bytes(fields: dict, payload: bytes, golden: str) -> None:
    data = pack(payload, **fields)
    assert data.hex() == golden.replace(" ", "")
    header, came, state = parse(data)
    assert (came, state) == (payload, "whole")
    assert {name: getattr(header, name) for name in fields} == fields


def test_docstring_examples() -> None:
    results = doctest.testmod(container)
    assert results.attempted > 0 and results.failed == 0


def test_check_values() -> None:
    assert crc8(b"123456789") == 0xF4
    assert crc16(b"123456789") == 0x29B1


def test_header_sizes_at_the_form_borders() -> None:
    assert header_bytes(16_384, 16_384, 2**16 - 1) == 12
    assert header_bytes(16_384, 16_384, 2**16) == 15
    assert header_bytes(16_385, 1, 0) == header_bytes(1, 16_385, 0) == 15
    assert header_bytes(16_384, 16_384, 2**20, "bare") == 5
    assert header_bytes(65_535, 1, 0, "bare") == 5
    assert header_bytes(65_535, 65_535, 0, "bare") == 7


def test_payload_room_at_the_form_border() -> None:
    border = 12 + 2**16 - 1  # the largest small-form file
    assert [payload_room(border + extra, 9, 9) - (2**16 - 1) for extra in range(-1, 6)] == [-1, 0, 0, 0, 0, 1, 2]
    assert payload_room(2**40, 9, 9) == 2**36 - 1  # what the length field can tell


def test_large_payload_takes_the_large_form_and_back() -> None:
    data = pack(bytes(2**16), width=9, height=9, model_id=2)
    assert len(data) == 15 + 2**16 and parse(data)[2] == "whole"
    shorter = truncate(data, len(data) - 1)
    assert len(shorter) == 12 + 2**16 - 1 and parse(shorter)[2] == "whole"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "width 0 came, wanted a whole number from 1 to 65,535 px"),
        ({"height": 65_536}, "height 65536 came, wanted a whole number from 1 to 65,535 px"),
        ({"model_id": 0}, "model id 0 came, wanted a whole number from 1 to 255 (file)"),
        ({"model_id": 256}, "model id 256 came"),
        ({"model_id": 128, "profile": "bare"}, "model id 128 came, wanted a whole number from 1 to 127 (bare)"),
        ({"profile": "naked"}, "profile 'naked' came, wanted one of 'file', 'bare'"),
    ],
)
def test_pack_refuses_what_no_header_holds(changes: dict, message: str) -> None:
    with pytest.raises(errors.InputError, match=re.escape(message)):
        pack(b"", **{"width": 1, "height": 1, "model_id": 2, **changes})


@pytest.mark.parametrize("vector", HOSTILE, ids=lambda vector: vector["file"])
def test_hostile(vector: dict) -> None:
    data = (VECTORS / "hostile" / vector["file"]).read_bytes()
    if vector["stage"] == "parse":
        with pytest.raises(errors.ProwError, match=re.escape(vector["message"])) as caught:
            parse(data)
        assert type(caught.value).__name__ == vector["error"]
        with pytest.raises(type(caught.value)):
            truncate(data, 1000)
    else:
        assert parse(data)[2] == ("damaged" if vector["error"] == "DamagedError" else "whole")


def test_declared_64_gib_is_just_cut() -> None:
    head = large_form(b"", 65_535, 65_535)
    head = head[:6] + bytes([head[6] | 0xF]) + b"\xff" * 4 + head[11:12]
    data = head + bytes([crc8(head)]) + b"\0\0" + b"x"
    header, payload, state = parse(data)
    assert (header.payload_bytes, payload, state) == (2**36 - 1, b"x", "cut")
    assert parse(truncate(data, 100))[2] == "whole"


def test_damaged_is_not_cut_but_refused() -> None:
    data = bytearray(pack(b"payload", width=5, height=6, model_id=2))
    data[-1] ^= 1
    assert parse(bytes(data))[2] == "damaged"
    with pytest.raises(errors.DamagedError, match="CRC"):
        truncate(bytes(data), 14)


def test_truncate_budgets() -> None:
    data = pack(b"payload", width=5, height=6, model_id=2)
    assert truncate(data, 13) == pack(b"p", width=5, height=6, model_id=2)
    with pytest.raises(errors.BudgetError, match="12 bytes came, at least 13 wanted"):
        truncate(data, 12)
    bare = pack(b"payload", width=5, height=6, model_id=2, profile="bare")
    assert truncate(bare, 4) == bare[:4]
    with pytest.raises(errors.BudgetError, match="3 bytes came, at least 4 wanted"):
        truncate(bare, 3)


def test_truncate_keeps_extras_only_where_nothing_is_cut() -> None:
    data = pack(b"payload", width=5, height=6, model_id=2)
    assert truncate(data + b"extras", len(data) + 6) == data + b"extras"
    assert truncate(data + b"extras", len(data) + 5) == data


@pytest.mark.parametrize("n", ["700", 700.0, None, True])
def test_truncate_wants_an_integer(n: object) -> None:
    with pytest.raises(errors.InputError, match="bytes .* came, wanted a whole number"):
        truncate(pack(b"p", width=5, height=6, model_id=2), n)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("data", ["f570", None, 12])
def test_parse_wants_bytes(data: object) -> None:
    with pytest.raises(errors.InputError, match=f"bytes, not {type(data).__name__}"):
        parse(data)  # pyright: ignore[reportArgumentType]


def test_parse_takes_any_bytes_like() -> None:
    data = pack(b"payload", width=5, height=6, model_id=2)
    assert parse(bytearray(data)) == parse(memoryview(data)) == parse(data)  # pyright: ignore[reportArgumentType]


@quick
@given(st.binary(max_size=80), sides, sides, st.integers(1, 127), profiles, st.binary(max_size=9))
def test_round_trip(payload: bytes, width: int, height: int, model_id: int, profile: Profile, extras: bytes) -> None:
    data = pack(payload, width=width, height=height, model_id=model_id, profile=profile)
    size = header_bytes(width, height, len(payload), profile)
    assert len(data) == size + len(payload)
    header, came, state = parse(data + extras if profile == "file" else data)
    assert (header.width, header.height, header.model_id, header.profile) == (width, height, model_id, profile)
    assert (header.header_bytes, header.version, came, state) == (size, 1, payload, "whole")
    assert header.file_bytes == (len(data) if profile == "file" else None)


@quick
@given(files())
def test_every_prefix_is_a_file_or_a_truncated_header(data: bytes) -> None:
    header, payload, _ = parse(data)
    for n in range(len(data)):
        if n < header.header_bytes:
            with pytest.raises(errors.HeaderError, match="truncated header"):
                parse(data[:n])
        else:
            _, came, state = parse(data[:n])
            missing = n - header.header_bytes < len(payload) and header.profile == "file"
            assert (came, state) == (payload[: n - header.header_bytes], "cut" if missing else "whole")


@quick
@given(files(), st.data())
def test_every_flipped_bit_behind_the_lengths_is_damage(data: bytes, choice: st.DataObject) -> None:
    header, payload, _ = parse(data)
    if header.profile == "bare":
        return
    position = choice.draw(st.integers(header.header_bytes - 2, header.header_bytes + len(payload) - 1))
    flipped = bytearray(data)
    flipped[position] ^= 1 << choice.draw(st.integers(0, 7))
    assert parse(bytes(flipped))[2] == "damaged"


@quick
@given(st.binary(max_size=80), sides, sides, st.integers(1, 255), st.integers(0, 80), st.data())
def test_no_damaged_byte_of_a_header_passes(
    payload: bytes, width: int, height: int, model_id: int, cut: int, choice: st.DataObject
) -> None:
    """Of a whole file or a cut one; but for the bit of the form, with which one in 256 passes."""
    data = pack(payload, width=width, height=height, model_id=model_id)
    size = parse(data)[0].header_bytes
    data = data[: size + cut]
    place = choice.draw(st.integers(0, size - 3))
    damaged = bytearray(data)
    damaged[place] ^= choice.draw(st.integers(1, 255))
    if place == 2 and (damaged[2] ^ data[2]) & 0x10:
        return
    with pytest.raises(errors.FormatError) as caught:
        parse(bytes(damaged))
    assert type(caught.value) in (errors.HeaderError, errors.VersionError)


@quick
@given(files(), st.integers(0, 120), st.integers(0, 120))
def test_truncate_is_exact_and_idempotent(data: bytes, n: int, m: int) -> None:
    header, payload, _ = parse(data)
    least = header.header_bytes + (EXTERNAL_ID_BYTES if header.model_id == EXTERNAL else 0)
    if n <= least:
        with pytest.raises(errors.BudgetError):
            truncate(data, n)
        return
    out = truncate(data, n)
    after, kept, state = parse(out)
    assert state == "whole" and kept == payload[: len(kept)]
    assert len(out) == min(n, len(data) if n >= len(data) else header.header_bytes + len(payload))
    assert (after.width, after.height, after.model_id) == (header.width, header.height, header.model_id)
    assert truncate(out, n) == out
    if least < m <= n and m < len(data):
        assert truncate(out, m) == truncate(data, m)


@quick
@given(files(), st.integers(0, 120))
def test_truncate_mends_cut_files(data: bytes, n: int) -> None:
    header, _, _ = parse(data)
    piece = data[: max(n, header.header_bytes)]
    _, came, state = parse(piece)
    mended = truncate(piece, 1000)
    assert parse(mended)[1:] == (came, "whole")
    assert state == "cut" or mended == piece


@quick
@given(st.binary(max_size=40), sides, sides, st.integers(0, 80))
def test_needless_large_form_is_read_and_cut(payload: bytes, width: int, height: int, n: int) -> None:
    data = large_form(payload, width, height)
    header, came, state = parse(data)
    assert (header.width, header.height, came, state) == (width, height, payload, "whole")
    if n > 15:
        assert len(truncate(data, n)) <= n and parse(truncate(data, n))[2] == "whole"


@settings(deadline=None, max_examples=500)
@given(st.sampled_from([b"", b"\xf5", b"\xf5\xf0", b"\xf5\xf0\xa0", b"\xf5\xf0\xb0\x02", b"\x02"]), st.binary())
def test_random_bytes_raise_nothing_but_prow_errors(start: bytes, rest: bytes) -> None:
    try:
        header, payload, _ = parse(start + rest)
    except errors.FormatError:
        return
    assert 1 <= header.width <= 65_535 and 1 <= header.height <= 65_535 and 1 <= header.model_id <= 255
    assert len(payload) <= len(start + rest) - header.header_bytes


@quick
@given(st.one_of(st.integers(0, 2**36 + 30), st.integers(0, 2**16 + 30)), sides, sides, profiles)
def test_payload_room_is_the_largest_that_fits(n: int, width: int, height: int, profile: Profile) -> None:
    room = payload_room(n, width, height, profile)
    if room >= 0:
        assert room + header_bytes(width, height, room, profile) <= n
    if 0 <= room + 1 < 2**36 or profile == "bare":
        assert room + 1 + header_bytes(width, height, max(room + 1, 0), profile) > n


def test_exports() -> None:
    for module in (container, errors):
        assert list(module.__all__) == sorted(module.__all__, key=lambda name: (not name.isupper(), name))
        assert all(hasattr(module, name) for name in module.__all__)


def test_error_tree_in_the_docstring_is_the_real_one() -> None:
    drawn = re.findall(r"^( +)(\w+Error)\b", inspect.getdoc(errors) or "", re.MULTILINE)
    parents: dict[int, str] = {}
    for indent, name in drawn:
        parents[len(indent)] = name
        base = parents.get(len(indent) - 2, "Exception")
        assert getattr(errors, name).__base__.__name__ == base
    assert sorted(name for _, name in drawn) == sorted(name for name in errors.__all__ if name.endswith("Error"))


# -- extras -------------------------------------------------------------------------------------------------------

PLAIN = pack(b"payload", width=768, height=512, model_id=2)
EXTRAS = {"EXIF": b"\0\1\2", "XMP ": b"", "ICCP": bytes(300)}


def test_extras_follow_the_file_and_change_nothing_in_it() -> None:
    data = pack(b"payload", width=768, height=512, model_id=2, extras=EXTRAS)
    assert data.startswith(PLAIN + b"EXIF\0\0\0\3\0\1\2XMP \0\0\0\0ICCP\0\0\1\x2c")
    assert len(data) == len(PLAIN) + 3 * 8 + 303
    assert parse(data) == parse(PLAIN)
    assert parse_extras(data) == EXTRAS
    assert pack(b"payload", width=768, height=512, model_id=2, extras={}) == PLAIN


def test_cuts_drop_all_extras_first() -> None:
    data = pack(b"payload", width=768, height=512, model_id=2, extras=EXTRAS)
    assert truncate(data, len(data)) == data
    assert truncate(data, len(data) - 1) == PLAIN
    assert parse_extras(data[: len(PLAIN) - 1]) == {}


def test_whole_chunks_are_listed_up_to_what_is_none() -> None:
    first = b"EXIF\0\0\0\2ab"
    assert parse_extras(PLAIN) == {}
    for rest in (b"", b"XMP ", b"XMP \0\0\0\3ab", b"\0\0\0\0\0\0\0\0", b"XMP \xff\xff\xff\xff", first[:4] + bytes(4)):
        assert parse_extras(PLAIN + first + rest) == {"EXIF": b"ab"}, rest
    assert parse_extras(PLAIN + b"extra") == {}
    assert parse_extras(pack(b"EXIF\0\0\0\0", width=1, height=1, model_id=2, profile="bare")) == {}


@pytest.mark.parametrize("tag", ["", "EXI", "EXIFS", "EX\tF", "\xe9XI"])
def test_bad_tags_are_refused(tag: str) -> None:
    with pytest.raises(errors.InputError, match="an extra with the tag .* came, 4 printable ASCII characters wanted"):
        pack(b"payload", width=768, height=512, model_id=2, extras={tag: b""})


def test_the_bare_profile_has_no_extras() -> None:
    with pytest.raises(errors.InputError, match="extras came for the bare profile"):
        pack(b"payload", width=768, height=512, model_id=2, profile="bare", extras=EXTRAS)
