"""`import prow.pillow`: Pillow, imageio and scikit-image open and save prow files."""

from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError

import prow
import prow.pillow
from prow.format import container

pytestmark = pytest.mark.usefixtures("installed")

SIZE = (64, 48)


@pytest.fixture
def photo() -> Image.Image:
    return Image.fromarray(draw_picture(*SIZE))


@pytest.fixture
def data(photo: Image.Image) -> bytes:
    return prow.encode(photo, bytes=300)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def damaged(data: bytes) -> bytes:
    return data[:150] + bytes([data[150] ^ 4]) + data[151:]


# -- open ---------------------------------------------------------------------------------------------------------


def test_files_and_bytes_open(data: bytes, tmp_path: Path) -> None:
    path, wanted = tmp_path / "a.prow", prow.decode(data)
    path.write_bytes(data)
    for source in (path, str(path), io.BytesIO(data)):
        with Image.open(source) as image:
            assert (image.format, image.size, image.mode) == ("PROW", SIZE, "RGB")
            assert image.get_format_mimetype() == "image/x-prow"
            assert np.array_equal(image, wanted)
            image.load()  # again
    with path.open("rb") as file, Image.open(file) as image:
        assert np.array_equal(image, wanted) and not file.closed


def test_the_name_of_a_file_does_not_matter(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PROW"


def test_opening_decodes_nothing(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    image = opened(data)
    monkeypatch.setattr(prow.pillow, "decode", lambda *_, **__: pytest.fail("decoded"))
    assert image.size == SIZE
    assert image.info == {"version": 1, "model": "toy", "bytes": 300, "state": "whole"}
    image.verify()


def test_a_cut_file_loads_as_far_as_it_goes(data: bytes) -> None:
    image = opened(data[:120])
    assert (image.info["state"], image.info["bytes"]) == ("cut", 120)
    assert np.array_equal(image, prow.decode(data[:120]))
    opened(data[:120]).verify()


def test_a_damaged_file_is_refused_by_load_and_verify(data: bytes) -> None:
    assert opened(damaged(data)).info["state"] == "whole"  # nobody has looked yet
    for work in (Image.Image.load, Image.Image.verify):
        with pytest.raises(OSError, match="CRC") as caught:
            getattr(opened(damaged(data)), work.__name__)()
        assert isinstance(caught.value.__cause__, prow.DamagedError)


@pytest.mark.parametrize("n", [2, 3, 11])
def test_a_cut_header_is_no_picture(data: bytes, n: int) -> None:
    with pytest.warns(UserWarning, match="truncated header"), pytest.raises(UnidentifiedImageError):
        opened(data[:n])


def test_other_versions_are_no_pictures(data: bytes) -> None:
    newer = data[:2] + bytes([data[2] ^ 3 << 5]) + data[3:]
    with pytest.warns(UserWarning, match="version: 2 came, 1 wanted"), pytest.raises(UnidentifiedImageError):
        opened(newer)


def test_bare_data_is_no_picture_for_pillow(photo: Image.Image) -> None:
    with pytest.raises(UnidentifiedImageError):
        opened(prow.encode(photo, bytes=60, profile="bare"))


def test_a_model_that_is_not_installed_opens_and_does_not_load() -> None:
    image = opened(container.pack(b"tokens", width=64, height=48, model_id=77))
    assert (image.size, image.info["model"]) == (SIZE, None)
    assert image.draft("RGB", (8, 8)) is None  # type: ignore[func-returns-value]
    with pytest.raises(OSError, match="model id 77"):
        image.load()


def test_pillow_guards_its_own_limit_of_pixels() -> None:
    with pytest.raises(Image.DecompressionBombError):
        opened(container.pack(b"tokens", width=65_535, height=65_535, model_id=120))


def test_pictures_are_as_others_afterwards(data: bytes) -> None:
    image, wanted = opened(data), prow.decode(data)
    assert np.array_equal(copy.copy(image), wanted)
    assert np.array_equal(pickle.loads(pickle.dumps(image)), wanted)
    assert np.array_equal(opened(data).convert("L"), wanted.convert("L"))
    assert np.array_equal(opened(data).crop((3, 4, 30, 20)), wanted.crop((3, 4, 30, 20)))
    image.putpixel((0, 0), (1, 2, 3))
    assert image.getpixel((0, 0)) == (1, 2, 3)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 320), st.integers(0, 255)), max_size=4), n=st.integers(0, 321))
