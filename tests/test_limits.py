"""Bounded work: what a small file or picture can ask for, in pixels, work and memory."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Draw
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_sequence import draw_tokens

import prow
from prow.backends.onnx_backend import OnnxBackend  # for its numpy steps: no network runs on levels that only grow
from prow.coding import enlarge
from prow.coding.codec import Codec
from prow.coding.reconstruction import filter_octaves, work
from prow.entropy.model import StreamSpec
from prow.entropy.reader import read
from prow.entropy.writer import write
from prow.format import container
from prow.format.geometry import levels as levels_of
from prow.format.limits import DEFAULT_MAX_PIXELS, Limits, memory_errors
from prow.registry import ModelFile

HOSTILE = container.pack(b"", width=8192, height=8192, model_id=2)  # 12 bytes

DECODE = """
import re, resource, sys, time
import prow
data = bytes.fromhex(sys.argv[1])
start = time.process_time()
if len(sys.argv) > 2:
    prow.decode(data[:12], octaves=9)  # what has to be loaded
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]), -1))
size = prow.decode(data).size
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]  # ru_maxrss may be that of who started us
print(size, time.process_time() - start, peak)
"""


def decode_apart(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", DECODE, HOSTILE.hex(), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_the_largest_picture_of_12_bytes_takes_less_than_a_gib_and_10_seconds() -> None:
    assert HOSTILE[:2] == container.MAGIC and len(HOSTILE) == 12 and DEFAULT_MAX_PIXELS == 8192 * 8192
    size, seconds, kib = decode_apart().stdout.strip().rsplit(maxsplit=2)
    assert size == "(8192, 8192)" and float(seconds) < 10 and int(kib) < 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_want_of_memory_is_a_limit_error() -> None:
    done = decode_apart(str(100 << 20))
    assert done.returncode == 1 and done.stdout == ""
    wanted = "prow.errors.LimitError: 8192 x 8192 px, 67,108,864 pixels, take more memory than this process can have"
    assert wanted in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        np._core._exceptions._ArrayMemoryError((3, 9), np.dtype(float)),  # type: ignore[attr-defined]
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        Exception("Failed to allocate memory for requested buffer of size 9"),
    ],
)
def test_errors_of_memory_of_all_libraries(error: Exception) -> None:
    with pytest.raises(prow.LimitError, match="9 x 7 px, 63 pixels, take more memory"), memory_errors(9, 7):
        raise error
    with pytest.raises(RuntimeError, match="else"), memory_errors(9, 7):
        raise RuntimeError("something else")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.integers(1, 200), st.integers(0, 12), st.integers(1, 3000))
def test_strips_show_what_the_whole_shows(
    toy_model: ModelFile, seed: int, width: int, height: int, kept: int, strip: int
) -> None:
    """The end of the schedule in strips of a few rows, beside all of it at once."""
    codec = Codec(OnnxBackend(toy_model))
    picture = np.random.default_rng(seed).uniform(0, 255, (1, 3, *_shape(width, height, kept))).astype(np.float32)
    levels = [pass_.level for pass_ in codec._plan(StreamSpec(width, height, toy_model).empty(30))]
    start = next(i for i, level in enumerate(levels) if (level.height, level.width) == picture.shape[2:])
    whole = picture
    for level in levels[start + 1 :]:
        whole = codec.backend.double(whole, None, level)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enlarge, "STRIP", strip)
        found = enlarge.enlarged(codec.backend, picture[0], levels[start + 1 :])
    assert np.array_equal(found, codec.backend.to_image(whole[0]))


def _shape(width: int, height: int, kept: int) -> tuple[int, int]:
    """Height and width of one of the levels of a picture."""
    pyramid = levels_of(width, height, 8)
    level = pyramid[kept % len(pyramid)]
    return level.height, level.width


def test_images_are_those_of_the_floats(codec: Codec, toy_model: ModelFile) -> None:
    for seed, share in ((1, 0.0), (2, 0.2), (3, 0.5), (4, 1.0)):
        tokens = draw_tokens(toy_model, seed, 150, 121, share=share)
        for octaves in (0, 1, 2):
            (found,) = codec.images([tokens], octaves)
            assert np.array_equal(found, codec.backend.to_image(codec.decode(tokens, octaves)))


# -- work -----------------------------------------------------------------------------------------------------------


def test_work_counts_what_networks_see(toy_model: ModelFile) -> None:
    spec = StreamSpec(100, 60, toy_model)
    nothing = spec.empty(30)
    assert work(nothing, spec) == 0
    some = draw_tokens(toy_model, 3, 100, 60, share=1)
    assert filter_octaves(some, spec)[0] == 0
    sizes = [pass_.level.width * pass_.level.height for pass_ in spec.passes]
    assert work(some, spec) == sum(sizes)
    assert work(some, spec, octaves=1) == sum(s for s, p in zip(sizes, spec.passes, strict=True) if p.octaves >= 1)
    assert work(dataclasses.replace(some, alpha=some.passes), spec) == 2 * sum(sizes)


def test_a_file_that_asks_for_too_much_says_what_would_be_enough(
    installed: None, toy_model: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many integers, and many pixels to paint."""
    monkeypatch.setattr("prow.format.limits._WORK_PER_BYTE", 4)
    spec = StreamSpec(120, 100, toy_model)
    tokens = spec.empty(30)
    for pass_, part in zip(spec.passes, tokens.passes, strict=True):
        part.counts[:] = toy_model.layout(pass_).last
        part.values[0, 0] = 1
    content, most, tries = write(tokens, toy_model), 12_000, 0
    data = container.pack(content, width=120, height=100, model_id=toy_model.config.model_id)
    while True:
        try:
            assert prow.decode(data, max_pixels=most).size == (120, 100)
            break
        except prow.LimitError as error:
            said = re.fullmatch(
                r"a payload of ([\d,]+) bytes asks for ([\d,]+) units of work, the limit is ([\d,]+) "
                r"\(raise it with max_pixels=(\d+) or more\)",
                str(error),
            )
            assert said and tries < 60
            payload, asked, limit, enough = (int(number.replace(",", "")) for number in said.groups())
            assert payload == len(content) and asked > limit == Limits(most).work(payload) and enough > most
            most, tries = enough, tries + 1
    assert tries > 0 and most >= 8 * (work(tokens, spec) - 4 * len(content))


