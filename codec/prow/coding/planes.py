"""Pictures of one to four channels as what is coded: colour, and alpha as a picture of its own.

Grey is coded as colour whose channel 0 alone has integers, and alpha like a grey picture: the same networks serve all.
"""

from __future__ import annotations

import numpy as np


def split(pixels: np.ndarray, coded: int = 3) -> tuple[np.ndarray, bool, np.ndarray | None]:
    """uint8 [H, W, 1 to 4] -> colour uint8 [H, W, 3], whether it is grey, and alpha uint8 [H, W, 3] (None: opaque).

    Colour where nothing is seen of it becomes that of its surroundings, which costs next to nothing.

    Args:
        coded: channels of the model; one of other than three takes the pixels as they are.
    """
    if coded != 3:
        return pixels, False, None
    channels = pixels.shape[2]
    grey = channels < 3
    colour = _three(pixels[:, :, :1]) if grey else pixels[:, :, :3]
    alpha = pixels[:, :, -1:] if channels % 2 == 0 else None
    if alpha is None or alpha.min() == 255:
        return colour, grey, None
    filled = _filled(colour.astype(np.float32), (alpha > 0).astype(np.float32))
    return filled.round().astype(np.uint8), grey, _three(alpha)


def merge(colour: np.ndarray, grey: bool, alpha: np.ndarray | None) -> np.ndarray:
    """Inverse of `split`: uint8 [H, W, 3] each -> uint8 [H, W, 1 to 4]."""
    planes = [_mean(colour) if grey else colour]
    planes += [] if alpha is None else [_mean(alpha)]
    return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)


def _three(plane: np.ndarray) -> np.ndarray:
    return np.repeat(plane, 3, axis=2)


def _mean(pixels: np.ndarray) -> np.ndarray:
    """[H, W, 3] -> [H, W, 1], rounded to nearest."""
    return ((pixels.sum(2, keepdims=True, dtype=np.uint16) + 1) // 3).astype(np.uint8)


def _filled(colour: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Colour [H, W, 3], that of coarser levels where its weight [H, W, 1] is 0 (pull-push, Gortler et al., 1996)."""
    height, width = weight.shape[:2]
    if weight.min() > 0 or max(height, width) == 1:
        return colour
    even = ((0, height % 2), (0, width % 2), (0, 0))
    sums, weights = (
        np.pad(plane, even).reshape((height + 1) // 2, 2, (width + 1) // 2, 2, -1).sum((1, 3))
        for plane in (colour * weight, weight)
    )
    coarse = _filled(sums / np.maximum(weights, 1), np.minimum(weights, 1))
    larger = coarse.repeat(2, 0).repeat(2, 1)[:height, :width]
    return np.where(weight > 0, colour, larger)
