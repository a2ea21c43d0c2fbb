"""Which squares of a picture an ordered tokenizer sees: it takes tiles of one size alone (SPEC section 7.1)."""

from __future__ import annotations


def starts(length: int, tile: int) -> list[int]:
    """Where along a side of `length` px its ceil(length / tile) tiles begin: evenly spread, the last one ends with the
    side, so neighbours overlap where the side is no multiple. One tile begins at 0, and may be longer than the side."""
    parts = -(-length // tile)
    return [i * (length - tile) // (parts - 1) for i in range(parts)] if parts > 1 else [0]


def tile_count(width: int, height: int, tile: int, *, letterbox: bool) -> int:
    """Tiles of a picture: one if it is shrunk or enlarged to fit (`letterbox`), else as many as it takes."""
    return 1 if letterbox else -(-width // tile) * -(-height // tile)


def has_choice(width: int, height: int, tile: int) -> bool:
    """Whether a letterbox is anything else than tiles: not for a picture that is just one tile."""
    return (width, height) != (tile, tile)
