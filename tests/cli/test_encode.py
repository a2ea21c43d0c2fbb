"""`prow encode`: sizes, options, what it refuses."""

from __future__ import annotations

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
    assert_fails(f"encode photo.png a.prow {bad}", 2, "exactly one of --bytes, --bpp and --quality")
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