@pytest.mark.filterwarnings("ignore")
def test_broken_files_raise_what_pillow_raises(data: bytes, flips: list[tuple[int, int]], n: int) -> None:
    content = bytearray(container.add_extras(data, {"EXIF": b"broken", "XMP ": b"x"}))
    for at, value in flips:
        content[at % len(content)] = value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # a broken size must not eat the memory
        try:
            image = opened(bytes(content[:n]))
            image.draft(None, (20, 20))
            image.load()
        except (OSError, Image.DecompressionBombError):
            return
    assert image.mode in ("L", "LA", "RGB", "RGBA")


# -- smaller pictures ---------------------------------------------------------------------------------------------


def test_octaves_halve_the_picture(data: bytes) -> None:
    sizes = [prow.decode(data, octaves=n).size for n in range(4)]
    assert sizes == [(64, 48), (32, 24), (16, 12), (8, 6)]
    odd = prow.encode(draw_picture(61, 45), bytes=300)
    assert [prow.decode(odd, octaves=n).size for n in range(4)] == [(61, 45), (31, 23), (16, 12), (8, 6)]
    assert np.array_equal(prow.decode(data, octaves=0), prow.decode(data))


@pytest.mark.parametrize("octaves", [-1, 4, 1.0, True, "1"])
def test_octaves_that_a_picture_does_not_have(data: bytes, octaves: object) -> None:
    with pytest.raises(prow.InputError, match="octaves .* came, wanted a whole number from 0 to 3 for 64 x 48 px"):
        prow.decode(data, octaves=octaves)  # type: ignore[arg-type]


def test_vivid_is_for_full_resolution(data: bytes) -> None:
    with pytest.raises(prow.InputError, match="octaves 1 came with style 'vivid'"):
        prow.decode(data, octaves=1, style="vivid")


def test_a_smaller_picture_shows_the_same(photo: Image.Image) -> None:
    data = prow.encode(photo, bytes=300, model="default")
    for octaves in (1, 2):
        small = np.asarray(prow.decode(data, octaves=octaves), float)
        wanted = np.asarray(photo.reduce(2**octaves), float)
        assert np.abs(small - wanted).mean() < 20


