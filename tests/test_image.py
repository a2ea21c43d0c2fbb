"""load_rgb: every accepted kind of picture with its exact RGB, every refused one with its message."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import skimage
from conftest import draw_picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

import prow
import prow.pillow
from prow.errors import InputError, ProwWarning
from prow.format.container import parse_extras
from prow.image import load_rgb, read_metadata, upright_srgb

ASTRONAUT = Path(skimage.__file__).parent / "data" / "astronaut.png"


def pil(mode: str, *pixels: object) -> Image.Image:
    """A picture one pixel high."""
    image = Image.new(mode, (len(pixels), 1))
    for x, pixel in enumerate(pixels):
        image.putpixel((x, 0), pixel)  # pyright: ignore[reportArgumentType]
    return image


def palette(mode: str = "P") -> Image.Image:
    """Indices 0 and 1 of a palette of orange and blue."""
    image = Image.new(mode, (2, 1))
    image.putpalette([255, 128, 0, 0, 0, 200])
    image.putpixel((1, 0), 1 if mode == "P" else (1, 51))
    return image


def keyed(image: Image.Image, key: object) -> Image.Image:
    """Name one colour of `image` transparent, as PNG and GIF readers do."""
    image.info["transparency"] = key
    return image


def row(*pixels: tuple[int, ...]) -> list[list[tuple[int, ...]]]:
    return [list(pixels)]


def grey(*samples: int) -> list[list[tuple[int, ...]]]:
    return [[(sample, sample, sample) for sample in samples]]


CONVERSIONS = {
    "RGB": (pil("RGB", (1, 2, 3), (254, 0, 9)), row((1, 2, 3), (254, 0, 9))),
    "L": (pil("L", 0, 77, 255), grey(0, 77, 255)),
    "1": (pil("1", 0, 1), grey(0, 255)),
    "P": (palette(), row((255, 128, 0), (0, 0, 200))),
    "CMYK": (pil("CMYK", (0, 0, 0, 0), (255, 0, 0, 0), (0, 0, 0, 255)), row((255,) * 3, (0, 255, 255), (0,) * 3)),
    "YCbCr": (pil("YCbCr", (128, 128, 128), (76, 85, 255)), row((128,) * 3, (254, 0, 0))),
    "HSV": (pil("HSV", (0, 0, 128), (85, 255, 255)), row((128,) * 3, (0, 255, 0))),
    # 255 * 51 / 255 + 204 = 255; 0 + 204; 100 * 51 / 255 + 204 = 224
    "RGBA": (pil("RGBA", (255, 0, 100, 51), (9, 9, 9, 0), (9, 8, 7, 255)), row((255, 204, 224), (255,) * 3, (9, 8, 7))),
    # (128 * 10 + 127 * 255) / 255 = 132.02; (1 * 10 + 254 * 255) / 255 = 254.04
    "LA": (pil("LA", (10, 128), (10, 1), (10, 255)), grey(132, 254, 10)),
    "PA": (palette("PA"), row((255,) * 3, (204, 204, 244))),
    "P with key": (keyed(palette(), 0), row((255,) * 3, (0, 0, 200))),
    "P with alpha": (keyed(palette(), bytes([255, 51])), row((255, 128, 0), (204, 204, 244))),
    "L with key": (keyed(pil("L", 7, 8), 7), grey(255, 8)),
    "RGB with key": (keyed(pil("RGB", (1, 2, 3), (1, 2, 4)), (1, 2, 3)), row((255,) * 3, (1, 2, 4))),
    # 128 / 257 = 0.498, 129 / 257 = 0.502, 385 / 257 = 1.498, 386 / 257 = 1.502
    "I;16": (pil("I;16", 0, 128, 129, 385, 386, 65_535), grey(0, 0, 1, 1, 2, 255)),
    "I;16B": (pil("I;16B", 0, 257, 1000, 65_535), grey(0, 1, 4, 255)),
    "I": (pil("I", 0, 128, 129, 65_406, 65_407, 65_535), grey(0, 0, 1, 254, 255, 255)),
}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_conversion(name: str) -> None:
    image, expected = CONVERSIONS[name]
    before = image.tobytes()
    rgb = load_rgb(image)
    assert rgb.dtype == np.uint8 and rgb.shape == (1, image.width, 3)
    np.testing.assert_array_equal(rgb, np.array(expected))
    assert image.tobytes() == before


def test_alpha_is_rounded_to_nearest() -> None:
    """All 65,536 pairs of sample and alpha, in exact integers: no error reaches half a step."""
    sample, alpha = np.meshgrid(np.arange(256), np.arange(256))
    rgb = load_rgb(Image.fromarray(np.stack([sample, alpha], axis=2).astype(np.uint8))).astype(int)
    exact = sample * alpha + 255 * (255 - alpha)
    assert (2 * np.abs(255 * rgb[:, :, 0] - exact) < 255).all()


def test_sixteen_bits_are_rounded_to_nearest() -> None:
    """All 65,536 samples, in exact integers."""
    samples = np.arange(65_536).reshape(256, 256)
    rgb = load_rgb(Image.fromarray(samples.astype(np.uint16))).astype(int)
    assert (2 * np.abs(257 * rgb[:, :, 0] - samples) < 257).all()


@pytest.mark.parametrize("as_path", [str, Path], ids=["str", "Path"])
def test_path_gives_the_pixels_of_the_file(as_path: type) -> None:
    rgb = load_rgb(as_path(ASTRONAUT))
    assert rgb.shape == (512, 512, 3)
    np.testing.assert_array_equal(rgb, np.asarray(Image.open(ASTRONAUT)))


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, [[1, 2, 3], [4, 5, 6]]),
        (2, [[3, 2, 1], [6, 5, 4]]),
        (3, [[6, 5, 4], [3, 2, 1]]),
        (6, [[4, 1], [5, 2], [6, 3]]),
        (8, [[3, 6], [2, 5], [1, 4]]),
    ],
)
def test_exif_orientation(tmp_path: Path, orientation: int, expected: list[list[int]]) -> None:
    image = Image.fromarray(np.array([[1, 2, 3], [4, 5, 6]], np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(load_rgb(tmp_path / "a.png")[:, :, 0], expected)
    with Image.open(tmp_path / "a.png") as opened:
        np.testing.assert_array_equal(load_rgb(opened)[:, :, 0], expected)


def test_sixteen_bit_png(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 386, 65_535]], np.uint16)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_rgb(tmp_path / "a.png")[0, :, 0], [0, 2, 255])


def test_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("L", (3, 2), value) for value in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert load_rgb(tmp_path / "a.gif").tolist() == [[[10, 10, 10]] * 3] * 2


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (1, 1), (1, 65_535)])
def test_arrays(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    rgb = load_rgb(array)
    assert rgb.shape == (*shape[:2], 3) and rgb.flags.c_contiguous
    for channel in range(3):
        expected = array if array.ndim == 2 else array[:, :, min(channel, shape[2] - 1)]
        np.testing.assert_array_equal(rgb[:, :, channel], expected)


def test_strided_array_becomes_contiguous() -> None:
    array = np.arange(90, dtype=np.uint8).reshape(5, 6, 3)[::2, ::-1]
    rgb = load_rgb(array)
    assert rgb.flags.c_contiguous
    np.testing.assert_array_equal(rgb, array)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 5, 3), np.float32), "an array of dtype float32 came, uint8 wanted"),
        (np.zeros((4, 5, 3), np.int64), "an array of dtype int64 came, uint8 wanted"),
        (np.zeros((4, 5, 5), np.uint8), "an array of shape [4, 5, 5] came, [H, W] or [H, W, 1 to 4] wanted"),
        (np.zeros((3,), np.uint8), "an array of shape [3] came"),
        (np.zeros((1, 4, 5, 3), np.uint8), "an array of shape [1, 4, 5, 3] came"),
        (np.zeros((0, 5), np.uint8), "5 x 0 px came (array), 1 to 65,535 px a side wanted"),
        (np.zeros((1, 65_536), np.uint8), "65536 x 1 px came (array)"),
        (Image.new("L", (1, 65_536)), "1 x 65536 px came (image)"),
        (Image.new("L", (0, 3)), "0 x 3 px came (image)"),
        (Image.new("F", (2, 2)), "cannot use the image mode F of image"),
        (Image.new("La", (2, 2)), "cannot use the image mode La of image"),
        (pil("I", -1, 65_535), "samples -1 to 65535 came in image, 0 to 65535 wanted"),
        (pil("I", 0, 65_536), "samples 0 to 65536 came in image, 0 to 65535 wanted"),
        (b"bytes", "not bytes"),
        (None, "not NoneType"),
        ([[1, 2]], "a PIL image, a numpy array or a path, not list"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused(image: object, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        load_rgb(image)  # pyright: ignore[reportArgumentType]


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(f"no such image: {tmp_path / 'none.png'}")):
        load_rgb(tmp_path / "none.png")


@pytest.mark.parametrize("kind", ["text", "empty", "half", "folder"])
def test_unreadable_file_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"{kind}.png"
    if kind == "folder":
        path.mkdir()
    else:
        content = {"text": b"no picture", "empty": b"", "half": ASTRONAUT.read_bytes()[:20_000]}
        path.write_bytes(content[kind])
    with pytest.raises(InputError, match=re.escape(f"cannot read the image {path}")):
        load_rgb(path)


def test_path_that_no_file_can_have() -> None:
    with pytest.raises(InputError, match="cannot read the image"):
        load_rgb("a\0b.png")


def test_too_many_pixels_for_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (30, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match="cannot read the image .*900 pixels"):
        load_rgb(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it repairs
@settings(deadline=None, max_examples=60)
@given(st.data())
def test_broken_pictures_raise_nothing_but_input_errors(tmp_path_factory: pytest.TempPathFactory, data) -> None:
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"]))
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((16, 16)).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "broken"
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)  # a broken size must not eat the memory
        try:
            rgb = load_rgb(path)
        except InputError:
            return
    assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3


# -- colour profiles ----------------------------------------------------------------------------------------------


def profile_bytes(profile: ImageCms.core.CmsProfile) -> bytes:
    return ImageCms.ImageCmsProfile(profile).tobytes()


def swapped_profile() -> bytes:
    """sRGB with its red and green primaries exchanged: a picture in it shows red where it says green."""
    content = bytearray(profile_bytes(ImageCms.createProfile("sRGB")))
    count = int.from_bytes(content[128:132], "big")
    for at in range(132, 132 + 12 * count, 12):
        if content[at : at + 4] in (b"rXYZ", b"gXYZ"):
            content[at : at + 1] = b"g" if content[at : at + 1] == b"r" else b"r"
    return bytes(content)


def with_profile(image: Image.Image, profile: bytes) -> Image.Image:
    image.info["icc_profile"] = profile
    return image


def test_a_colour_profile_is_applied(tmp_path: Path) -> None:
    colours = [(200, 30, 40), (10, 250, 90), (128, 128, 128)]
    wanted = np.array([[(30, 200, 40), (250, 10, 90), (128, 128, 128)]], int)
    image = with_profile(pil("RGB", *colours), swapped_profile())
    image.save(tmp_path / "a.png", icc_profile=swapped_profile())
    for same in (image, tmp_path / "a.png"):
        assert np.abs(load_rgb(same) - wanted).max() <= 2
    assert image.getpixel((0, 0)) == colours[0] and "icc_profile" in image.info  # the one given is as it was


def test_pixels_that_are_srgb_stay_as_they_are() -> None:
    image = with_profile(
        pil("RGB", *((i, 255 - i, i // 2) for i in range(256))), profile_bytes(ImageCms.createProfile("sRGB"))
    )
    np.testing.assert_array_equal(load_rgb(image), np.asarray(image))


def test_profiles_go_before_alpha_palettes_and_grey() -> None:
    profile, green = swapped_profile(), (30, 200, 40)
    rgba = with_profile(pil("RGBA", (200, 30, 40, 255), (200, 30, 40, 0)), profile)
    assert np.abs(load_rgb(rgba)[0] - np.array([green, (255,) * 3], int)).max() <= 2
    plain = upright_srgb(with_profile(palette(), profile))
    assert plain.mode == "RGB" and np.abs(np.asarray(plain)[0, 0] - np.array([128, 255, 0], int)).max() <= 2
    key = upright_srgb(with_profile(keyed(palette(), 0), profile))
    assert key.mode == "RGBA" and np.asarray(key)[0, :, 3].tolist() == [0, 255]
    for mode, pixel in (("L", 77), ("LA", (77, 9))):
        grey = upright_srgb(with_profile(pil(mode, pixel), profile))
        assert grey.mode == mode and np.abs(np.asarray(grey, int).ravel() - np.ravel(pixel)).max() <= 1


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (with_profile(pil("RGB", (1, 2, 3)), b"no profile"), "its colour profile is left out: "),
        (with_profile(pil("RGB", (1, 2, 3)), swapped_profile()[:300]), "its colour profile is left out: "),
        (with_profile(pil("I;16", 257), swapped_profile()), "it is one for RGB, the picture has the mode I;16"),
        (
            with_profile(pil("CMYK", (0, 0, 0, 0)), swapped_profile()),
            "it is one for RGB, the picture has the mode CMYK",
        ),
    ],
)
def test_a_profile_that_cannot_be_used_is_left_out(image: Image.Image, why: str) -> None:
    with pytest.warns(ProwWarning, match=why):
        rgb = load_rgb(image)
    plain = image.copy()
    del plain.info["icc_profile"]
    np.testing.assert_array_equal(rgb, load_rgb(plain))


# -- metadata -----------------------------------------------------------------------------------------------------


def tagged(path: Path) -> None:
    """A JPEG that lies on its side, with EXIF, XMP and a colour profile."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a drawn picture"
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6">words</a></x:xmpmeta>'
    Image.fromarray(draw_picture(64, 48)).save(path, exif=exif, xmp=xmp, icc_profile=swapped_profile())


