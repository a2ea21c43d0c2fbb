"""The end of a decoded picture, strip by strip, straight to bytes: the last loop filter, then levels that are only made
larger."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..backends.base import Backend, Pictures
from ..format.geometry import Level
from .planes import mean

_STRIP = 1 << 21  # px that are made at once, about
_MARGIN = 2  # rows around that a doubled row depends on

# Rows of a picture, the first of them even, and what to add to them when they are doubled (`Reconstruction.rows`).
Rows = Callable[[slice], tuple[Pictures, Pictures | None]]


def enlarged(backend: Backend, source: Rows, levels: Sequence[Level], *, grey: bool = False) -> np.ndarray:
    """A picture of the first of the levels doubled to each of the others in turn: what `Backend.double` makes of it.

    Memory beyond the result grows with a strip of the picture.

    Args:
        grey: the mean of all channels alone.

    Returns:
        uint8 [H, W, C] of the last level, [H, W, 1] with `grey`.
    """
    last = levels[-1]
    rows = max(2, _STRIP // last.width // 2 * 2)
    image: np.ndarray | None = None
    for top in range(0, last.height, rows):
        bottom = min(last.height, top + rows)
        part = backend.to_image(_rows(backend, source, levels, top, bottom)[0][0])
        part = mean(part) if grey else part
        image = np.empty((last.height, *part.shape[1:]), np.uint8) if image is None else image
        image[top:bottom] = part
    assert image is not None
    return image


def _rows(
    backend: Backend, source: Rows, levels: Sequence[Level], top: int, bottom: int
) -> tuple[Pictures, Pictures | None]:
    """Rows `top` (even) to `bottom` of the last level, [1, C, rows, W], and what to add when they are doubled."""
    *before, level = levels
    if not before:
        return source(slice(top, bottom))
    first, last = max(0, top // 2 - _MARGIN) // 2 * 2, min(before[-1].height, (bottom + 1) // 2 + _MARGIN)
    coarse, ahead = _rows(backend, source, before, first, last)
    part = Level(level.width, min(2 * (last - first), level.height - 2 * first), level.tile)
    return backend.double(coarse, ahead, part)[:, :, top - 2 * first : bottom - 2 * first], None