@pytest.mark.parametrize(
    ("wanted", "got"),
    [
        ((64, 48), None),
        ((33, 1), None),
        ((32, 24), (32, 24)),
        ((17, 12), (32, 24)),
        ((9, 2), (16, 12)),
        ((1, 1), (8, 6)),
    ],
)
def test_draft(data: bytes, wanted: tuple[int, int], got: tuple[int, int] | None) -> None:
    image = opened(data)
    answer = image.draft("RGB", wanted)  # type: ignore[func-returns-value]
    if got is None:
        assert answer is None and image.size == SIZE
        return
    assert answer == ("RGB", (0, 0, *got)) and image.size == got
    assert np.array_equal(image, prow.decode(data, octaves=(64 // got[0]).bit_length() - 1))
    assert image.draft("RGB", (1, 1)) is None  # type: ignore[func-returns-value]


def test_draft_of_an_odd_size_says_which_box_is_filled() -> None:
    image = opened(prow.encode(draw_picture(61, 45), bytes=300))
    assert image.draft(None, (16, 11)) == ("RGB", (0, 0, 15.25, 11.25))  # type: ignore[arg-type, func-returns-value]
    assert image.size == (16, 12)


def test_thumbnails(data: bytes) -> None:
    image = opened(data)
    image.thumbnail((8, 8))
    assert image.size == (8, 6)
    slow = opened(data)
    slow.thumbnail((8, 8), reducing_gap=None)
    assert slow.size == (8, 6)
    assert np.abs(np.asarray(image, float) - np.asarray(slow)).mean() < 30


# -- save ---------------------------------------------------------------------------------------------------------


def test_saves_what_encode_gives(photo: Image.Image, tmp_path: Path) -> None:
    options = [{"bytes": 200}, {"bpp": 0.5}, {"quality": 20}, {"psnr": 16}, {"bytes": 100, "profile": "bare"}, {}]
    for number, chosen in enumerate(options):
        path = tmp_path / f"{number}.prow"
        photo.save(path, **chosen)
        assert path.read_bytes() == prow.encode(photo, **chosen), chosen
    stream = io.BytesIO()
    photo.save(stream, "PROW", bytes=200, effort=1, model="toy")
    assert stream.getvalue() == prow.encode(photo, bytes=200, effort=1)


def test_round_trip(photo: Image.Image, tmp_path: Path) -> None:
    photo.save(tmp_path / "a.prow", bytes=300)
    with Image.open(tmp_path / "a.prow") as image:
        image.save(tmp_path / "b.prow", bytes=200)
    assert (tmp_path / "b.prow").stat().st_size == 200


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"bytes": 31}, prow.BudgetError, "31 bytes came"),
        ({"bytes": 99, "bpp": 1}, prow.InputError, "bytes and bpp came together"),
        ({"quality": 101}, prow.InputError, "101 came"),
        ({"bytes": 99, "model": "nobody"}, prow.ModelError, "'nobody' came"),
    ],
)
def test_a_failure_leaves_nothing(photo: Image.Image, tmp_path: Path, given: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        photo.save(tmp_path / "a.prow", **given)
    stream = io.BytesIO()
    with pytest.raises(error, match=words):
        photo.save(stream, "PROW", **given)
    assert os.listdir(tmp_path) == [] and stream.getvalue() == b""


def test_a_mode_that_prow_cannot_use_is_named(tmp_path: Path) -> None:
    with pytest.raises(prow.InputError, match="mode F"):
        Image.new("F", (20, 20)).save(tmp_path / "a.prow", bytes=99)


# -- others that go through Pillow --------------------------------------------------------------------------------


def test_imageio(data: bytes, tmp_path: Path) -> None:
    imageio = pytest.importorskip("imageio.v3")
    (tmp_path / "a.prow").write_bytes(data)
    wanted = np.asarray(prow.decode(data))
    assert np.array_equal(imageio.imread(tmp_path / "a.prow"), wanted)
    assert np.array_equal(imageio.imread(data, extension=".prow"), wanted)
    imageio.imwrite(tmp_path / "b.prow", wanted, bytes=200)
    assert (tmp_path / "b.prow").stat().st_size == 200


def test_scikit_image(data: bytes, tmp_path: Path) -> None:
    io_ = pytest.importorskip("skimage.io")
    (tmp_path / "a.prow").write_bytes(data)
    assert np.array_equal(io_.imread(tmp_path / "a.prow"), prow.decode(data))


def test_one_import_is_all_and_needs_no_torch(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.prow").write_bytes(data)
    work = "i = Image.open(sys.argv[1]); print(i.size, 'torch' in sys.modules)"
    code = f"import sys, prow.pillow; from PIL import Image; {work}"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.prow"], capture_output=True, env=env, timeout=120)
    assert done.stdout == b"(64, 48) False\n", done.stderr.decode()


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_the_mode_is_known_before_the_pixels(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(draw_picture(60, 44)).convert(mode)
    if mode.endswith("A"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(tmp_path / "a.prow", bytes=800)
    again = Image.open(tmp_path / "a.prow")
    assert again.mode == mode
    again.load()
    assert (again.mode, again.size) == (mode, (60, 44))
    again.convert("RGBA").save(tmp_path / "b.png")


def test_a_file_that_asks_for_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.prow"
    path.write_bytes(prow.encode(np.full((200, 300, 3), 90, np.uint8), bytes=60))
    monkeypatch.setattr("prow.format.limits._MOST_WORK", 1_000_000)
    with Image.open(path) as opened, pytest.raises(OSError, match="decoding takes"):
        opened.load()
