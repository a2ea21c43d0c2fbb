"""WebP and AVIF at a size in bytes, for `prow compare`: the best that Pillow's encoders can do there.

For each downscale factor the highest quality that fits; of these the one with the best PSNR at full size.
"""

from __future__ import annotations

import dataclasses
import io
import math
from typing import Any

import numpy as np
from PIL import Image, features

FACTORS = (16, 8, 4, 2, 1)
_LOOK_AHEAD = 2  # qualities tried above the best that bisection saw, since sizes are not quite monotone


@dataclasses.dataclass(frozen=True)
class Shot:
    """A picture [H, W, 3] uint8 that came back, the bytes of its file, and how it was made."""

    pixels: np.ndarray
    size: int
    how: str


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

    def best(self, pixels: np.ndarray, budget: int) -> Shot | None:
        """The best picture in at most `budget` bytes; None if there is none."""
        shots: list[Shot] = []
        for factor in FACTORS:
            if factor > min(pixels.shape[:2]):
                continue
            shot = self._at(pixels, factor, budget)
            if shot is None:
                break  # a finer one takes more bytes still
            shots.append(shot)
        return max(shots, key=lambda shot: psnr(pixels, shot.pixels), default=None)

    def _at(self, pixels: np.ndarray, factor: int, budget: int) -> Shot | None:
        """At the highest quality that fits, with a side divided by `factor`."""
        height, width = pixels.shape[:2]
        small = Image.fromarray(pixels)
        if factor > 1:
            small = small.resize((round(width / factor), round(height / factor)), Image.Resampling.LANCZOS)
        files: dict[int, bytes] = {}

        def fits(rung: int) -> bool:
            if rung not in files:
                buffer = io.BytesIO()
                quality = rung if self.steps == 1 else rung / self.steps
                small.save(buffer, self.pillow_name, quality=quality, **self.options)
                files[rung] = buffer.getvalue()
            return len(files[rung]) <= budget

        low, high = -1, 100 * self.steps + 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        top = min(high + _LOOK_AHEAD, 100 * self.steps)
        best = next((rung for rung in range(top, -1, -1) if rung <= low or fits(rung)), -1)
        if best < 0:
            return None
        with Image.open(io.BytesIO(files[best]), formats=[self.pillow_name]) as image:
            came = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        how = f"quality {best / self.steps:g}" + (f", downscaled by {factor}" if factor > 1 else "")
        return Shot(np.asarray(came), len(files[best]), how)


RIVALS = (
    Rival("WebP", "WEBP", {"method": 6}, steps=10),
    Rival("AVIF", "AVIF", {"speed": 4, "subsampling": "4:2:0", "codec": "aom"}),
)


def psnr(wanted: np.ndarray, got: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over all samples of two pictures [H, W, 3] uint8; infinity for equals."""
    error = float(np.mean(np.square(wanted.astype(np.int32) - got.astype(np.int32))))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)
