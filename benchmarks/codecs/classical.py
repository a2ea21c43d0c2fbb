"""Classical formats behind Pillow: JPEG, WebP, AVIF and JPEG XL."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import io
import time
from typing import Any

import numpy as np
from PIL import Image, features

from benchmarks.codecs.codec import BEST_BY, Coded

FACTORS = (1, 2, 4, 8, 16)  # downscale factors of the "-scaled" codecs
LOOK_AHEAD = 2  # rungs tried above those that bisection saw, since sizes are not quite monotone
HOPELESS = 1.25  # a factor whose lowest quality takes so many times the budget is not searched


@dataclasses.dataclass(frozen=True)
class Format:
    """How to call Pillow for a format, and its range of qualities.

    `options` are sets of options for one call each; the shortest file counts (whether progressive or
    baseline JPEG is shorter depends on picture and quality).
    """

    pillow_name: str
    options: list[dict[str, Any]]
    library: str  # its name in PIL.features, or a package on PyPI
    lowest: int = 0
    highest: int = 100
    steps: int = 1  # per unit of quality; near quality 0 a whole unit can be 40 % of a file

    def quality(self, rung: int) -> float:
        """-> what a rung (see Encodes) stands for; a whole number where the format takes no others."""
        return rung if self.steps == 1 else rung / self.steps

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """-> a whole file."""
        self._register()
        files = []
        for options in self.options:
            file = io.BytesIO()
            image.save(file, self.pillow_name, quality=quality, **options)
            files.append(file.getvalue())
        return min(files, key=len)

    def decode(self, data: bytes) -> Image.Image:
        """-> an RGB picture."""
        self._register()
        with Image.open(io.BytesIO(data), formats=[self.pillow_name]) as image:
            return image.convert("RGB")

    def versions(self) -> dict[str, str]:
        """Versions of Pillow and of the library that does the work."""
        if self.pillow_name == "JXL":
            own = importlib.metadata.version(self.library)
        else:
            own = str(features.version(self.library))
        return {"pillow": importlib.metadata.version("pillow"), self.library: own}

    def _register(self) -> None:
        if self.pillow_name == "JXL":
            from pillow_jxl import JpegXLImagePlugin

            JpegXLImagePlugin.DECODE_THREADS = 0  # no thread pool for a picture that takes milliseconds


_JPEG = {"optimize": True, "subsampling": "4:2:0"}
FORMATS = {
    "jpeg": Format(
        "JPEG", [{**_JPEG, "progressive": True}, {**_JPEG, "progressive": False}], "libjpeg_turbo", lowest=1
    ),
    "webp": Format("WEBP", [{"method": 6}], "webp", steps=10),
    "avif": Format("AVIF", [{"speed": 4, "subsampling": "4:2:0", "codec": "aom", "max_threads": 1}], "avif"),
    "jxl": Format("JXL", [{"effort": 7, "num_threads": 1}], "pillow-jxl-plugin", highest=99, steps=10),
}


class Encodes:
    """The files of one format for the picture at hand, by downscale factor and rung; each made once.

    A rung is a quality as an integer: quality times the format's steps.
    """

    def __init__(self, format: Format) -> None:
        self.format = format
        self._image: np.ndarray | None = None
        self._files: dict[tuple[int, int], tuple[bytes, float]] = {}

    def file(self, image: np.ndarray, factor: int, rung: int) -> bytes:
        """-> the file of image [H, W, 3] uint8, shrunk by `factor` (Lanczos)."""
        return self.timed_file(image, factor, rung)[0]

    def timed_file(self, image: np.ndarray, factor: int, rung: int) -> tuple[bytes, float]:
        """-> the same, and the seconds that it took to make it."""
        if self._image is not image:
            self._image, self._files = image, {}
        if (factor, rung) not in self._files:
            start = time.perf_counter()
            picture = Image.fromarray(image)
            if factor > 1:
                size = (round(picture.width / factor), round(picture.height / factor))
                picture = picture.resize(size, Image.Resampling.LANCZOS)
            data = self.format.encode(picture, self.format.quality(rung))
            self._files[factor, rung] = data, time.perf_counter() - start
        return self._files[factor, rung]

    def best_rung(self, image: np.ndarray, factor: int, budget: int) -> int | None:
        """-> the highest rung whose file has at most `budget` bytes, by bisection; None if none has."""
        size = functools.cache(lambda rung: len(self.file(image, factor, rung)))
        lowest, highest = (q * self.format.steps for q in (self.format.lowest, self.format.highest))
        if size(lowest) > HOPELESS * budget:
            return None
        fits, too_much = lowest - 1, highest + 1
        while too_much - fits > 1:
            middle = (fits + too_much) // 2
            fits, too_much = (middle, too_much) if size(middle) <= budget else (fits, middle)
        for rung in range(min(too_much + LOOK_AHEAD, highest), fits, -1):
            if size(rung) <= budget:
                return rung
        return fits if fits >= lowest else None


class Classical:
    """A classical codec: for each downscale factor the file of the highest quality that fits."""

    def __init__(self, name: str, encodes: Encodes, factors: tuple[int, ...]) -> None:
        self.name, format = name, encodes.format
        self._encodes, self._factors = encodes, factors
        self.settings: dict[str, Any] = {
            "format": format.pillow_name,
            "options": format.options,
            "qualities": [format.lowest, format.highest, 1 / format.steps],
            "factors": list(factors),
            "look_ahead": LOOK_AHEAD,
            "down": "lanczos",
            "up": "bicubic",
            "best_by": BEST_BY,
            "versions": format.versions(),
        }

    def code(self, image: np.ndarray, budget: int) -> list[Coded]:
        """See codec.Codec. A finer factor is not tried where a coarser one already takes too many bytes."""
        files = []
        for factor in sorted(self._factors, reverse=True):
            if factor > min(image.shape[:2]):
                continue
            rung = self._encodes.best_rung(image, factor, budget)
            if rung is None:
                break
            files.append(self._read(image, factor, rung))
        return files

    def _read(self, image: np.ndarray, factor: int, rung: int) -> Coded:
        data, encode_seconds = self._encodes.timed_file(image, factor, rung)
        start = time.perf_counter()
        picture = self._encodes.format.decode(data)
        if factor > 1:
            picture = picture.resize((image.shape[1], image.shape[0]), Image.Resampling.BICUBIC)
        decoded = np.asarray(picture)
        setting = {"factor": factor, "quality": rung / self._encodes.format.steps}
        return Coded(data, decoded, setting, encode_seconds, time.perf_counter() - start)
