"""ThumbHash and BlurHash as codecs: files of a few fixed sizes, for pictures of any size.

Both libraries are plain Python, so the picture is shrunk first, as their authors advise, and what they decode
is scaled up to the picture's size.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.codecs.codec import Coded
from prow.training.published import locate

THUMBHASH_SIDE = 100  # px, the largest that ThumbHash takes
THUMBHASH_DECODED = 32  # px, the longer side of what its decoders give
BLURHASH_SIDE = 64  # px; even nine waves a side need far fewer
COMPONENTS = ((3, 3), (4, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 8), (9, 9))  # BlurHash's, longer side first


def shrink(image: np.ndarray, side: int) -> Image.Image:
    """-> image [H, W, 3] uint8 with at most `side` px a side."""
    picture = Image.fromarray(image)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture


def grow(pixels: np.ndarray, like: np.ndarray) -> np.ndarray:
    """-> pixels [h, w, 3] uint8 in the size of the picture `like`."""
    size = (like.shape[1], like.shape[0])
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


class ThumbHash:
    """ThumbHash: one file of 24 bytes or a few less, depending on the picture's shape."""

    name = "thumbhash"

    def __init__(self) -> None:
        version = locate("thumbhash", "codec 'thumbhash'").version
        self.settings: dict[str, Any] = {"side": THUMBHASH_SIDE, "up": "bicubic", "versions": {"thumbhash": version}}
        self._image: np.ndarray | None = None
        self._file: Coded | None = None

    def code(self, image: np.ndarray, budget: int) -> list[Coded]:
        """See codec.Codec."""
        if self._image is not image or self._file is None:
            self._image, self._file = image, self._make(image)
        return [self._file] if len(self._file.data) <= budget else []

    def _make(self, image: np.ndarray) -> Coded:
        from thumbhash import rgba_to_thumb_hash

        start = time.perf_counter()
        small = shrink(image, THUMBHASH_SIDE).convert("RGBA")
        data = bytes(rgba_to_thumb_hash(small.width, small.height, list(small.tobytes())))
        middle = time.perf_counter()
        decoded = grow(decode_thumbhash(data), image)
        return Coded(data, decoded, {}, middle - start, time.perf_counter() - middle)


def decode_thumbhash(data: bytes) -> np.ndarray:
    """-> the picture [h, w, 3] uint8 in an opaque ThumbHash, its longer side 32 px.

    Not the package's decoder: that one (0.1.2) gives every pixel the colour of the first.
    """
    low, high = int.from_bytes(data[:3], "little"), int.from_bytes(data[3:5], "little")
    if low >> 23:
        raise ValueError("ThumbHash with transparency came, wanted an opaque one")
    landscape = bool(high >> 15)
    waves = (7, high & 7) if landscape else (high & 7, 7)  # across, down
    ratio = waves[0] / waves[1]
    width = THUMBHASH_DECODED if ratio > 1 else round(THUMBHASH_DECODED * ratio)
    height = round(THUMBHASH_DECODED / ratio) if ratio > 1 else THUMBHASH_DECODED
    digits = [n for byte in data[5:] for n in (byte & 15, byte >> 4)]

    def channel(mean: float, scale: float, across: int, down: int) -> np.ndarray:
        plane = np.full((height, width), mean)
        for y in range(down):
            for x in range(0 if y else 1, across):
                if x * down < across * (down - y):
                    wave = np.outer(_wave(height, y), _wave(width, x))
                    plane += (digits.pop(0) / 7.5 - 1) * scale * 2 * wave
        return plane

    light = channel((low & 63) / 63, (low >> 18 & 31) / 31, max(3, waves[0]), max(3, waves[1]))
    yellow = channel((low >> 6 & 63) / 31.5 - 1, (high >> 3 & 63) / 63 * 1.25, 3, 3)
    red = channel((low >> 12 & 63) / 31.5 - 1, (high >> 9 & 63) / 63 * 1.25, 3, 3)
    b = light - 2 / 3 * yellow
    r = (3 * light - b + red) / 2
    return np.clip(np.rint(255 * np.stack([r, r - red, b], axis=2)), 0, 255).astype(np.uint8)


def _wave(length: int, count: int) -> np.ndarray:
    return np.cos(math.pi / length * (np.arange(length) + 0.5) * count)


class BlurHash:
    """BlurHash with the most components that fit: 22 bytes for 3 x 3, up to 166 for 9 x 9."""

    name = "blurhash"

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {
            "side": BLURHASH_SIDE,
            "components": [list(pair) for pair in COMPONENTS],
            "up": "bicubic",
            "versions": {"blurhash": locate("blurhash", "codec 'blurhash'").version},
        }
        self._image: np.ndarray | None = None
        self._files: dict[tuple[int, int], Coded] = {}

    def code(self, image: np.ndarray, budget: int) -> list[Coded]:
        """See codec.Codec."""
        if self._image is not image:
            self._image, self._files = image, {}
        fitting = [pair for pair in COMPONENTS if blurhash_bytes(*pair) <= budget]
        if not fitting:
            return []
        pair = max(fitting, key=math.prod)
        if pair not in self._files:
            self._files[pair] = self._make(image, pair)
        return [self._files[pair]]

    def _make(self, image: np.ndarray, components: tuple[int, int]) -> Coded:
        import blurhash

        start = time.perf_counter()
        across, down = components if image.shape[1] >= image.shape[0] else components[::-1]
        small = np.asarray(shrink(image, BLURHASH_SIDE))
        data = blurhash.encode(small.tolist(), across, down).encode("ascii")
        middle = time.perf_counter()
        pixels = np.array(blurhash.decode(data.decode("ascii"), small.shape[1], small.shape[0]), np.uint8)
        decoded = grow(pixels, image)
        setting = {"components": [across, down]}
        return Coded(data, decoded, setting, middle - start, time.perf_counter() - middle)


def blurhash_bytes(across: int, down: int) -> int:
    """-> the length of a BlurHash of so many components."""
    return 4 + 2 * across * down
