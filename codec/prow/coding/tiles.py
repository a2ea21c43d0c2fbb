"""A picture as the squares that an ordered tokenizer sees, and back (SPEC section 7.3)."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..format.tiling import starts


def cut(pixels: np.ndarray, tile: int, *, letterbox: bool) -> np.ndarray:
    """RGB uint8 [H, W, 3] -> uint8 [tiles, tile, tile, 3]; px that a tile has beyond the picture repeat its border."""
    if letterbox:
        pixels = _resized(pixels, *_inside(pixels.shape[1], pixels.shape[0], tile))
    height, width = pixels.shape[:2]
    beyond = ((0, max(0, tile - height)), (0, max(0, tile - width)), (0, 0))
    pixels = np.pad(pixels, beyond, mode="edge")
    places = [(y, x) for y in starts(height, tile) for x in starts(width, tile)]
    return np.stack([pixels[y : y + tile, x : x + tile] for y, x in places])


def join(tiles: np.ndarray, width: int, height: int, *, letterbox: bool) -> np.ndarray:
    """Inverse of `cut`: uint8 [H, W, 3]. Where tiles overlap, one fades into the other."""
    tile = tiles.shape[1]
    if letterbox:
        w, h = _inside(width, height, tile)
        return _resized(tiles[0, :h, :w], width, height)
    rows, columns = _fades(height, tile), _fades(width, tile)
    picture = np.zeros((max(height, tile), max(width, tile), 3), np.float32)
    pieces = iter(tiles)
    for y, down in rows:
        for x, along in columns:
            weight = (down[:, None] * along)[:, :, None]
            picture[y : y + tile, x : x + tile] += weight * next(pieces)
    return picture[:height, :width].round().astype(np.uint8)


def _fades(length: int, tile: int) -> list[tuple[int, np.ndarray]]:
    """Where each tile along a side begins, and the weight of its px, float32 [tile]: those of all tiles sum to 1."""
    places, px = starts(length, tile), np.arange(tile, dtype=np.float32) + 0.5
    weights = [np.ones(tile, np.float32) for _ in places]
    for i in range(1, len(places)):
        shared = places[i - 1] + tile - places[i]
        if shared:
            rising = px[:shared] / shared
            weights[i][:shared] *= rising
            weights[i - 1][tile - shared :] *= 1 - rising
    return list(zip(places, weights, strict=True))


def _inside(width: int, height: int, tile: int) -> tuple[int, int]:
    """The size in px of a picture whose longer side is made `tile`."""
    longer = max(width, height)
    return max(1, round(width * tile / longer)), max(1, round(height * tile / longer))


def _resized(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), Image.Resampling.BICUBIC))
