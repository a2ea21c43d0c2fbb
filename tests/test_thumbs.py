"""ThumbHash, BlurHash and the benchmark of previews: sizes, counts, where the pictures come from."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data as photos

thumbhash = pytest.importorskip("thumbhash")
pytest.importorskip("blurhash")
pytest.importorskip("matplotlib")
pytest.importorskip("bjontegaard")

from benchmarks import thumbs  # noqa: E402
from benchmarks.codecs import hashes  # noqa: E402
from benchmarks.codecs.families import family_codecs  # noqa: E402
from prow.training.data import find_sources, list_sources  # noqa: E402


@pytest.fixture
def photo() -> np.ndarray:
    """A photo of 90 x 60 px, [60, 90, 3]."""
    return np.asarray(Image.fromarray(photos.coffee()).resize((90, 60)))


def test_thumbhash_is_one_file(photo: np.ndarray) -> None:
    codec = hashes.ThumbHash()
    size = len(codec.code(photo, 1000)[0].data)
    assert codec.code(photo, size - 1) == []
    assert [len(file.data) for file in codec.code(photo, size)] == [size] == [21]
    square = codec.code(np.ascontiguousarray(photo[:, :60]), 1000)[0]
    assert (len(square.data), square.image.shape) == (24, (60, 60, 3))
    assert codec.code(photo, size)[0].image.shape == photo.shape


@pytest.mark.parametrize(("height", "width"), [(60, 60), (60, 90), (90, 60), (20, 90)])
def test_thumbhash_decoder(height: int, width: int) -> None:
    """Every pixel of the package's decoder is what its first pixel should be: that one must be ours, too."""
    picture = Image.fromarray(photos.coffee()).resize((width, height)).convert("RGBA")
    data = thumbhash.rgba_to_thumb_hash(width, height, list(picture.tobytes()))
    with contextlib.redirect_stdout(io.StringIO()):
        w, h, first = thumbhash.thumb_hash_to_rgba(data)
    decoded = hashes.decode_thumbhash(bytes(data))
    assert decoded.shape == (h, w, 3) and max(h, w) == 32
    assert decoded[0, 0].tolist() == first[:3]
    small = np.asarray(picture.convert("RGB").resize((w, h), Image.Resampling.BOX), float)
    error = np.abs(decoded - small).mean()
    assert error < np.abs(small.mean(axis=(0, 1)) - small).mean()  # better than the mean colour


def test_thumbhash_with_transparency_is_refused() -> None:
    data = bytes([0, 0, 0x80, 0, 0])  # the highest bit of the first three bytes
    with pytest.raises(ValueError, match="transparency came, wanted an opaque one"):
        hashes.decode_thumbhash(data)


def test_blurhash_takes_the_most_components_that_fit(photo: np.ndarray) -> None:
    codec = hashes.BlurHash()
    assert codec.code(photo, 21) == []
    for budget, components in ((22, [3, 3]), (35, [4, 3]), (36, [4, 4]), (165, [8, 8]), (1000, [9, 9])):
        (file,) = codec.code(photo, budget)
        assert file.setting == {"components": components}
        assert len(file.data) == hashes.blurhash_bytes(*components) <= budget
        assert file.image.shape == photo.shape
    assert codec.code(photo, 22)[0] is codec.code(photo, 27)[0]
    upright = np.ascontiguousarray(photo.swapaxes(0, 1))
    assert codec.code(upright, 28)[0].setting == {"components": [3, 4]}


def mosaic(value: int) -> bytes:
    """A picture of 3 x 2 thumbs, each of one colour."""
    pixels = np.zeros((128, 200, 3), np.uint8)  # 8 px at the right belong to no thumb
    for i in range(6):
        y, x = divmod(i, 3)
        pixels[64 * y : 64 * y + 64, 64 * x : 64 * x + 64] = (value, 40 * i, 0)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with a tar of a photo and two mosaics, and a later tar of photos alone."""
    folder = tmp_path / "data"
    folder.mkdir()
    members = {"a.tar": ("mosaic-000.png", "photo.png", "mosaic-001.png"), "b.tar": ("x.png",)}
    for name, pictures in members.items():
        with tarfile.open(folder / name, "w") as tar:
            for i, picture in enumerate(pictures):
                info = tarfile.TarInfo(picture)
                content = mosaic(i)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return folder


def test_thumbs_are_those_that_training_leaves_out(data: Path, tmp_path: Path) -> None:
    source = list_sources(data)[1][-1]
    assert source.name == "mosaic-001.png"
    assert [used.name for used in find_sources(data)[1]] == ["mosaic-000.png"]
    found = list(thumbs.thumbs(data))
    assert [thumb.getpixel((0, 0)) for thumb in found] == [(2, 40 * i, 0) for i in range(6)]
    assert {thumb.size for thumb in found} == {(64, 64)}
    assert len(list(thumbs.write_thumbs(data, tmp_path, 5).iterdir())) == 5
    names = sorted(path.name for path in thumbs.write_thumbs(data, tmp_path, 2).iterdir())
    assert names == [
        "thumb-000.png",
        "thumb-001.png",
    ]


def test_without_mosaics_the_middles_of_pictures(tmp_path: Path) -> None:
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, 90:210] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    (thumb,) = thumbs.thumbs(tmp_path)
    assert thumb.size == (64, 64) and np.asarray(thumb).min() == 255
    with pytest.raises(SystemExit, match="no images in .*: wanted files ending in .png"):
        list(thumbs.thumbs(tmp_path / "none"))


def test_benchmark_of_thumbs(tmp_path: Path, capsys) -> None:
    Image.fromarray(photos.coffee()).save(tmp_path / "photo.png")
    family_codecs.cache_clear()
    codecs = "prow-bare,webp,thumbhash,blurhash"
    options = ["--codecs", codecs, "--budgets", "24,64,256", "--out", str(tmp_path / "out"), "--count", "3"]
    thumbs.main(["--data", str(tmp_path), *options])
    results = json.loads((tmp_path / "out" / "rd.json").read_text())
    assert results["corpus"]["images"] == 1 and results["metrics"] == ["psnr"]
    reached = {c: [cell["reached"] for cell in s.values()] for c, s in results["summary"].items()}
    assert reached == {
        "prow-bare": [1, 1, 1],
        "webp": [0, 0, 1],
        "webp-scaled": [0, 1, 1],
        "thumbhash": [1, 1, 1],
        "blurhash": [1, 1, 1],
    }
    assert [cell["psnr"]["bytes"] for cell in results["summary"]["prow-bare"].values()] == [24, 64, 256]
    assert [cell["psnr"]["bytes"] for cell in results["summary"]["blurhash"].values()] == [22, 54, 166]
    assert "| prow, bare " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        thumbs.main(["--data", str(tmp_path), "--count", "0"])
    assert "--count is 0: must be 1 or more" in capsys.readouterr().err
