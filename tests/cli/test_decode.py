"""`prow decode`: formats, files that are cut or damaged, what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import prow
from prow.format import container

from .conftest import INPUTS, SIZE, assert_fails, names, run


def test_gives_what_the_library_gives(whole: bytes) -> None:
    assert run("decode photo.prow out.png").output == ""
    image = Image.open("out.png")
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", SIZE)
    assert image.tobytes() == prow.decode(whole).tobytes()


@pytest.mark.parametrize(("suffix", "kind"), [(".jpg", "JPEG"), (".JPEG", "JPEG"), (".webp", "WEBP"), (".bmp", "BMP")])
def test_the_suffix_chooses_the_format(suffix: str, kind: str) -> None:
    run(f"decode photo.prow out{suffix}")
    assert Image.open(f"out{suffix}").format == kind


@pytest.mark.parametrize(("out", "word"), [("out.xyz", "'.xyz'"), ("out", "missing suffix"), ("out.prow", "'.prow'")])
def test_an_unknown_suffix_is_wrong_usage(out: str, word: str) -> None:
    assert_fails(f"decode photo.prow {out}", 2, word)
    assert names() == INPUTS


def test_a_cut_file(whole: bytes) -> None:
    Path("cut.prow").write_bytes(whole[:200])
    remark = f"prow: cut.prow is cut: 200 of {len(whole):,} bytes; decoded what is there\n"
    assert run("decode cut.prow out.png").output == remark
    assert Image.open("out.png").size == SIZE


def test_a_damaged_file(whole: bytes) -> None:
    Path("damaged.prow").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert_fails("decode damaged.prow out.png", 1, "damaged.prow", "--allow-damaged")
    assert not Path("out.png").exists()
    remark = "prow: damaged.prow is damaged: its checksum is wrong; decoded all the same\n"
    assert run("decode damaged.prow out.png --allow-damaged").output == remark
    assert Image.open("out.png").size == SIZE


def test_a_model_that_is_not_installed(whole: bytes) -> None:
    header, payload, _ = container.parse(whole)
    Path("new.prow").write_bytes(container.pack(payload, width=header.width, height=header.height, model_id=200))
    assert_fails("decode new.prow out.png", 1, "new.prow", "200", "prow-small")
    assert "not installed (id 200)" in run("info new.prow").stdout


def test_a_picture_that_the_format_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prow, "decode", lambda data, **options: Image.new("RGB", (20_000, 1)))
    assert_fails("decode photo.prow out.webp", 1, "WEBP", "20000 x 1 px")
    assert names() == INPUTS


def test_alpha_is_kept_where_the_format_can_hold_it(draw: Callable[..., np.ndarray]) -> None:
    image = Image.fromarray(draw(40, 30))
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save("see.png")
    assert run("encode see.png see.prow --bytes 500").exit_code == 0
    assert "picture   40 x 30 px, RGBA" in run("info see.prow").stdout
    assert run("decode see.prow again.png").exit_code == 0 and Image.open("again.png").mode == "RGBA"
    onto_white = run("decode see.prow again.jpg")
    assert onto_white.exit_code == 0 and Image.open("again.jpg").mode == "RGB"
    assert onto_white.stderr == "prow: see.prow has alpha, which JPEG cannot hold: put on white\n"


def test_format_and_device() -> None:
    assert run("decode photo.prow - --format jpg --device cpu").stdout_bytes.startswith(b"\xff\xd8\xff")
    assert run("decode photo.prow picture --format PNG").output == ""
    assert Image.open("picture").format == "PNG"
    assert_fails("decode photo.prow out.png --device abacus", 1, "abacus")
    assert_fails("decode photo.prow out.png --format prow", 2, "--format prow")


def test_quiet_leaves_out_remarks(whole: bytes) -> None:
    Path("cut.prow").write_bytes(whole[:200])
    assert run("decode cut.prow out.png --quiet").output == ""


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "avif", "tif", "ppm"])
def test_kept_metadata_goes_into_the_picture(draw: Callable[..., np.ndarray], suffix: str) -> None:
    exif, xmp = Image.Exif(), b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    exif[0x010E] = "a drawn picture"
    Image.fromarray(draw(40, 30)).save("with.webp", exif=exif, xmp=xmp)
    run("encode with.webp kept.prow --bytes 200 --keep-metadata")
    run(f"decode kept.prow out.{suffix}")
    with Image.open(f"out.{suffix}") as image:
        assert image.getexif().get(0x010E) == (None if suffix == "ppm" else "a drawn picture")
        found = image.info.get("xmp")
        assert found is None if suffix in ("tif", "ppm") else bytes(found).strip(b"\0") == xmp
        assert "icc_profile" not in image.info
    Path("cut.prow").write_bytes(Path("kept.prow").read_bytes()[:200])
    run(f"decode cut.prow plain.{suffix}")
    with Image.open(f"plain.{suffix}") as image:
        assert not image.getexif().get(0x010E) and "xmp" not in image.info


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "avif", "tif"])
@pytest.mark.parametrize(
    "chunk", [{"EXIF": b"garbage"}, {"EXIF": b"II*\0\x08\0\0\0\xff\xff\1"}, {"XMP ": b"\xff" * 70_000}]
)
def test_broken_metadata_stops_no_decode(whole: bytes, chunk: dict[str, bytes], suffix: str) -> None:
    """At worst it is left out, with a remark."""
    Path("a.prow").write_bytes(container.add_extras(whole, chunk))
    done = run(f"decode a.prow a.{suffix}")
    assert done.exit_code == 0 and done.stderr in (
        "",
        f"prow: a.prow keeps metadata that {Image.registered_extensions()[f'.{suffix}']} cannot hold: left out\n",
    )
    with Image.open(f"a.{suffix}") as image:
        assert image.size == prow.decode(whole).size