def test_metadata_says_no_orientation_that_is_applied(tmp_path: Path) -> None:
    tagged(tmp_path / "a.jpg")
    kept = read_metadata(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        assert read_metadata(image) == kept
    exif = Image.Exif()
    exif.load(kept["EXIF"])
    assert dict(exif) == {0x010E: "a drawn picture"}
    assert b"words" in kept["XMP "] and b"Orientation" not in kept["XMP "]
    assert kept["ICCP"] == swapped_profile()
    assert read_metadata(np.zeros((4, 4, 3), np.uint8)) == read_metadata(Image.new("L", (3, 3))) == {}


def test_kept_metadata_comes_back(tmp_path: Path, installed: None) -> None:
    tagged(tmp_path / "a.jpg")
    plain = prow.encode(tmp_path / "a.jpg", bytes=300)
    data = prow.encode(tmp_path / "a.jpg", bytes=300, keep_metadata=True)
    kept = read_metadata(tmp_path / "a.jpg")
    assert len(plain) == 300 and data.startswith(plain) and parse_extras(data) == kept
    assert prow.truncate(data, 300) == plain and prow.inspect(plain).extras == {}
    assert prow.inspect(data).extras == {tag: len(content) for tag, content in kept.items()}
    image = Image.open(io.BytesIO(data))
    assert (image.info["exif"], image.info["xmp"]) == (kept["EXIF"], kept["XMP "])
    assert image.info["original_icc_profile"] == kept["ICCP"] and "icc_profile" not in image.info
    assert image.getexif()[0x010E] == "a drawn picture" and image.size == (48, 64)
    assert np.array_equal(load_rgb(image), prow.decode(plain))


def test_the_bare_profile_keeps_no_metadata(installed: None) -> None:
    with pytest.raises(InputError, match="keep_metadata came with the bare profile"):
        prow.encode(np.zeros((4, 4, 3), np.uint8), bytes=50, profile="bare", keep_metadata=True)
