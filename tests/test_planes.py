"""Grey pictures and pictures with alpha: each comes back in its own mode, and costs nothing where it is not there."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import draw_picture, psnr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

import prow
import prow.registry
from prow.api import read_tokens
from prow.coding.planes import mean, merge, split
from prow.entropy.writer import ALPHA, GREY
from prow.format.geometry import passes
from prow.image import load_pixels, load_rgb

pytestmark = pytest.mark.usefixtures("installed")
WIDTH, HEIGHT = 70, 46
MODES = ("L", "LA", "RGB", "RGBA")


def draw(mode: str, seed: int = 0) -> Image.Image:
    """A drawn picture; with alpha, a disc of it."""
    picture = Image.fromarray(draw_picture(WIDTH, HEIGHT, seed)).convert(mode.rstrip("A"))
    if mode.endswith("A"):
        alpha = Image.new("L", picture.size, 0)
        ImageDraw.Draw(alpha).ellipse((10, 5, 55, 40), fill=255)
        picture.putalpha(alpha)
    return picture


def alpha_of(image: Image.Image) -> np.ndarray:
    return np.asarray(image.getchannel("A"), float)


# -- pictures in ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("LA", 2), ("RGB", 3), ("RGBA", 4), ("1", 1), ("CMYK", 3)])
def test_modes_have_their_channels(mode: str, channels: int) -> None:
    image = draw(mode) if mode in MODES else draw("RGB").convert(mode)
    assert load_pixels(image).shape == (HEIGHT, WIDTH, channels)
    assert load_rgb(image).shape == (HEIGHT, WIDTH, 3)


def test_palettes_with_a_transparent_colour_have_alpha(tmp_path) -> None:
    image = draw("RGB").quantize(16)
    image.save(tmp_path / "a.png", transparency=3)
    pixels = load_pixels(tmp_path / "a.png")
    assert pixels.shape[2] == 4 and set(np.unique(pixels[:, :, 3])) == {0, 255}


def test_arrays_of_one_to_four_channels_come_in() -> None:
    for channels in (1, 2, 3, 4):
        array = np.zeros((5, 7, channels), np.uint8)
        assert load_pixels(array).shape == (5, 7, channels)
    with pytest.raises(prow.InputError, match=r"\[5, 7, 5\] came, \[H, W\] or \[H, W, 1 to 4\] wanted"):
        load_pixels(np.zeros((5, 7, 5), np.uint8))


# -- planes --------------------------------------------------------------------------------------------------------


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_planes_come_together_again(channels: int, width: int, height: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    pixels[0, 0, -1] = 7  # not opaque
    colour, grey, alpha = split(pixels)
    assert colour.shape == (height, width, 3) and (alpha is None) == (channels % 2 == 1)
    again = merge(mean(colour) if grey else colour, None if alpha is None else mean(alpha))
    assert again.shape == pixels.shape
    seen = np.ones((height, width), bool) if channels % 2 else pixels[:, :, -1] > 0
    assert np.array_equal(again[seen], pixels[seen])
    if alpha is not None:
        assert np.array_equal(again[:, :, -1], pixels[:, :, -1])


def test_colour_that_is_not_seen_is_like_that_around_it() -> None:
    pixels = np.full((20, 33, 4), 200, np.uint8)
    pixels[4:15, 6:29] = (255, 0, 9, 0)
    colour, _, _ = split(pixels)
    assert np.ptp(colour) == 0 and colour[0, 0, 0] == 200


def test_a_picture_of_which_nothing_is_seen_can_be_coded() -> None:
    data = prow.encode(np.zeros((30, 20, 4), np.uint8), bytes=200)
    assert alpha_of(prow.decode(data)).mean() < 40


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_comes_back_in_its_mode(mode: str) -> None:
    image = draw(mode)
    data = prow.encode(image, bytes=900)
    decoded = prow.decode(data)
    assert len(data) == 900 and decoded.mode == mode == prow.inspect(data).mode
    assert psnr(np.asarray(image.convert(mode.rstrip("A")), float), decoded.convert(mode.rstrip("A"))) > 12
    if mode.endswith("A"):
        assert psnr(alpha_of(image), decoded.getchannel("A")) > 15


def test_a_short_prefix_is_opaque_and_a_longer_one_is_not() -> None:
    data, alpha = prow.encode(draw("RGBA"), bytes=1200), alpha_of(draw("RGBA"))
    modes, errors = [], []
    for n in range(12, 1201, 27):
        decoded = prow.decode(data[:n])
        modes.append(decoded.mode)
        assert prow.inspect(data[:n], tokens=True).mode == decoded.mode
        errors += [psnr(alpha, decoded.getchannel("A"))] if decoded.mode == "RGBA" else []
    assert modes == sorted(modes) and modes[0] == "RGB" and modes[-1] == "RGBA"
    assert errors[-1] > errors[0] + 3


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_an_opaque_alpha_costs_nothing(mode: str) -> None:
    image, opaque = draw(mode), draw(mode)
    opaque.putalpha(255)
    assert prow.encode(opaque, bytes=500) == prow.encode(image, bytes=500)
    for frequencies in (ALPHA, GREY):  # of a picture that has neither
        assert -math.log2(frequencies[0] / frequencies.sum()) < 0.03


def test_grey_has_no_chroma_and_alpha_neither() -> None:
    tokens, config = read_tokens(prow.encode(draw("LA"), bytes=900)), prow.registry.load("toy").config
    order = prow.registry.load("toy").tables.order
    assert tokens.grey and tokens.alpha is not None
    for pass_, *parts in zip(passes(WIDTH, HEIGHT, config), tokens.passes, tokens.alpha, strict=True):
        for part in parts:
            assert not part.values[:, order[pass_.kind] >= config.tile**2].any()


def test_grey_is_no_worse_than_the_same_picture_as_colour() -> None:
    """With the same number of bytes: nothing is spent on chroma."""
    grey = draw("L", 3)
    gains = []
    for size in (150, 400, 900):
        as_grey, as_colour = (prow.decode(prow.encode(image, bytes=size)) for image in (grey, grey.convert("RGB")))
        assert as_grey.mode == "L"
        gains.append(psnr(np.asarray(grey, float), as_grey) - psnr(np.asarray(grey, float), as_colour.convert("L")))
    assert np.mean(gains) > -0.1


@pytest.mark.parametrize("options", [{"quality": 40}, {"bpp": 1.5}, {"bytes": 300, "profile": "bare"}])
def test_all_ways_of_asking_keep_the_mode(options: dict) -> None:
    assert prow.decode(prow.encode(draw("RGBA"), **options)).mode == "RGBA"


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_more_effort_keeps_the_mode(mode: str) -> None:
    data = prow.encode(draw(mode), bytes=700, effort=6)
    assert len(data) == 700 and prow.decode(data).mode == mode


def test_many_of_all_modes_are_those_of_one_at_a_time() -> None:
    images = [draw(mode, seed) for seed in (0, 1) for mode in MODES]
    files = prow.encode_many(images, bytes=600)
    assert [len(data) for data in files] == [600] * 8
    decoded = prow.decode_many(files)
    assert [image.mode for image in decoded] == [image.mode for image in images]
    for data, image in zip(files, decoded, strict=True):
        difference = np.asarray(prow.decode(data), int) - np.asarray(image, int)
        assert np.abs(difference).max() <= 1


def test_tokens_with_alpha_go_through_detokenize() -> None:
    tokens = prow.tokenize(draw("LA"), bytes=700)
    assert prow.detokenize(tokens).mode == "LA"
    assert tokens.same_as(read_tokens(prow.encode(draw("LA"), bytes=700)))
