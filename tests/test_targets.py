"""Files for a PSNR or an MS-SSIM: the metrics, the search for a cut, and that a shorter file would miss."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import draw_picture
from PIL import Image
from skimage import data as photos

import prow
from prow import metrics
from prow.search.cuts import shortest

PHOTOS = ("astronaut", "coffee", "chelsea", "rocket", "immunohistochemistry")


def photo(name: str, width: int, height: int) -> np.ndarray:
    """A photo of scikit-image, made small: uint8 [height, width, 3]."""
    return np.asarray(Image.fromarray(getattr(photos, name)()).convert("RGB").resize((width, height)))


def noisy(pixels: np.ndarray, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, sigma, pixels.shape)
    return (pixels + noise).clip(0, 255).astype(np.uint8)


# -- metrics ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(161, 161), (241, 163), (257, 256), (350, 175), (176, 161)])
@pytest.mark.parametrize("sigma", [2, 30, 200])
def test_ms_ssim_is_that_of_pytorch_msssim(size: tuple[int, int], sigma: float) -> None:
    oracle, torch = pytest.importorskip("pytorch_msssim"), pytest.importorskip("torch")
    pixels = photo("astronaut", *size)
    other = noisy(pixels, sigma)
    a, b = (torch.from_numpy(x.copy()).permute(2, 0, 1)[None].float() for x in (pixels, other))
    wanted = float(oracle.ms_ssim(a, b, data_range=255))
    assert metrics.ms_ssim(pixels, other) == pytest.approx(wanted, abs=1e-4)
    grey = metrics.ms_ssim(pixels[..., 0], other[..., 0])
    assert grey == pytest.approx(float(oracle.ms_ssim(a[:, :1], b[:, :1], data_range=255)), abs=1e-4)


def test_metrics_of_equal_and_of_opposite_pictures() -> None:
    pixels = photo("coffee", 170, 165)
    assert metrics.psnr(pixels, pixels) == float("inf") and metrics.ms_ssim(pixels, pixels) == pytest.approx(1)
    assert metrics.psnr(np.zeros((2, 3), np.uint8), np.full((2, 3), 255, np.uint8)) == 0
    assert metrics.ms_ssim(pixels, 255 - pixels) == 0


def test_metrics_refuse_other_shapes_and_small_pictures() -> None:
    pixels = photo("coffee", 170, 165)
    for metric in (metrics.psnr, metrics.ms_ssim):
        with pytest.raises(prow.InputError, match=r"shapes \[165, 170, 3\] and \[160, 170, 3\] came"):
            metric(pixels, pixels[5:])
    with pytest.raises(prow.InputError, match="170 x 160 px came, MS-SSIM wants at least 161 px a side"):
        metrics.ms_ssim(pixels[5:], pixels[5:])


# -- the search ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first_good", [1, 31, 32, 33, 100, 101, 998, 999, 1000])
def test_the_shortest_cut_where_quality_grows(first_good: int) -> None:
    looked_at: list[int] = []

    def good(size: int) -> bool:
        looked_at.append(size)
        return size >= first_good

    assert shortest(32, 1000, good) == max(32, first_good)
    assert len(looked_at) == len(set(looked_at)) < 25
    assert min(looked_at) >= 32


def test_the_shortest_cut_where_quality_sinks_for_a_while() -> None:
    for hole in (range(497, 500), range(480, 500), range(470, 499)):
        assert shortest(32, 1000, lambda n: n >= 430 and n not in hole) == 430  # noqa: B023


def test_one_size_is_its_own_shortest_cut() -> None:
    assert shortest(20, 20, lambda n: pytest.fail("looked")) == 20


# -- files --------------------------------------------------------------------------------------------------------


def check(pixels: np.ndarray, name: str, wanted: float, **options: str) -> None:
    """The target is reached, and not by the file cut by 2 % (and a byte, where that is none)."""
    measure = getattr(metrics, name)
    data = prow.encode(pixels, **{name: wanted}, **options)  # type: ignore[arg-type]
    assert prow.inspect(data).state == "whole"
    assert measure(pixels, np.asarray(prow.decode(data))) >= wanted
    less = min(len(data) - 1, int(0.98 * len(data)))
    if less >= (16 if options.get("profile") == "bare" else 32):
        assert measure(pixels, np.asarray(prow.decode(data[:less]))) < wanted


@pytest.mark.parametrize("seed", range(12))
def test_psnr_of_drawn_pictures(installed: None, seed: int) -> None:
    check(draw_picture(40 + 3 * seed, 45 - seed, seed), "psnr", 14 + 1.5 * seed)


@pytest.mark.parametrize("name", PHOTOS)
def test_psnr_of_photos(name: str) -> None:
    check(photo(name, 96, 72), "psnr", 24)


@pytest.mark.parametrize(("name", "wanted"), [("astronaut", 0.7), ("coffee", 0.85), ("chelsea", 0.9)])
def test_ms_ssim_of_photos(name: str, wanted: float) -> None:
    check(photo(name, 176, 161), "ms_ssim", wanted)


def test_other_profiles_models_and_efforts(installed: None) -> None:
    pixels = draw_picture(50, 40)
    check(pixels, "psnr", 18, profile="bare")
    assert prow.inspect(prow.encode(pixels, psnr=18, profile="bare")).profile == "bare"
    data = prow.encode(pixels, psnr=18, effort=1)
    assert metrics.psnr(pixels, np.asarray(prow.decode(data))) >= 18


def test_the_smallest_file_where_little_is_wanted(installed: None) -> None:
    pixels = np.full((20, 30, 3), 128, np.uint8)
    assert len(prow.encode(pixels, psnr=5)) <= 32


def test_what_the_model_does_not_reach(installed: None) -> None:
    pixels = draw_picture(24, 24)
    with pytest.raises(prow.InputError, match=r"psnr 90 dB came, model toy reaches [\d.]+ dB at most") as caught:
        prow.encode(pixels, psnr=90)
    best = float(str(caught.value).split("reaches ")[1].split(" dB")[0])
    check(pixels, "psnr", best)


BAD = {
    "psnr 0": ({"psnr": 0}, "psnr 0 came, wanted a number of dB above 0"),
    "psnr nan": ({"psnr": float("nan")}, "psnr nan came"),
    "psnr yes": ({"psnr": True}, "psnr True came"),
    "psnr word": ({"psnr": "good"}, "psnr 'good' came"),
    "ms_ssim 0": ({"ms_ssim": 0}, "ms_ssim 0 came, wanted a number above 0 and at most 1"),
    "ms_ssim 2": ({"ms_ssim": 2}, "ms_ssim 2 came"),
    "both": ({"psnr": 30, "ms_ssim": 0.9}, "psnr and ms_ssim came together, wanted one of bytes, bpp, quality, psnr"),
    "and bytes": ({"psnr": 30, "bytes": 99}, "bytes and psnr came together"),
    "small": ({"ms_ssim": 0.9}, "40 x 30 px came, MS-SSIM wants at least 161 px a side"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_targets(installed: None, name: str) -> None:
    arguments, words = BAD[name]
    with pytest.raises(prow.InputError) as caught:
        prow.encode(draw_picture(40, 30), **arguments)
    assert words in str(caught.value)