def test_limits_on_reading(installed: None, toy_model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = draw_tokens(toy_model, 5, 120, 90, share=1)
    content = write(tokens, toy_model)
    spec = StreamSpec(120, 90, toy_model)
    data = container.pack(content, width=120, height=90, model_id=toy_model.config.model_id)
    assert read(content, spec, limits=Limits()) == tokens == prow.api.read_tokens(data)
    monkeypatch.setattr("prow.format.limits._WORK_PER_BYTE", 0)
    with pytest.raises(prow.LimitError, match=r"asks for [\d,]+ units of work, the limit is 1,350 .raise it"):
        read(content, spec, limits=Limits(10_800))
    with pytest.raises(prow.LimitError, match="units of work"):
        prow.api.read_tokens(data, max_pixels=10_800)
    assert prow.decode(data).size == (120, 90)
    monkeypatch.setattr("prow.inspection.Limits", lambda: Limits(10_800))
    assert prow.inspect(data).tokens_per_pass is None
    with pytest.raises(prow.LimitError, match="units of work"):
        prow.inspect(data, tokens=True)
    with pytest.raises(prow.LimitError) as caught:
        prow.decode(data, max_pixels=10_800)
    enough = int(re.findall(r"max_pixels=(\d+)", str(caught.value))[0])
    assert enough > 10_800


# -- encoders -------------------------------------------------------------------------------------------------------


def test_encoders_refuse_before_they_read(installed: None, draw: Draw, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(draw(40, 30)).save(path)
    path.write_bytes(path.read_bytes()[:60])  # the size, and no pixels
    for picture in (path, Image.fromarray(draw(40, 30)), draw(40, 30)):
        for work_ in (prow.encode, prow.tokenize, lambda p, **more: prow.encode_many([p], **more)):
            with pytest.raises(prow.LimitError, match="40 x 30 px are 1,200 pixels, the limit is 1,199"):
                work_(picture, bytes=60, max_pixels=1199)
    assert len(prow.encode(draw(40, 30), bytes=60, max_pixels=1200)) == 60


@pytest.mark.parametrize("most", [0, -1, 2.5, float("nan"), None, True, "9"])
def test_max_pixels_is_a_whole_number(installed: None, draw: Draw, most: object) -> None:
    data = prow.encode(draw(20, 20), bytes=60)
    for work_ in (
        lambda: prow.decode(data, max_pixels=most),  # type: ignore[arg-type]
        lambda: prow.decode_many([data], max_pixels=most),  # type: ignore[arg-type]
        lambda: prow.encode(draw(20, 20), bytes=60, max_pixels=most),  # type: ignore[arg-type]
        lambda: prow.encode_many([], max_pixels=most),  # type: ignore[arg-type]
    ):
        with pytest.raises(prow.InputError, match=r"max_pixels .* came, wanted a whole number of at least 1"):
            work_()
    assert prow.decode(data, max_pixels=np.int32(400)).size == (20, 20)  # type: ignore[arg-type]
