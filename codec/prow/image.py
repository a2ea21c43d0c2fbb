"""Pictures in: whatever the caller has becomes 8-bit grey or RGB, with alpha or without, by the rules below.

    path, PIL image  EXIF orientation is applied; of an animation the first frame
    colour profile   in 1 channel, RGB or CMYK: applied, pixels are sRGB then; else, or if it is broken: left out
    RGB              as it is
    1 L              grey
    P CMYK YCbCr HSV LAB   Pillow's conversion to RGB (CMYK with a profile: that of the profile)
    RGBA LA PA, or a transparent colour in 1 L P RGB   alpha is kept
    I;16 (any byte order), I with samples 0 to 65,535   grey: divided by 257, rounded to nearest
    numpy uint8      [H, W] and [H, W, 1] are grey; [H, W, 2] grey and alpha, [H, W, 3] RGB, [H, W, 4] RGB and alpha

Everything else is an InputError; so is a side outside 1 to 65,535 px.
"""

from __future__ import annotations

import io
import os
import struct
import warnings

import numpy as np
from PIL import Image, ImageCms, ImageOps

from .errors import InputError, ProwWarning
from .format.container import MAX_SIDE
from .format.limits import Limits

__all__ = ["ImageLike", "load_pixels", "load_rgb", "read_metadata", "remarks", "upright_srgb"]

ImageLike = Image.Image | np.ndarray | str | os.PathLike[str]

_CONVERTED_MODES = {"P", "CMYK", "YCbCr", "HSV", "LAB"}
_GREY_MODES = {"1", "L", "LA"}
_ALPHA_MODES = {"RGBA", "LA", "PA"}
_KEYED_MODES = {"1", "L", "P", "RGB"}  # may name one transparent colour, or alpha per palette entry
_PROFILED_MODES = {  # of pictures that a profile of a colour space is for, and as what they go through it
    "RGB": ("RGB", {"RGB", "RGBA", "P", "PA", "L", "LA"}),
    "GRAY": ("L", {"L", "LA"}),
    "CMYK": ("CMYK", {"CMYK"}),
}
_PILLOW_FAILURES = (  # what Pillow's readers raise on files that are missing, foreign, broken or huge
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    EOFError,
    OverflowError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
)


def load_rgb(image: ImageLike) -> np.ndarray:
    """As `load_pixels`, but always uint8 [H, W, 3]: grey three times, alpha composited over white."""
    pixels = load_pixels(image)
    channels = pixels.shape[2]
    colour = np.broadcast_to(pixels[:, :, :1], (*pixels.shape[:2], 3)) if channels < 3 else pixels[:, :, :3]
    return np.ascontiguousarray(colour) if channels % 2 else over_white(colour, pixels[:, :, -1:])


def load_pixels(image: ImageLike, limits: Limits | None = None) -> np.ndarray:
    """The picture as uint8 [H, W, C]: grey (1), grey and alpha (2), RGB (3), RGB and alpha (4).

    It may share memory with `image`, so do not write into it. `image` is a PIL image, a numpy array or a path. Raises
    InputError (see the rules at the top of this file), LimitError before the pixels of a picture beyond `limits` are
    read.
    """
    if isinstance(image, np.ndarray):
        if limits and image.ndim >= 2:
            limits.check_pixels(image.shape[1], image.shape[0])
        return _from_array(image)
    if isinstance(image, Image.Image):
        return _from_pil(image, "image", limits)
    if isinstance(image, str | os.PathLike):
        with _opened(image) as opened:
            return _from_pil(opened, os.fsdecode(image), limits)
    raise InputError(f"an image is a PIL image, a numpy array or a path, not {type(image).__name__}")


def read_metadata(image: ImageLike) -> dict[str, bytes]:
    """EXIF, XMP and ICC profile of a PIL image or of the file at a path, as chunks of extras ("EXIF", "XMP ", "ICCP").

    EXIF and XMP say no orientation but the usual one, since `load_rgb` applies it. An array has none of these. Raises
    as `load_rgb`.
    """
    if isinstance(image, np.ndarray):
        return {}
    if not isinstance(image, Image.Image):
        with _opened(image) as opened:
            return _metadata(opened, os.fsdecode(image))
    return _metadata(image, "image")


def _metadata(image: Image.Image, name: str) -> dict[str, bytes]:
    try:
        profile = image.info.get("icc_profile")
        upright = ImageOps.exif_transpose(image)
        known = (upright.info.get("exif"), upright.info.get("xmp"), profile)
    except _PILLOW_FAILURES as error:
        raise InputError(f"cannot read the metadata of the image {name}: {error}") from error
    chunks = zip(("EXIF", "XMP ", "ICCP"), known, strict=True)
    return {tag: content for tag, content in chunks if isinstance(content, bytes) and content}


def remarks(image: Image.Image) -> list[str]:
    """What of a picture does not go into a prow file by the rules above, in words; from its header alone."""
    said, profile = [], "icc_profile" in image.info
    if getattr(image, "n_frames", 1) > 1:
        said.append("an animation or several pages came: the first picture counts")
    if image.mode == "CMYK":
        said.append("CMYK came: converted to RGB" + (" through its colour profile" if profile else ""))
    if image.mode.startswith("I"):
        said.append("16 bits a sample came: scaled to 8 bits")
    if image.mode == "1":
        said.append("1 bit a sample came: black and white become 0 and 255")
    return said


