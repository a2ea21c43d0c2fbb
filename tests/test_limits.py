"""Bounded work: what a small file or picture can ask for, in pixels, work and memory."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import Draw
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_sequence import draw_tokens

import prow
from prow import registry
from prow.backends import onnx_backend, torch_backend
from prow.backends.onnx_backend import OnnxBackend
from prow.coding import codec as coding_codec
from prow.coding import enlarge
from prow.coding.codec import Codec
from prow.coding.planes import mean
from prow.coding.reconstruction import Reconstruction, filter_octaves, work
from prow.entropy.model import StreamSpec
from prow.entropy.reader import read
from prow.entropy.writer import write
from prow.format import container
from prow.format.geometry import levels as levels_of
from prow.format.limits import COARSE, DEFAULT_MAX_PIXELS, FULL_SIZE, LIGHT, SHOWN, Limits, Meter, memory_errors
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
    rng = np.random.default_rng(seed)
    picture = rng.uniform(0, 255, (1, 3, *_shape(width, height, kept))).astype(np.float32)
    ahead = rng.uniform(-9, 9, (1, 3, 2 * picture.shape[2], 2 * picture.shape[3])).astype(np.float32)
    levels = [pass_.level for pass_ in codec._plan(StreamSpec(width, height, toy_model).empty(30))]
    start = next(i for i, level in enumerate(levels) if (level.height, level.width) == picture.shape[2:])
    whole = picture
    for level in levels[start + 1 :]:
        whole = codec.backend.double(whole, ahead if level is levels[start + 1] else None, level)

    def source(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        assert rows.start % 2 == 0
        return picture[:, :, rows], ahead[:, :, 2 * rows.start : 2 * rows.stop]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enlarge, "_STRIP", strip)
        found, grey = (enlarge.enlarged(codec.backend, source, levels[start:], grey=grey) for grey in (False, True))
    assert np.array_equal(found, codec.backend.to_image(whole[0]))
    assert np.array_equal(grey, mean(found))


def _shape(width: int, height: int, kept: int) -> tuple[int, int]:
    """Height and width of one of the levels of a picture."""
    pyramid = levels_of(width, height, 8)
    level = pyramid[kept % len(pyramid)]
    return level.height, level.width


@pytest.mark.parametrize("side", [768, 30])
@pytest.mark.parametrize("on_torch", [False, True])
def test_images_are_those_of_the_floats(request: pytest.FixtureRequest, on_torch: bool, side: int) -> None:
    """All at once, and the last filter in blocks that overlap."""
    codec = request.getfixturevalue("codec") if on_torch else Codec(OnnxBackend(registry.load("prow-small")))
    with pytest.MonkeyPatch.context() as patch:
        for module in (onnx_backend, torch_backend, coding_codec):
            patch.setattr(module, "BLOCK", side)
        patch.setattr(enlarge, "_STRIP", side**2)
        for seed, share in ((1, 0.0), (2, 0.2), (3, 0.5), (4, 1.0)):
            tokens = draw_tokens(codec.model, seed, 150, 121, share=share)
            for octaves in (0, 1, 2):
                found, wanted = codec.images([tokens], octaves)[0], codec.decode(tokens, octaves)
                difference = found.astype(int) - codec.backend.to_image(wanted)
                assert np.abs(difference).max() <= 1 and np.abs(difference).mean() < 0.001


@pytest.mark.parametrize("name", ["anchor", "prow-small"])
def test_rows_are_those_of_the_whole(name: str, draw: Draw) -> None:
    codec = Codec(OnnxBackend(registry.load(name)))
    tokens = codec.encode(draw(75, 130), 32).tokens
    for index in (0, 2, 3):
        whole, parts = (Reconstruction(codec.backend, [32, 32], (0, 0)) for _ in range(2))
        for pictures in (whole, parts):
            for pass_, part in zip(StreamSpec(75, 130, codec.model).passes[: index + 1], tokens.passes, strict=False):
                pictures.predict(pass_)
                pictures.receive([part, part])
        wanted, height = whole.picture(), whole.picture().shape[2]
        for rows in (slice(0, 3), slice(2, height), slice(height // 4 * 2, height // 4 * 2 + 1)):
            found, ahead = parts.rows(1, rows)
            np.testing.assert_allclose(found[0], wanted[1, :, rows], atol=1e-3)
            again, ahead_again = whole.rows(1, rows)
            assert np.array_equal(again[0], wanted[1, :, rows])
            assert (ahead is None) == (ahead_again is None)
            if ahead is not None:
                np.testing.assert_allclose(ahead, ahead_again, atol=1e-3)


# -- work -----------------------------------------------------------------------------------------------------------


def test_work_counts_what_networks_see(toy_model: ModelFile) -> None:
    spec = StreamSpec(100, 60, toy_model)
    nothing, shown = spec.empty(30), SHOWN * 100 * 60
    assert work(nothing, spec) == shown
    some = draw_tokens(toy_model, 3, 100, 60, share=1)
    assert filter_octaves(some, spec)[0] == 0
    costs = [(FULL_SIZE if p.octaves == 0 else COARSE) * p.level.width * p.level.height for p in spec.passes]
    assert work(some, spec) == shown + sum(costs)
    coarse = sum(cost for cost, p in zip(costs, spec.passes, strict=True) if p.octaves >= 1)
    assert work(some, spec, octaves=1) == shown // 4 + coarse
    assert work(dataclasses.replace(some, alpha=some.passes), spec) == 2 * (shown + sum(costs))
    early = dataclasses.replace(some, passes=(*some.passes[:3], *nothing.passes[3:]))
    least, last = filter_octaves(early, spec)
    assert least < last == spec.passes[2].octaves
    light = sum(LIGHT * p.level.width * p.level.height for p in spec.passes[3:] if p.octaves >= max(1, least))
    assert work(early, spec) == shown + sum(costs[:3]) + light


def test_a_file_that_asks_for_too_much_says_what_would_be_enough(
    installed: None, toy_model: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many integers, and many pixels to paint: the limit is 30 ms."""
    monkeypatch.setattr("prow.format.limits._MOST_WORK", 30_000_000)
    spec = StreamSpec(120, 100, toy_model)
    tokens = spec.empty(30)
    for pass_, part in zip(spec.passes, tokens.passes, strict=True):
        part.counts[:] = toy_model.layout(pass_).last
        part.values[0, 0] = 1
    content, most, tries = write(tokens, toy_model), DEFAULT_MAX_PIXELS, 0
    data = container.pack(content, width=120, height=100, model_id=toy_model.config.model_id)
    while True:
        try:
            assert prow.decode(data, max_pixels=most).size == (120, 100)
            break
        except prow.LimitError as error:
            said = re.fullmatch(
                r"decoding takes ([\d.]+) s of two cores or more, the limit is ([\d.]+) s "
                r"\(max_pixels=(\d+), or --max-pixels, raises it\)",
                str(error),
            )
            assert said and tries < 60
            asked, limit, enough = float(said[1]), float(said[2]), int(said[3])
            assert asked >= limit == round(Limits(most).work / 1e9, 1) and enough > most
            most, tries = enough, tries + 1
    assert tries > 1 and Limits(most).work > work(tokens, spec)


