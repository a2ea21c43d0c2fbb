"""WebP and AVIF at a size in bytes, for `prow compare` and `prow page`: the best that Pillow's encoders can do there.

For each downscale factor the highest quality that fits; of these the one with the best PSNR at full size.
"""

from __future__ import annotations

import dataclasses
import io
import math
from typing import Any

import numpy as np
from PIL import Image, features

FACTORS = (1, 2, 4, 8, 16)
_LOOK_AHEAD = 2  # qualities tried above the best that bisection saw, since sizes are not quite monotone
_HOPELESS = 1.25  # a factor whose lowest quality takes so many times the budget is not searched


@dataclasses.dataclass(frozen=True)
class Shot:
    """A picture [H, W, 3] uint8 that came back, its file, and how it was made."""

    pixels: np.ndarray
    content: bytes
    how: str

    @property
    def size(self) -> int:
        """Of the file in bytes."""
        return len(self.content)


@dataclasses.dataclass(frozen=True)
class Rival:
    """A format of Pillow: its name there, options of `save`, and qualities a unit of its 0 to 100."""

    name: str
    pillow_name: str
    options: dict[str, Any]
    steps: int = 1

    def there(self) -> bool:
        """Whether this Pillow can write it."""
        return bool(features.check(self.pillow_name.lower()))

    def best(self, pixels: np.ndarray, budgets: list[int]) -> dict[int, Shot | None]:
        """The best picture in at most so many bytes, for each budget; None where there is none."""
        encodes = [_Encodes(self, pixels, factor) for factor in FACTORS if factor <= min(pixels.shape[:2])]
        best: dict[int, Shot | None] = {}
        for budget in budgets:
            shots = (shot for one in encodes if (shot := one.within(budget)) is not None)
            best[budget] = max(shots, key=lambda shot: psnr(pixels, shot.pixels), default=None)
        return best


class _Encodes:
    """The files of a picture with a side divided by `factor`, each made once."""

    def __init__(self, rival: Rival, pixels: np.ndarray, factor: int) -> None:
        self._rival, self._factor, self._files = rival, factor, dict[int, bytes]()
        self._size = pixels.shape[1], pixels.shape[0]
        self._small = Image.fromarray(pixels)
        if factor > 1:
            width, height = (round(side / factor) for side in self._size)
            self._small = self._small.resize((width, height), Image.Resampling.LANCZOS)

    def within(self, budget: int) -> Shot | None:
        """At the highest quality that fits; None if none does."""
        if len(self._file(0)) > _HOPELESS * budget:
            return None
        top = 100 * self._rival.steps
        low, high = -1, top + 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if len(self._file(middle)) <= budget else (low, middle)
        tried = range(min(high + _LOOK_AHEAD, top), -1, -1)
        best = next((rung for rung in tried if rung <= low or len(self._file(rung)) <= budget), None)
        if best is None:
            return None
        with Image.open(io.BytesIO(self._file(best)), formats=[self._rival.pillow_name]) as image:
            came = image.convert("RGB").resize(self._size, Image.Resampling.BICUBIC)
        how = f"quality {best / self._rival.steps:g}" + (f", downscaled by {self._factor}" if self._factor > 1 else "")
        return Shot(np.asarray(came), self._file(best), how)

    def _file(self, rung: int) -> bytes:
        """At a quality, in steps of the rival's."""
        if rung not in self._files:
            rival, buffer = self._rival, io.BytesIO()
            quality = rung if rival.steps == 1 else rung / rival.steps
            self._small.save(buffer, rival.pillow_name, quality=quality, **rival.options)
            self._files[rung] = buffer.getvalue()
        return self._files[rung]


RIVALS = (
    Rival("WebP", "WEBP", {"method": 6}, steps=10),
    Rival("AVIF", "AVIF", {"speed": 4, "subsampling": "4:2:0", "codec": "aom"}),
)


def psnr(wanted: np.ndarray, got: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over all samples of two pictures [H, W, 3] uint8; infinity for equals."""
    error = float(np.mean(np.square(wanted.astype(np.int32) - got.astype(np.int32))))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)
