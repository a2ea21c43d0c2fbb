"""The end of a picture that has no more tokens: levels that are only made larger, strip by strip, straight to bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..backends.base import STRIP, Backend, Pictures
from ..format.geometry import Level

_MARGIN = 2  # rows around that a doubled row depends on


def enlarged(backend: Backend, picture: Pictures, levels: Sequence[Level]) -> np.ndarray:
    """A picture [C, h, w] doubled to each of the levels in turn, uint8 [H, W, C]: what `Backend.double` makes of it.

    Memory beyond the result grows with a strip of the picture.
    """
    if not levels:
        return backend.to_image(picture)
    last = levels[-1]
    image = np.empty((last.height, last.width, picture.shape[0]), np.uint8)
    rows = max(1, STRIP // last.width)
    for top in range(0, last.height, rows):
        bottom = min(last.height, top + rows)
        image[top:bottom] = backend.to_image(_rows(backend, picture[None], levels, top, bottom)[0])
    return image


def _rows(backend: Backend, picture: Pictures, levels: Sequence[Level], top: int, bottom: int) -> Pictures:
    """Rows `top` to `bottom` of the last level, [1, C, rows, W]."""
    if not levels:
        return picture[:, :, top:bottom]
    *before, level = levels
    height = before[-1].height if before else picture.shape[2]
    first, last = max(0, top // 2 - _MARGIN), min(height, (bottom + 1) // 2 + _MARGIN)
    coarse = _rows(backend, picture, before, first, last)
    part = Level(level.width, min(2 * (last - first), level.height - 2 * first), level.tile)
    return backend.double(coarse, None, part)[:, :, top - 2 * first : bottom - 2 * first]
