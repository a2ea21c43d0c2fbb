"""`prow encode`: sizes, options, what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

import prow

from .conftest import FILE_BYTES, INPUTS, SIZE, assert_fails, names, run


def test_keeps_within_the_size() -> None:
    assert run("encode photo.png a.prow --bytes 0.3k").output == ""
    data = Path("a.prow").read_bytes()
    assert 291 <= len(data) <= 300
    assert (prow.inspect(data).width, prow.inspect(data).height) == SIZE


def test_gives_what_the_library_gives(whole: bytes) -> None:
    run(f"encode photo.png a.prow --bytes {FILE_BYTES}")
    assert Path("a.prow").read_bytes() == whole


def test_bpp_and_quality() -> None:
    run("encode photo.png bpp.prow --bpp 0.5")
    assert 186 <= Path("bpp.prow").stat().st_size <= 192  # 0.5 * 64 * 48 / 8
    for quality in (5, 60):
        run(f"encode photo.png {quality}.prow --quality {quality}")
    assert Path("5.prow").stat().st_size < Path("60.prow").stat().st_size


def test_bare_by_the_anchor() -> None:
    assert run("encode photo.png a.bin --bytes 80 --model anchor --profile bare --device cpu").output == ""
    facts = prow.inspect(Path("a.bin").read_bytes())
    assert (facts.profile, facts.model) == ("bare", "anchor")


@pytest.mark.parametrize("bad", ["", "--bytes 300 --bpp 1", "--quality 50 --bytes 300"])
def test_wants_exactly_one_size(bad: str) -> None:
    assert_fails(f"encode photo.png a.prow {bad}", 2, "exactly one of --bytes, --bpp, --quality, --psnr and --ms-ssim")
    assert names() == INPUTS


@pytest.mark.parametrize(
    "bad",
    [
        *("--bytes lots", "--bytes -1", "--bytes"),
        *("--bpp 0", "--bpp nan", "--bpp inf", "--quality 101", "--quality nan"),
        *("--bytes 300 --profile naked", "--bytes 300 --no-such-option"),
    ],
)
def test_wrong_usage(bad: str) -> None:
    assert_fails(f"encode photo.png a.prow {bad}", 2, "--help')")
    assert names() == INPUTS


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("--bytes 0", ("0", "32")),
        ("--bytes 31", ("31", "32")),
        ("--bytes 300 --model nobody", ("nobody", "anchor")),
        ("--bytes 300 --device abacus", ("abacus",)),
    ],
)
def test_arguments_that_the_library_refuses(bad: str, words: tuple[str, ...]) -> None:
    assert_fails(f"encode photo.png a.prow {bad}", 1, *words)
    assert names() == INPUTS


def test_what_is_no_picture() -> None:
    Path("text.png").write_text("no picture")
    assert_fails("encode text.png a.prow --bytes 300", 1, "text.png")
    assert_fails("encode none.png a.prow --bytes 300", 1, "none.png")
    assert_fails("encode - a.prow --bytes 300", 1, "standard input", "2 bytes", stdin=b"no")
    assert_fails("encode - a.prow --bytes 300", 1, stdin=Path("photo.png").read_bytes()[:2000])
    assert names() == {*INPUTS, "text.png"}


def test_says_when_nothing_is_left_to_say() -> None:
    Image.new("RGB", (8, 8), "navy").save("flat.png")
    assert run("encode flat.png flat.prow --bytes 50k").stderr == (
        f"prow: flat.prow has {Path('flat.prow').stat().st_size:,} of the 50,000 bytes asked for: "
        "the model has nothing left to say\n"
    )


# -- a quality that is asked for ----------------------------------------------------------------------------------


def test_psnr_gives_what_the_library_gives() -> None:
    assert run("encode photo.png a.prow --psnr 20").output == ""
    assert Path("a.prow").read_bytes() == prow.encode(Path("photo.png"), psnr=20)


def test_ms_ssim_of_a_small_picture_is_refused() -> None:
    assert_fails("encode photo.png a.prow --ms-ssim 0.9", 1, "64 x 48 px came", "161 px a side")
    assert names() == INPUTS


def test_a_psnr_out_of_reach_says_the_best_there_is() -> None:
    assert_fails("encode photo.png a.prow --psnr 99", 1, "psnr 99 dB came", "prow-small reaches", "at most")
    assert names() == INPUTS


@pytest.mark.parametrize("bad", ["--psnr 0", "--psnr nan", "--ms-ssim 1.1", "--ms-ssim 0"])
def test_wrong_targets(bad: str) -> None:
    assert_fails(f"encode photo.png a.prow {bad}", 2, "--help')")
    assert_fails("encode photo.png a.prow --psnr 20 --bytes 99", 2, "exactly one of")
    assert names() == INPUTS


# -- what gets lost -----------------------------------------------------------------------------------------------


def test_remarks_on_pictures_that_are_converted() -> None:
    cmyk, wide, bits = Image.new("CMYK", (20, 20)), Image.new("I;16", (20, 20)), Image.new("1", (20, 20))
    frames = [Image.new("L", (20, 20), grey) for grey in (0, 90, 200)]
    cmyk.save("cmyk.tif")
    wide.save("wide.png")
    bits.save("bits.png")
    frames[0].save("frames.gif", save_all=True, append_images=frames[1:])
    told = {
        "cmyk.tif": "CMYK came: converted to RGB",
        "wide.png": "16 bits a sample came: scaled to 8 bits",
        "bits.png": "1 bit a sample came: black and white become 0 and 255",
        "frames.gif": "an animation or several pages came: the first picture counts",
    }
    for name, remark in told.items():
        assert run(f"encode {name} - --quality 5").stderr == f"prow: {name}: {remark}\n"
    stdin = Path("wide.png").read_bytes()
    assert run("encode - - --quality 5", stdin).stderr == f"prow: standard input: {told['wide.png']}\n"


def test_a_broken_colour_profile_is_a_remark() -> None:
    Image.open("photo.png").save("broken.png", icc_profile=b"no profile")
    assert re.fullmatch(
        r"prow: broken.png: its colour profile is left out: [^\n]+\n",
        run("encode broken.png a.prow --bytes 300").stderr,
    )
    assert Path("a.prow").read_bytes() == prow.encode(Path("photo.png"), bytes=300)


def test_metadata_is_kept_beyond_the_size() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a drawn picture"
    Image.open("photo.png").save("with.png", exif=exif)
    run("encode with.png a.prow --bytes 300 --keep-metadata")
    run("encode with.png b.prow --bytes 300")
    kept, plain = Path("a.prow").read_bytes(), Path("b.prow").read_bytes()
    assert len(plain) == 300 and kept.startswith(plain) and len(kept) > 320
    assert f"EXIF {len(kept) - 308}\n" in run("info a.prow").stdout
    run("truncate a.prow c.prow --bytes 300")
    assert Path("c.prow").read_bytes() == plain