def upright_srgb(image: Image.Image, name: str = "image") -> Image.Image:
    """A picture with its EXIF orientation and its colour profile applied; the one given is not changed.

    A profile that cannot be used is left out, with a ProwWarning: pixels are then as they are. `name` is for messages.
    Raises what Pillow raises on broken files.
    """
    image.load()
    upright = ImageOps.exif_transpose(image)
    content = upright.info.get("icc_profile")
    if not content:
        return upright
    try:
        return _to_srgb(upright, content)
    except (ImageCms.PyCMSError, ImportError, *_PILLOW_FAILURES) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        warnings.warn(f"{name}: its colour profile is left out: {why}", ProwWarning, stacklevel=2)
        return upright


def _to_srgb(image: Image.Image, content: bytes) -> Image.Image:
    """The picture with an ICC profile applied: L, LA, RGB or RGBA. One that is sRGB already, to 1/255, stays as it is.

    Raises ValueError if the profile is for other pictures, and what ImageCms raises.
    """
    profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
    space = str(getattr(profile.profile, "xcolor_space", "")).strip()
    plain_mode, modes = _PROFILED_MODES.get(space, ("", set()))
    if image.mode not in modes:
        raise ValueError(f"it is one for {space or 'no colours'}, the picture has the mode {image.mode}")
    srgb = ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(profile, srgb, plain_mode, "RGB")
    if plain_mode == "RGB" and _changes_nothing(transform):
        return image
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    result = ImageCms.applyTransform(image.convert(plain_mode), transform)
    assert result is not None  # only in place there is none
    if image.mode in ("L", "LA"):
        result = result.convert("L")
    if alpha is not None:
        result.putalpha(alpha)
    return result


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether a transform leaves 4,096 colours of all kinds as they are, to 1/255."""
    steps = np.linspace(0, 255, 16).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(64, 64, 3)
    result = ImageCms.applyTransform(Image.fromarray(colours), transform)
    return int(np.abs(np.asarray(result, int) - colours).max()) <= 1


def _opened(path: str | os.PathLike[str]) -> Image.Image:
    """The file as a PIL image, of which the header alone is read. Raises InputError that names the path."""
    name = os.fsdecode(path)
    try:
        return Image.open(path)
    except FileNotFoundError:
        raise InputError(f"no such image: {name}") from None
    except _PILLOW_FAILURES as error:
        raise InputError(f"cannot read the image {name}: {error}") from error


def _from_pil(image: Image.Image, name: str, limits: Limits | None) -> np.ndarray:
    """Convert by mode; uint8 [H, W, C]. `name` is for messages. The caller's image is not changed."""
    _check_sides(image.width, image.height, name)
    if limits:
        limits.check_pixels(image.width, image.height)
    try:
        upright = upright_srgb(image, name)
        if upright.mode.startswith("I"):
            return _from_16_bit(np.asarray(upright), name)
        if upright.mode in _ALPHA_MODES or (upright.mode in _KEYED_MODES and upright.has_transparency_data):
            return np.asarray(upright.convert("LA" if upright.mode in _GREY_MODES else "RGBA"))
        if upright.mode in _GREY_MODES:
            return np.asarray(upright.convert("L"))[:, :, None]
        if upright.mode == "RGB":
            return np.asarray(upright)
        if upright.mode in _CONVERTED_MODES:
            return np.asarray(upright.convert("RGB"))
    except _PILLOW_FAILURES as error:
        raise InputError(f"cannot read the image {name}: {error}") from error
    raise InputError(f"cannot use the image mode {upright.mode} of {name}; convert it to RGB first")


def _from_array(array: np.ndarray) -> np.ndarray:
    """uint8 [H, W] or [H, W, 1 to 4] to contiguous uint8 [H, W, C]."""
    if array.dtype != np.uint8:
        raise InputError(f"an array of dtype {array.dtype} came, uint8 wanted")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or not 1 <= array.shape[2] <= 4:
        raise InputError(f"an array of shape {list(array.shape)} came, [H, W] or [H, W, 1 to 4] wanted")
    _check_sides(array.shape[1], array.shape[0], "array")
    return np.ascontiguousarray(array)


def _from_16_bit(samples: np.ndarray, name: str) -> np.ndarray:
    """Grey samples 0 to 65,535 [H, W] to uint8 [H, W, 1]; 257 is odd, so no sample is a tie."""
    low, high = int(samples.min()), int(samples.max())
    if low < 0 or high > 0xFFFF:
        raise InputError(f"samples {low} to {high} came in {name}, 0 to 65535 wanted")
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)[:, :, None]


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Composite uint8 [H, W, C] with alpha [H, W, 1], not premultiplied, over white; each sample rounded to nearest."""
    share = alpha.astype(np.uint16)
    mixed = colour * share + 255 * (255 - share)  # at most 65,025, so 16 bits hold it
    return ((mixed + 127) // 255).astype(np.uint8)


def _check_sides(width: int, height: int, name: str) -> None:
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise InputError(f"{width} x {height} px came ({name}), 1 to {MAX_SIDE:,} px a side wanted")