def test_limits_on_reading(installed: None, toy_model: ModelFile, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = draw_tokens(toy_model, 5, 120, 90, share=1)
    content = write(tokens, toy_model)
    spec = StreamSpec(120, 90, toy_model)
    data = container.pack(content, width=120, height=90, model_id=toy_model.config.model_id)
    assert read(content, spec, meter=Meter(Limits())) == tokens == prow.api.read_tokens(data)
    monkeypatch.setattr("prow.format.limits._MOST_WORK", 1_000_000)  # 1,000 symbols
    with pytest.raises(prow.LimitError, match="decoding takes"):
        read(content, spec, meter=Meter(Limits()))
    with pytest.raises(prow.LimitError, match="decoding takes"):
        prow.api.read_tokens(data)
    assert prow.inspect(data).tokens_per_pass is None
    with pytest.raises(prow.LimitError, match="decoding takes"):
        prow.inspect(data, tokens=True)
    assert prow.api.read_tokens(data, max_pixels=2**40) == tokens


def test_a_smaller_limit_of_pixels_leaves_time_as_it_is() -> None:
    assert Limits(1).work == Limits().work == 10**10 and Limits(2**27).work == 2 * 10**10


def test_the_vivid_style_is_work_too(monkeypatch: pytest.MonkeyPatch, draw: Draw) -> None:
    data = prow.encode(draw(300, 200), bytes=32)
    monkeypatch.setattr("prow.format.limits._MOST_WORK", 40_000_000)
    prow.decode(data)
    with pytest.raises(prow.LimitError, match="decoding takes"):
        prow.decode(data, style="vivid")


def test_encoders_warn_of_files_that_decoders_refuse(monkeypatch: pytest.MonkeyPatch, draw: Draw) -> None:
    monkeypatch.setattr("prow.api._NEVER_TOO_MUCH", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prow.encode(draw(60, 40), bytes=300)
    monkeypatch.setattr("prow.format.limits._MOST_WORK", 1_000_000)
    with pytest.warns(prow.ProwWarning, match="decoders refuse this file unless .* --max-pixels") as caught:
        prow.encode(draw(60, 40), bytes=300)
        prow.encode_many([draw(60, 40)], bytes=300)
    assert [warning.filename for warning in caught] == [__file__] * 2


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
