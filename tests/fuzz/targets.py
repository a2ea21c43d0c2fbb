"""What is fuzzed: functions of bytes that raise nothing, or something is wrong.

Each checks more than that nothing crashes: what came out is what the bytes say. `seeds` are what a fuzzer starts from.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_reader import check_agreement

import prow
from format_spec import VECTORS, make_vectors, model_file, tokens
from prow import registry
from prow.api import read_tokens
from prow.entropy.check import check_tokens
from prow.entropy.model import StreamSpec
from prow.entropy.reader import read
from prow.entropy.trim import trim
from prow.entropy.writer import write
from prow.errors import BudgetError, FormatError, ModelError
from prow.format import container

FINDINGS = Path(__file__).parent / "findings"
MODELS = ("anchor", "prow-small")
MOST_PIXELS = 1 << 13  # of a picture whose tokens are read: larger ones are slower, and not otherwise
STREAM_SIDES = 33  # px, of the pictures of `stream`
INDEPENDENT_PIXELS, INDEPENDENT_BYTES = 500, 100  # that the slow independent reader reads, too

Target = Callable[[bytes], None]


def fuzz_container(data: bytes) -> None:
    """`parse`, `parse_extras` and `truncate` agree with each other, and refuse by FormatErrors alone."""
    try:
        header, payload, state = container.parse(data)
    except FormatError:
        for other in (container.parse_extras, lambda d: container.truncate(d, 100)):
            with pytest.raises(FormatError):
                other(data)
        return
    assert payload == data[header.header_bytes : header.header_bytes + len(payload)]
    assert state == "whole" or header.profile == "file"
    if header.payload_bytes is not None:
        assert (len(payload) < header.payload_bytes) == (state == "cut")
    extras = container.parse_extras(data)
    assert sum(8 + len(content) for content in extras.values()) <= len(data) - header.header_bytes - len(payload)
    if state == "damaged":
        return
    for size in (header.header_bytes + len(payload), len(data) // 2, 40):
        try:
            short = container.truncate(data, size)
        except BudgetError:
            continue
        again, rest, fresh = container.parse(short)
        assert len(short) <= size and fresh == "whole" and payload.startswith(rest)
        assert (again.width, again.height, again.model_id) == (header.width, header.height, header.model_id)


def fuzz_reader(data: bytes) -> None:
    """Our parser and the independent one of the specification say the same."""
    check_agreement(data)


def _small(data: bytes) -> bool:
    """Whether these bytes are of a picture of a size that is fuzzed; others are left to `fuzz_container`."""
    try:
        header, _, _ = container.parse(data)
    except FormatError:
        return True
    return header.width * header.height <= MOST_PIXELS


def fuzz_inspect(data: bytes) -> None:
    """`inspect` says what `decode` would find."""
    if not _small(data):
        return
    try:
        info = prow.inspect(data, tokens=True)
    except FormatError:
        return
    header, _, state = container.parse(data)
    assert (info.width, info.height, info.state) == (header.width, header.height, state)
    if info.model is not None:
        try:
            found = read_tokens(data, strict=False)
        except FormatError:
            raise AssertionError("inspect reads tokens that decode refuses") from None
        assert info.mode == found.mode


def fuzz_stream(data: bytes) -> None:
    """A payload after three bytes for width, height and model: the tokens are legal, come out again when they are
    written, and are those of the independent reader."""
    if len(data) < 3:
        return
    width, height = 1 + data[0] % STREAM_SIDES, 1 + data[1] % STREAM_SIDES
    model, payload = registry.load(MODELS[data[2] % 2]), data[3:]
    spec = StreamSpec(width, height, model)
    found = read(payload, spec)
    check_tokens(found, model)
    again = write(found, model)
    assert read(again, spec).same_as(found)
    if len(payload) <= INDEPENDENT_BYTES // 2:
        assert read(trim(again, found, model), spec).same_as(found)
    if width * height <= INDEPENDENT_PIXELS and len(payload) <= INDEPENDENT_BYTES:
        theirs = tokens.decode_stream(tokens.RangeDecoder(payload), width, height, _independent_model(data[2] % 2))
        assert make_vectors.describe_row(theirs) == make_vectors.describe(found)


@functools.cache
def _independent_model(index: int) -> model_file.Model:
    return model_file.parse_model(registry.load(MODELS[index]).content)


def fuzz_decode(data: bytes) -> None:
    """A picture of the size that the header says comes out, whatever the payload."""
    if not _small(data):
        return
    try:
        image = prow.decode(data, strict=False, style="vivid" if len(data) % 8 == 7 else "faithful")
    except (FormatError, ModelError):
        return
    header, _, _ = container.parse(data)
    assert image.size == (header.width, header.height) and image.mode in ("L", "LA", "RGB", "RGBA")
    assert np.asarray(image).dtype == np.uint8


TARGETS: dict[str, Target] = {
    "container": fuzz_container,
    "reader": fuzz_reader,
    "inspect": fuzz_inspect,
    "stream": fuzz_stream,
    "decode": fuzz_decode,
}


def seeds(name: str) -> list[bytes]:
    """What to start from: the golden and hostile files, in the form that a target wants, and its findings."""
    files = [path.read_bytes() for folder in ("golden", "hostile") for path in sorted((VECTORS / folder).iterdir())]
    if name == "stream":
        files = [_as_stream(data) for data in files if _small(data)]
    return [*files, *(path.read_bytes() for path in sorted((FINDINGS / name).glob("*")))]


def _as_stream(data: bytes) -> bytes:
    try:
        header, payload, _ = container.parse(data)
    except FormatError:
        return data
    return bytes([(header.width - 1) % STREAM_SIDES, (header.height - 1) % STREAM_SIDES, header.model_id - 1]) + payload
