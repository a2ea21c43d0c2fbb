"""Adapters: one small class per kind of codec, with one method, `code(image, budget)`.

A codec turns a picture [H, W, 3] uint8 and a number of bytes into whole files of at most so many bytes
and the pictures that a reader of these files sees. Which of several files is best, a metric says: others measure.

`FAMILIES` is the registry: a family is what `--codecs` names; its codecs share their encodes.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.metadata
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image, features

if TYPE_CHECKING:
    from prow.config import Style
    from prow.container import Profile

EFFORT = 5  # of prow, its default
MASTER = 16384  # bytes of the file whose cuts "prow-cuts" is
FACTORS = (1, 2, 4, 8, 16)  # downscale factors of the "-scaled" codecs
LOOK_AHEAD = 2  # rungs tried above those that bisection saw, since sizes are not quite monotone
BEST_BY = "each metric"  # which of the files is best: every metric has its own answer
HOPELESS = 1.25  # a factor whose lowest quality takes so many times the budget is not searched


@dataclasses.dataclass(frozen=True)
class Coded:
    """A file and what a reader makes of it. `setting` says how it was made, for the records.

    Seconds are wall time. Those of a classical codec's encode are those of the one call that made this file,
    without the search for its quality; those of prow hold all it does to meet a number of bytes.
    """

    data: bytes
    image: np.ndarray  # [H, W, 3] uint8
    setting: dict[str, Any]
    encode_seconds: float
    decode_seconds: float


class Codec(Protocol):
    """What the runner needs. `settings` (with the versions of the libraries at work) is all that results
    depend on: where they are equal, old results are reused."""

    name: str
    settings: dict[str, Any]

    def code(self, image: np.ndarray, budget: int) -> list[Coded]:
        """Code image [H, W, 3] uint8 in at most `budget` bytes: all files to choose from; none if it cannot."""
        ...


@dataclasses.dataclass(frozen=True)
class Format:
    """A classical format behind Pillow: how to call it, and its range of qualities.

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
        self.name = name
        self._encodes = encodes
        self._factors = factors
        format = encodes.format
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
        """See Codec. A finer factor is not tried where a coarser one already takes too many bytes."""
        found = []
        for factor in sorted(self._factors, reverse=True):
            if factor > min(image.shape[:2]):
                continue
            rung = self._encodes.best_rung(image, factor, budget)
            if rung is None:
                break
            found.append(self._read(image, factor, rung))
        return found

    def _read(self, image: np.ndarray, factor: int, rung: int) -> Coded:
        data, encode_seconds = self._encodes.timed_file(image, factor, rung)
        start = time.perf_counter()
        picture = self._encodes.format.decode(data)
        if factor > 1:
            picture = picture.resize((image.shape[1], image.shape[0]), Image.Resampling.BICUBIC)
        decoded = np.asarray(picture)
        setting = {"factor": factor, "quality": rung / self._encodes.format.steps}
        return Coded(data, decoded, setting, encode_seconds, time.perf_counter() - start)


def _prow_file(pixels: bytes, height: int, width: int, budget: int, model: str, profile: str) -> tuple[bytes, float]:
    """-> a file, and the seconds it took."""
    import prow

    image = np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
    start = time.perf_counter()
    data = prow.encode(image, bytes=budget, model=model, profile=profile, effort=EFFORT)  # type: ignore[arg-type]
    return data, time.perf_counter() - start


@functools.lru_cache(maxsize=4)
def _prow_master(*picture_and_profile: Any) -> tuple[bytes, float]:
    """-> the file that all cuts of a picture are of, and the seconds it took."""
    pixels, height, width, model, profile = picture_and_profile
    return _prow_file(pixels, height, width, MASTER, model, profile)


def _prow_cut(pixels: bytes, height: int, width: int, budget: int, model: str, profile: str) -> tuple[bytes, float]:
    """-> the master cut to a budget, and the seconds that the master took."""
    import prow

    if budget > MASTER:
        raise prow.BudgetError(f"a budget of {budget} bytes came, cuts are of a file of {MASTER}")
    data, seconds = _prow_master(pixels, height, width, model, profile)
    return prow.truncate(data, budget), seconds


class Prow:
    """prow itself with one of its models, in one of its profiles and styles. Styles can share an `encode`."""

    def __init__(
        self,
        name: str,
        model: str,
        profile: Profile = "file",
        style: Style = "faithful",
        encode: Callable[..., tuple[bytes, float]] = _prow_file,
    ) -> None:
        import prow

        self.name, self._style, self._encode = name, style, encode
        found = [m for m in prow.models() if m.name == model or (model == "default" and m.is_default)]
        if not found:
            raise ValueError(f"no model {model!r}: there are {', '.join(m.name for m in prow.models())}")
        self._model = found[0].name
        self._profile = profile
        self.settings: dict[str, Any] = {
            "model": self._model,
            "profile": profile,
            "effort": EFFORT,
            "sha256": found[0].sha256,
            "code": _code_sha256(Path(str(prow.__file__)).parent),
            "versions": {name: version_of(name) for name in ("torch", "constriction")},
        }
        if style == "vivid":
            self.settings |= {"style": style, "vivid_sha256": found[0].vivid_sha256}

    def code(self, image: np.ndarray, budget: int) -> list[Coded]:
        """See Codec. prow is asked for exactly `budget`; a larger file is a bug and stops the run."""
        import prow

        try:
            data, seconds = self._encode(image.tobytes(), *image.shape[:2], budget, self._model, self._profile)
        except prow.BudgetError:
            return []
        if len(data) > budget:
            raise AssertionError(f"prow gave {len(data)} bytes for a budget of {budget}")
        start = time.perf_counter()
        decoded = np.asarray(prow.decode(data, style=self._style))
        return [Coded(data, decoded, {}, seconds, time.perf_counter() - start)]


def _code_sha256(package: Path) -> str:
    """-> SHA-256 over the package's sources but training's: old results must not pass for new code's."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if not name.startswith("training"):
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def version_of(distribution: str) -> str:
    """-> the version of an installed package, or a few words if it is not one."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"


def _prow_styles() -> list[Codec]:
    """-> the default model in the styles that it has."""
    import prow

    (default,) = (m for m in prow.models() if m.is_default)
    styles: dict[str, Style] = {"prow": "faithful"}
    if default.vivid_sha256:
        styles["prow-vivid"] = "vivid"
    encode = functools.lru_cache(maxsize=32)(_prow_file)
    return [Prow(name, default.name, style=style, encode=encode) for name, style in styles.items()]


def _classical(name: str) -> list[Codec]:
    encodes = Encodes(FORMATS[name])
    return [Classical(name, encodes, (1,)), Classical(f"{name}-scaled", encodes, FACTORS)]


def _hash(name: str) -> list[Codec]:
    from benchmarks import hashes

    return [hashes.HASHES[name]()]


FAMILIES: dict[str, Callable[[], list[Codec]]] = {
    "prow": _prow_styles,
    "prow-cuts": lambda: [Prow("prow-cuts", "default", encode=_prow_cut)],
    "prow-bare": lambda: [Prow("prow-bare", "default", "bare")],
    "anchor": lambda: [Prow("anchor", "anchor")],
    **{name: functools.partial(_classical, name) for name in FORMATS},
    **{name: functools.partial(_hash, name) for name in ("thumbhash", "blurhash")},
}
