"""Pictures for a page: decoded ahead of time by the codecs that are compared, and packed as data URIs.

`Album` holds the pictures, each once however often it comes up, and packs them at the end; everything else refers
to them by number. What a page needs to show them is in plain dictionaries, ready for JSON.
"""

from __future__ import annotations

import base64
import hashlib
import io
import sys
from typing import Any

import numpy as np
from PIL import Image

import prow
from benchmarks.codecs.codec import Codec, code_within
from benchmarks.codecs.prow_codec import EFFORT
from benchmarks.common.corpus import Picture
from benchmarks.quality.measure import Scores
from benchmarks.quality.metrics import METRICS, psnr
from prow.image import load_rgb

LOSSLESS = 101  # stands for lossless WebP among the qualities
QUALITIES = (LOSSLESS, 98, 95, 90)  # of WebP, the first one that fits is taken


class GalleryError(ValueError):
    """No codec to show, or pictures that do not fit into the page."""


class Album:
    """Pictures [H, W, 3] uint8 by number."""

    def __init__(self) -> None:
        self._pictures: list[np.ndarray] = []
        self._numbers: dict[bytes, int] = {}

    def add(self, picture: np.ndarray) -> int:
        """-> the picture's number: that of an equal one if there is one."""
        key = hashlib.sha256(repr(picture.shape).encode() + picture.tobytes()).digest()
        if key not in self._numbers:
            self._numbers[key] = len(self._pictures)
            self._pictures.append(picture)
        return self._numbers[key]

    def pack(self, max_bytes: int) -> tuple[list[str], str]:
        """-> data URIs of all pictures in at most so many bytes, and how they are packed, for readers.

        Lossless if that fits, or else with the highest quality that does. Raises GalleryError.
        """
        needed = 0
        for quality in QUALITIES:
            print(f"packing {len(self._pictures)} pictures: {described(quality)}", file=sys.stderr, flush=True)
            files, needed = [], 0
            for picture in self._pictures:
                files.append(webp(picture, quality))
                needed += len(data_uri(files[-1]))
                if needed > max_bytes:
                    break
            else:
                return [data_uri(file) for file in files], self._honest(files, quality)
        raise GalleryError(
            f"{len(self._pictures)} pictures take more than {max_bytes:,} bytes even as {described(QUALITIES[-1])}: "
            "wanted fewer or smaller pictures, or a larger page"
        )

    def _honest(self, files: list[bytes], quality: int) -> str:
        """-> how the pictures are packed, and what that does to them."""
        if quality == LOSSLESS:
            return "lossless WebP: every pixel is as it was decoded"
        pairs = zip(self._pictures, files, strict=True)
        worst = min(psnr(picture, np.asarray(Image.open(io.BytesIO(f)).convert("RGB"))) for picture, f in pairs)
        return f"{described(quality)}, which alters them: at least {worst:.1f} dB to what was decoded"


def described(quality: int) -> str:
    """-> a quality of `QUALITIES` in words."""
    return "lossless WebP" if quality == LOSSLESS else f"WebP of quality {quality}"


def webp(picture: np.ndarray, quality: int) -> bytes:
    """-> a WebP file of a picture [H, W, 3] uint8 at a quality of `QUALITIES`."""
    file = io.BytesIO()
    # Pillow's quality of a lossless file is how hard to try; above 80 a file takes several times as long
    options = {"lossless": True, "quality": 80} if quality == LOSSLESS else {"quality": quality, "method": 4}
    Image.fromarray(picture).save(file, "WEBP", **options)
    return file.getvalue()


def data_uri(file: bytes) -> str:
    """-> a WebP file as a data URI."""
    return "data:image/webp;base64," + base64.b64encode(file).decode()


def shrunk(picture: np.ndarray, max_side: int) -> np.ndarray:
    """-> a picture [H, W, 3] uint8 with at most `max_side` px a side (Lanczos)."""
    image = Image.fromarray(picture)
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    return np.asarray(image)


def show(
    picture: Picture, codecs: list[Codec], budgets: list[int], metric: str, max_side: int, album: Album
) -> dict[str, Any]:
    """-> what the page shows of a picture: the original and, by codec and budget, what came back.

    A codec with several files to choose from shows the one that is best in `metric`. Progress goes to stderr.
    """
    pixels = load_rgb(picture.path)
    original = shrunk(pixels, max_side)
    scores, shots = Scores(original), {}
    for codec in codecs:
        shots[codec.name] = {str(b): shoot(codec, b, metric, scores, album) for b in budgets}
        print(f"{picture.path.name}: {codec.name} done", file=sys.stderr, flush=True)
    size = {"width": original.shape[1], "height": original.shape[0]}
    reduced = f"shrunk from {picture.width} x {picture.height} px" if original.shape != pixels.shape else ""
    return {"name": picture.path.name, **size, "reduced": reduced, "original": album.add(original), "shots": shots}


def shoot(codec: Codec, budget: int, metric: str, scores: Scores, album: Album) -> dict[str, Any] | None:
    """-> a codec's picture at a budget: number, bytes of the file, a line on how it is; None if it cannot."""
    files = code_within(codec, scores.image, budget)
    if not files:
        return None
    best, value = scores.best(files, metric)
    notes = [measured(metric, value)]
    if best.setting.get("factor", 1) > 1:
        notes.append(f"downscaled by {best.setting['factor']}")
    if "quality" in best.setting:
        notes.append(f"quality {best.setting['quality']:g}")
    return {"picture": album.add(best.image), "bytes": len(best.data), "notes": ", ".join(notes)}


def measured(metric: str, value: float | None) -> str:
    """-> a metric's value in words, such as "PSNR 21.18 dB"."""
    title, _, unit = METRICS[metric].title.partition(", ")
    return f"{title} {'-' if value is None else f'{value:.{METRICS[metric].decimals}f} {unit}'.strip()}"


def walk(picture: Picture, model: str, cuts: list[int], max_side: int, album: Album) -> dict[str, Any]:
    """-> one prow file of the largest of `cuts` bytes, cut to every other of them and decoded.

    Each step is what `head -c BYTES file.prow | prow decode -` gives. Raises prow.ProwError.
    """
    original = shrunk(load_rgb(picture.path), max_side)
    file = prow.encode(original, bytes=max(cuts), model=model, effort=EFFORT)
    steps = []
    for size in sorted({min(cut, len(file)) for cut in cuts}):
        decoded = np.asarray(prow.decode(file[:size]))
        value = measured("psnr", psnr(original, decoded))
        steps.append({"bytes": size, "picture": album.add(decoded), "notes": value})
    print(f"{picture.path.name}: a file of {len(file):,} bytes cut at {len(steps)} places", file=sys.stderr, flush=True)
    height, width = original.shape[:2]
    return {"image": picture.path.name, "width": width, "height": height, "bytes": len(file), "steps": steps}
