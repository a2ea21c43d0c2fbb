"""Pictures of one to four channels as what is coded: colour, and alpha as a picture of its own.

Grey is coded as colour whose channel 0 alone has integers, and alpha like a grey picture: the same networks serve all.
"""

from __future__ import annotations

import numpy as np

_STRIP = 1 << 20  # px of a picture that are filled at once, about


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
    return _filled(colour, alpha > 0), grey, _three(alpha)


def merge(colour: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """Inverse of `split`: uint8 [H, W, 1 or 3], and alpha [H, W, 1] -> uint8 [H, W, 1 to 4]."""
    return colour if alpha is None else np.concatenate([colour, alpha], axis=2)


def _three(plane: np.ndarray) -> np.ndarray:
    return np.repeat(plane, 3, axis=2)


def mean(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> [H, W, 1], rounded to nearest: grey of decoded colour."""
    return ((pixels.sum(2, keepdims=True, dtype=np.uint16) + 1) // 3).astype(np.uint8)


def _filled(colour: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Colour [H, W, 3], that of coarser levels where its weight [H, W, 1], 0 to 1, is 0 (pull-push, Gortler et al.,
    1996); rounded if it is uint8. Memory beyond the result grows with a strip."""
    height, width = weight.shape[:2]
    if weight.min() > 0 or max(height, width) == 1:
        return colour
    half = (height + 1) // 2, (width + 1) // 2
    rows, sums, weights = max(1, _STRIP // width), np.empty((*half, 3), np.float32), np.empty((*half, 1), np.float32)
    for top in range(0, half[0], rows):
        part = slice(2 * top, 2 * (top + rows))
        for plane, halved in ((colour[part] * weight[part], sums), (weight[part], weights)):
            even = np.pad(plane, ((0, len(plane) % 2), (0, width % 2), (0, 0))).astype(np.float32)
            halved[top : top + rows] = even.reshape(-1, 2, half[1], 2, plane.shape[2]).sum((1, 3))
    np.divide(sums, np.maximum(weights, 1), out=sums)
    coarse = _filled(sums, np.minimum(weights, 1))
    filled = np.empty_like(colour)
    for top in range(0, half[0], rows):
        part = slice(2 * top, 2 * (top + rows))
        larger = coarse[top : top + rows].repeat(2, 0).repeat(2, 1)[: len(colour[part]), :width]
        better = np.where(weight[part] > 0, colour[part], larger)
        filled[part] = better.round() if colour.dtype == np.uint8 else better
    return filled
