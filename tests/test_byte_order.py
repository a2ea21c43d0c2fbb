"""Numbers in bytes have the byte order that the code says, on any machine."""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from format_spec import make_vectors
from prow import registry
from prow.entropy.model import Model, StreamSpec
from prow.entropy.reader import read
from prow.entropy.trim import trim
from prow.entropy.writer import write
from prow.format.container import parse

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("codec/prow", "cli/prow_cli", "kernels/prow_kernels", "format_spec")
SOURCES = {path.relative_to(ROOT).as_posix(): path for f in FOLDERS for path in sorted((ROOT / f).rglob("*.py"))}
# Bytes whose order is not for us to say: what they are.
KNOWN = {
    ("codec/prow/registry.py", "np.frombuffer(body[start:end], dtype=dtypes[entry['dtype']])"): "dtypes of the table",
    ("codec/prow/format/tokens.py", "np.ascontiguousarray(part.counts, np.int16).tobytes()"): "a hash, in this process",
    ("codec/prow/training/st_lpips.py", "wanted.tobytes()"): "uint8",
    ("cli/prow_cli/commands/progress.py", "exif.tobytes()"): "Pillow's EXIF",
    ("format_spec/make_vectors.py", "row.tobytes()"): "of dtype >i2",
}
ONE_BYTE = ("np.uint8", "np.int8", "'u1'", "'i1'")


def has_order(text: str) -> bool:
    """Whether a dtype or a format says its byte order, or has one byte."""
    return text in ONE_BYTE or text.lstrip("f")[:2] in ("'<", "'>")


def unordered(source: str) -> Iterator[str]:
    """Expressions that turn numbers into bytes, or back, without saying in which order."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        name, owner = node.func.attr, ast.unparse(node.func.value)
        given = [ast.unparse(one) for one in (*node.args, *(word.value for word in node.keywords))]
        if name in ("frombuffer", "fromfile", "fromstring"):
            good = any(map(has_order, given[1:]))
        elif name == "tobytes":
            good = any(f".{said}('{order}" in owner for said in ("astype", "newbyteorder") for order in "<>")
        elif name in ("from_bytes", "to_bytes"):
            good = any(one in ("'big'", "'little'") for one in given)
        elif owner == "struct" and name != "error":
            good = has_order(given[0])
        elif name == "view":
            good = not any(one.startswith(("np.", "'")) for one in given)
        else:
            good = name != "byteswap" and ast.unparse(node.func) != "array.array"
        if not good:
            yield ast.unparse(node)


@pytest.mark.parametrize("name", SOURCES)
def test_byte_order_is_said_everywhere(name: str) -> None:
    source = SOURCES[name].read_text()
    assert [one for one in unordered(source) if (name, one) not in KNOWN] == []
    assert "byteorder" not in source.replace("newbyteorder", "")


def test_what_is_known_is_still_there() -> None:
    found = {(name, one) for name, path in SOURCES.items() for one in unordered(path.read_text())}
    assert found == set(KNOWN)


@pytest.mark.parametrize(
    "source",
    [
        "np.frombuffer(data, np.int32)",
        "np.frombuffer(data, dtype='i4')",
        "np.fromfile(file, dtype=np.float32)",
        "values.tobytes()",
        "values.astype(np.int16).tobytes()",
        "int.from_bytes(data)",
        "number.to_bytes(4)",
        "struct.unpack('I', data)",
        "struct.pack('=I', 1)",
        "words.view(np.uint8)",
        "words.byteswap()",
    ],
)
def test_what_says_no_order_is_seen(source: str) -> None:
    assert list(unordered(source)) == [source]
    assert not list(unordered("np.frombuffer(d, '>u4'); v.astype('<i2').tobytes(); int.from_bytes(d, 'big')"))


def test_model_files_are_little_endian() -> None:
    """The table of dtypes that the reader of model files takes."""
    text = SOURCES["codec/prow/registry.py"].read_text()
    (line, weights) = (row for row in text.splitlines() if row.startswith(("_DTYPES =", "_WEIGHT_DTYPES =")))
    names = [
        node.value for row in (line, weights) for node in ast.walk(ast.parse(row)) if isinstance(node, ast.Constant)
    ]
    assert {name for name in names if name.islower()} == {"<i4", "u1", "i1", "<i2", "<f2", "<f4"}


def swapped(array: np.ndarray) -> np.ndarray:
    """The same numbers in the byte order of the other kind of machine."""
    return array.astype(array.dtype.newbyteorder("S"))


def test_tensors_come_in_the_order_of_this_machine() -> None:
    """Which a file on a machine of the other kind would not have."""
    numbers = np.array([1, -2, 70_000], ">i4")
    entry = {"data_offsets": [0, 12], "dtype": "I32", "shape": [3]}
    found = registry._tensor(entry, memoryview(numbers.tobytes()), {"I32": np.dtype(">i4")})
    assert found.dtype.isnative and found.tolist() == [1, -2, 70_000]


@pytest.mark.parametrize("name", ["anchor", "prow-small"])
def test_tables_in_the_other_order_say_the_same(name: str) -> None:
    """As if none were converted on a machine whose order is not that of the file."""
    model = registry.load(name)
    tables = {field.name: swapped(getattr(model.tables, field.name)) for field in dataclasses.fields(model.tables)}
    assert not tables["order"].dtype.isnative
    other = Model(model.config, dataclasses.replace(model.tables, **tables))
    for vector in json.loads(make_vectors.INDEX.read_text())["vectors"]:
        if vector["model"] != name or not vector["canonical"] or len(vector["counts"]) > 12:
            continue
        header, payload, _ = parse((make_vectors.GOLDEN / vector["file"]).read_bytes())
        found = read(payload, StreamSpec(header.width, header.height, other))
        assert (
            make_vectors.digest(make_vectors.describe(found)["values"], model.config.coefficients)
            == (vector["values_sha256"])
        )
        assert trim(write(found, other), found, other) == payload
