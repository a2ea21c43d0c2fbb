"""Classical codecs, at the best downscale if wanted, and those formats that Pillow knows: see `video.py` for VVC."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import io
import time
from typing import Any, Protocol

import numpy as np
from PIL import Image, features

from benchmarks.codecs.codec import BEST_BY, Coded
from benchmarks.codecs.video import Vvc

FACTORS = (1, 2, 4, 8, 16)  # downscale factors of the "-scaled" codecs
LOOK_AHEAD = 2  # rungs tried above those that bisection saw, since sizes are not quite monotone
HOPELESS = 1.25  # a factor whose lowest quality takes so many times the budget is not searched


class Format(Protocol):
    """A format with a scale of qualities; a rung is a quality as an integer, quality times `steps`.

    `settings` is what its files depend on, for the records.
    """

    lowest: int
    highest: int
    steps: int  # per unit of quality; near quality 0 a whole unit can be 40 % of a file
    settings: dict[str, Any]

    def quality(self, rung: int) -> float:
        """-> what a rung stands for."""
        ...

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """-> a whole file of an RGB picture."""
        ...

    def decode(self, data: bytes, size: tuple[int, int]) -> Image.Image:
        """-> an RGB picture of this (width, height)."""
        ...

    def versions(self) -> dict[str, str]:
        """-> versions of the libraries at work, by name."""
        ...


@dataclasses.dataclass(frozen=True)
class PillowFormat:
    """How to call Pillow for a format, and its range of qualities; see Format.

    `options` are sets of options for one call each; the shortest file counts (whether progressive or
    baseline JPEG is shorter depends on picture and quality).
    """

    pillow_name: str
    options: list[dict[str, Any]]
    library: str  # its name in PIL.features, or a package on PyPI
    lowest: int = 0
    highest: int = 100
    steps: int = 1

    @property
    def settings(self) -> dict[str, Any]:
        """Name and options of the format in Pillow."""
        return {"format": self.pillow_name, "options": self.options}

    def quality(self, rung: int) -> float:
        """-> what a rung stands for; a whole number where the format takes no others."""
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

    def decode(self, data: bytes, size: tuple[int, int]) -> Image.Image:
        """-> an RGB picture; its size is the file's."""
        self._register()
        with Image.open(io.BytesIO(data), formats=[self.pillow_name]) as image:
            return image.convert("RGB")

    def versions(self) -> dict[str, str]:
        """Versions of Pillow and of the library that does the work."""
        if self.library in features.get_supported():
            own = str(features.version(self.library))
        else:
            own = importlib.metadata.version(self.library)
        return {"pillow": importlib.metadata.version("pillow"), self.library: own}

    def _register(self) -> None:
        if self.pillow_name == "JXL":
            from pillow_jxl import JpegXLImagePlugin

            JpegXLImagePlugin.DECODE_THREADS = 0  # no thread pool for a picture that takes milliseconds
        elif self.pillow_name == "HEIF":
            from pillow_heif import register_heif_opener

            register_heif_opener()


_JPEG = {"optimize": True, "subsampling": "4:2:0"}
_AVIF = {"speed": 4, "subsampling": "4:2:0", "codec": "aom", "max_threads": 1}  # libavif itself chooses tune=iq
_PSNR = {"advanced": {"tune": "psnr"}}
FORMATS: dict[str, Format] = {
    "jpeg": PillowFormat(
        "JPEG", [{**_JPEG, "progressive": True}, {**_JPEG, "progressive": False}], "libjpeg_turbo", lowest=1
    ),
    "webp": PillowFormat("WEBP", [{"method": 6}], "webp", steps=10),
    "avif": PillowFormat("AVIF", [_AVIF], "avif"),
    "jxl": PillowFormat("JXL", [{"effort": 7, "num_threads": 1}], "pillow-jxl-plugin", highest=99, steps=10),
    "avif-psnr": PillowFormat("AVIF", [{**_AVIF, **_PSNR}], "avif"),
    "avif-slow": PillowFormat("AVIF", [{**_AVIF, **_PSNR, "speed": 0}], "avif"),
    "heic": PillowFormat("HEIF", [{"chroma": 420, "enc_params": {"preset": "veryslow"}}], "pillow-heif"),
    "vvc": Vvc(),
}
USUAL = ("jpeg", "webp", "avif", "jxl")  # what pictures on the web are


class Encodes:
    """The files of one format for the picture at hand, by downscale factor and rung; each made once."""

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
                picture = picture.resize(_shrunk(image, factor), Image.Resampling.LANCZOS)
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
            **format.settings,
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
        picture = self._encodes.format.decode(data, _shrunk(image, factor))
        if factor > 1:
            picture = picture.resize((image.shape[1], image.shape[0]), Image.Resampling.BICUBIC)
        decoded = np.asarray(picture)
        setting = {"factor": factor, "quality": rung / self._encodes.format.steps}
        return Coded(data, decoded, setting, encode_seconds, time.perf_counter() - start)


def _shrunk(image: np.ndarray, factor: int) -> tuple[int, int]:
    """-> (width, height) of image [H, W, 3] after a downscale."""
    return round(image.shape[1] / factor), round(image.shape[0] / factor)
