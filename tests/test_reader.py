"""format_spec/reader.py, the independent reader: what it accepts and refuses, and that it agrees with ours."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
import zlib
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from format_spec import VECTORS, make_hostile
from prow import errors
from prow.format.container import EXTERNAL, pack, parse, parse_extras

SPEC = Path(__file__).resolve().parents[1] / "format_spec"
HOSTILE = json.loads((VECTORS / "hostile.json").read_text())
ERROR_OF_RULE = {"R2": errors.VersionError}  # of R1 to R8; all others are HeaderError
SUBJECT_OF_RULE = {"R6": "too large", "R7": "overlong", "R8": "non-canonical"}  # else as in reader.RULES


def load(name: str) -> ModuleType:
    """A script of format_spec/, by path: alone, as another project would have it."""
    spec = importlib.util.spec_from_file_location(f"format_spec_{name}", SPEC / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reader = load("reader")


def check_agreement(data: bytes) -> None:
    """Both readers give the same fields, payload and state, or refuse for the same rule."""
    try:
        fields = reader.parse(data)
    except reader.Violation as violation:
        with pytest.raises(errors.FormatError) as caught:
            parse(data)
        assert type(caught.value) is ERROR_OF_RULE.get(violation.rule, errors.HeaderError)
        subject = SUBJECT_OF_RULE.get(violation.rule) or reader.RULES[violation.rule]
        assert subject in str(caught.value)
        return
    header, payload, state = parse(data)
    external = payload[:4].hex() if header.model_id == EXTERNAL and len(payload) >= 4 else None
    assert fields.pop("external_id") == external
    assert fields.pop("payload") == payload and fields.pop("state") == state
    assert fields.pop("trailing_bytes") == len(data) - header.header_bytes - len(payload)
    extras, sizes = parse_extras(data), {}
    for chunk in fields.pop("extras"):
        sizes.setdefault(chunk["tag"], chunk["bytes"])
    assert sizes == {tag: len(content) for tag, content in extras.items()}
    assert fields == vars(header)


def run_reader(path: Path) -> subprocess.CompletedProcess[str]:
    """The script in a bare interpreter: no site-packages, nothing of ours on the path."""
    command = [sys.executable, "-I", "-S", str(SPEC / "reader.py"), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("vector", HOSTILE, ids=lambda vector: vector["file"])
def test_hostile(vector: dict) -> None:
    data = (VECTORS / "hostile" / vector["file"]).read_bytes()
    if vector["stage"] == "parse":
        with pytest.raises(reader.Violation) as caught:
            reader.parse(data)
        assert caught.value.rule == vector["rule"]
    else:
        assert reader.parse(data)["state"] == ("damaged" if vector["rule"] == "R9" else "whole")
    check_agreement(data)


def test_every_rule_of_the_spec_has_a_hostile_vector() -> None:
    lines = (SPEC / "SPEC.md").read_text().splitlines()
    rules = {line.split()[1]: line.split("|")[3].strip() for line in lines if line.startswith("| R")}
    assert list(rules) == [f"R{number}" for number in range(1, 12)]
    assert {vector["rule"]: vector["error"] for vector in HOSTILE} == rules


def test_hostile_vectors_are_as_generated() -> None:
    assert all((VECTORS / name).read_bytes() == content for name, content in make_hostile.files().items())


def test_reader_imports_only_the_standard_library() -> None:
    tree = ast.parse((SPEC / "reader.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= set(sys.stdlib_module_names)


def test_command_prints_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.prow"
    path.write_bytes(pack(b"payload", width=768, height=512, model_id=2) + b"xyz")
    result = run_reader(path)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {
        "profile": "file",
        "version": 1,
        "model_id": 2,
        "width": 768,
        "height": 512,
        "payload_bytes": 7,
        "header_bytes": 12,
        "crc": int.from_bytes(path.read_bytes()[10:12], "big"),
        "state": "whole",
        "trailing_bytes": 3,
        "extras": [],
        "external_id": None,
        "present_bytes": 7,
    }


def test_command_lists_the_chunks_of_the_extras(tmp_path: Path) -> None:
    path, extras = tmp_path / "a.prow", {"EXIF": b"12345", "XMP ": b""}
    path.write_bytes(pack(b"payload", width=768, height=512, model_id=2, extras=extras) + b"junk")
    fields = json.loads(run_reader(path).stdout)
    assert fields["extras"] == [{"tag": "EXIF", "offset": 8, "bytes": 5}, {"tag": "XMP ", "offset": 21, "bytes": 0}]
    assert fields["trailing_bytes"] == 8 + 5 + 8 + 4


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.sampled_from([b"EXIF", b"CRCB", b"a\0bc"]), st.integers(0, 9), st.binary(max_size=9))))
def test_agree_on_extras(chunks: list[tuple[bytes, int, bytes]]) -> None:
    """Also where a length is wrong, so that the next chunk begins in the middle of something."""
    extras = b"".join(tag + length.to_bytes(4, "big") + content for tag, length, content in chunks)
    check_agreement(pack(b"payload", width=768, height=512, model_id=2) + extras)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60), st.integers(0, 70), st.integers(0, 120), st.integers(0, 255))
def test_agree_on_blocks(payload: bytes, size: int, place: int, flip: int) -> None:
    """A chunk CRCB of any size of block, right or with one byte of the file or of it changed."""
    data = pack(payload, width=768, height=512, model_id=2)
    blocks = [data[at : at + size] for at in range(0, len(data), size)] if size else []
    content = size.to_bytes(4, "big") + b"".join(zlib.crc32(block).to_bytes(4, "big") for block in blocks)
    whole = bytearray(data + b"CRCB" + len(content).to_bytes(4, "big") + content)
    check_agreement(bytes(whole))
    whole[12 + place % (len(whole) - 12)] ^= flip
    check_agreement(bytes(whole))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("version_3", False, "R2 (version): 3 came, 1 wanted"),
        ("damaged_crc", True, "R9 (CRC): it does not match the bytes"),
        ("missing", False, "No such file"),
    ],
)
def test_command_names_the_rule(name: str, fields: bool, message: str) -> None:
    result = run_reader(VECTORS / "hostile" / f"{name}.bin")
    assert result.returncode == 1 and bool(result.stdout) == fields
    assert message in result.stderr and result.stderr.count("\n") == 1


@settings(deadline=None, max_examples=500)
@given(
    st.sampled_from([b"", b"\xf5\xf0", b"\xf5\xf0\xa0", b"\xf5\xf0\xb0", b"\x02", b"\x02\xf0"]), st.binary(max_size=40)
)
def test_agree_on_random_bytes(start: bytes, rest: bytes) -> None:
    check_agreement(start + rest)


@settings(deadline=None, max_examples=150)
@given(
    st.binary(max_size=30),
    st.integers(1, 65_535),
    st.integers(1, 65_535),
    st.sampled_from(["file", "bare"]),
    st.integers(0, 50),
    st.integers(0, 50 * 8),
)
def test_agree_on_cut_and_flipped_files(payload: bytes, width: int, height: int, profile, n: int, bit: int) -> None:
    data = pack(payload, width=width, height=height, model_id=2, profile=profile)
    check_agreement(data)
    check_agreement(data + b"extras")
    check_agreement(data[:n])
    flipped = bytearray(data)
    flipped[bit // 8 % len(data)] ^= 1 << bit % 8
    check_agreement(bytes(flipped))
