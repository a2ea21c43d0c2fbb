"""`prow progress`: an animation of a file's prefixes."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

import prow
from prow_cli.commands.progress import prefixes

from .conftest import INPUTS, SIZE, assert_fails, names, run


def described(image: Image.Image) -> str:
    """The text in an animation."""
    text = image.info.get("comment") or image.info.get("Description")
    text = text or image.getexif()[ExifTags.Base.ImageDescription]
    return text.decode() if isinstance(text, bytes) else text


@pytest.mark.parametrize("suffix", ["webp", "gif", "png"])
def test_frames_grow_to_the_whole_picture(whole: bytes, suffix: str) -> None:
    assert run(f"progress photo.prow -o grow.{suffix}").output == ""
    sizes = prefixes(whole)
    with Image.open(f"grow.{suffix}") as image:
        assert (image.size, image.format) == (SIZE, suffix.upper())
        assert getattr(image, "n_frames", 1) == len(sizes) == 10
        assert described(image) == f"made by prow of the first {', '.join(map(str, sizes))} bytes of a file"
        image.seek(9)
        last = np.asarray(image.convert("RGB"), float)
    error = np.abs(last - np.asarray(prow.decode(whole), float)).mean()
    assert error == 0 if suffix == "png" else error < 6


def test_prefixes_grow_by_a_factor(whole: bytes) -> None:
    sizes = prefixes(whole)
    assert (sizes[0], sizes[-1]) == (20, len(whole))
    factors = [b / a for a, b in itertools.pairwise(sizes)]
    assert max(factors) / min(factors) < 1.1
    assert prefixes(whole[:200])[-1] == 200
    assert prefixes(whole + b"more") == sizes


def test_a_tiny_file_has_fewer_frames() -> None:
    Path("tiny.prow").write_bytes(prow.truncate(Path("photo.prow").read_bytes(), 24))
    run("progress tiny.prow -o grow.png")
    assert Image.open("grow.png").size == SIZE


def test_what_is_refused(whole: bytes) -> None:
    assert_fails("progress photo.prow -o grow.mp4", 2, "grow.mp4", ".webp")
    assert_fails("progress photo.png -o grow.gif", 1, "photo.png", "PNG")
    Path("damaged.prow").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert_fails("progress damaged.prow -o grow.gif", 1, "damaged.prow", "the CRC is wrong")
    assert names() == {*INPUTS, "damaged.prow"}
