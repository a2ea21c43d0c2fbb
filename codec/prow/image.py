"""Pictures in: whatever the caller has becomes 8-bit grey or RGB, with alpha or without, by the rules below.

    path, PIL image  EXIF orientation is applied; of an animation the first frame; colour profiles are ignored
    RGB              as it is
    1 L              grey
    P CMYK YCbCr HSV LAB   Pillow's conversion to RGB
    RGBA LA PA, or a transparent colour in 1 L P RGB   alpha is kept
    I;16 (any byte order), I with samples 0 to 65,535   grey: divided by 257, rounded to nearest
    numpy uint8      [H, W] and [H, W, 1] are grey; [H, W, 2] grey and alpha, [H, W, 3] RGB, [H, W, 4] RGB and alpha

Everything else is an InputError; so is a side outside 1 to 65,535 px.
"""

from __future__ import annotations

import os
import struct

import numpy as np
from PIL import Image, ImageOps

from .errors import InputError
from .format.container import MAX_SIDE

__all__ = ["ImageLike", "load_pixels", "load_rgb"]

ImageLike = Image.Image | np.ndarray | str | os.PathLike[str]

_CONVERTED_MODES = {"P", "CMYK", "YCbCr", "HSV", "LAB"}
_GREY_MODES = {"1", "L", "LA"}
_ALPHA_MODES = {"RGBA", "LA", "PA"}
_KEYED_MODES = {"1", "L", "P", "RGB"}  # may name one transparent colour, or alpha per palette entry
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


def load_pixels(image: ImageLike) -> np.ndarray:
    """The picture as uint8 [H, W, C]: grey (1), grey and alpha (2), RGB (3), RGB and alpha (4).

    It may share memory with `image`, so do not write into it. `image` is a PIL image, a numpy array or a path. Raises
    InputError (see the rules at the top of this file).
    """
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, Image.Image):
        return _from_pil(image, "image")
    if isinstance(image, str | os.PathLike):
        return _from_path(image)
    raise InputError(f"an image is a PIL image, a numpy array or a path, not {type(image).__name__}")


def _from_path(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the file with Pillow; uint8 [H, W, C]. Raises InputError that names the path."""
    name = os.fsdecode(path)
    try:
        opened = Image.open(path)
    except FileNotFoundError:
        raise InputError(f"no such image: {name}") from None
    except _PILLOW_FAILURES as error:
        raise InputError(f"cannot read the image {name}: {error}") from error
    with opened:
        return _from_pil(opened, name)


def _from_pil(image: Image.Image, name: str) -> np.ndarray:
    """Convert by mode; uint8 [H, W, C]. `name` is for messages. The caller's image is not changed."""
    _check_sides(image.width, image.height, name)
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
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
