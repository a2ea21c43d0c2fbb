"""Whether tokens from outside are such that a stream can say them."""

from __future__ import annotations

import dataclasses
from numbers import Integral

import numpy as np

from ..arguments import flag, told
from ..errors import InputError
from ..format.config import STEPS
from ..format.container import MAX_SIDE
from ..format.geometry import Pass
from ..format.limits import DEFAULT_MAX_PIXELS
from ..format.tokens import PassTokens, Tokens
from .model import Model, StreamSpec
from .tables import MAX_MAGNITUDE


def check_size(width: int, height: int) -> None:
    """Raises InputError: a size in px that no file has, or of more pixels than a decoder takes by default."""
    check_sides(width, height)
    if int(width) * int(height) > DEFAULT_MAX_PIXELS:
        raise InputError(f"{width} x {height} px came, wanted at most {DEFAULT_MAX_PIXELS:,} pixels")


def check_sides(width: int, height: int) -> None:
    """Raises InputError: a size in px that no file has."""
    for side in (width, height):
        if isinstance(side, bool) or not isinstance(side, Integral) or not 1 <= side <= MAX_SIDE:
            raise InputError(f"{told(width)} x {told(height)} px came, wanted whole numbers from 1 to {MAX_SIDE:,}")


def check_tokens(tokens: Tokens, model: Model) -> Tokens:
    """The same tokens, with Python's numbers; nothing is used that a stream would not say.

    Raises:
        InputError: a size or base that does not exist, passes or arrays of another shape, more tokens than a tile can
            have, integers beyond a tile's tokens or too large. Names the pass and the tile.
    """
    check_sides(tokens.width, tokens.height)
    flag("grey", tokens.grey)
    plan = StreamSpec(int(tokens.width), int(tokens.height), model).passes
    base = tokens.base
    if base is not None and (isinstance(base, bool) or not isinstance(base, Integral) or not 0 <= base < STEPS):
        raise InputError(f"base {told(base)} came, wanted 0 to {STEPS - 1} or None")
    for parts, grey in ((tokens.passes, tokens.grey), (tokens.alpha, True)):
        if parts is None and parts is not tokens.passes:
            continue
        if not isinstance(parts, tuple | list) or not all(isinstance(part, PassTokens) for part in parts):
            raise InputError(f"passes {told(parts)} came, wanted a tuple of PassTokens")
        if len(parts) != len(plan):
            raise InputError(
                f"{len(parts)} passes came, {tokens.width} x {tokens.height} px of model {model.config.name} "
                f"want {len(plan)}"
            )
        for index, (pass_, part) in enumerate(zip(plan, parts, strict=True)):
            _check_pass(index, pass_, part, model, grey=grey)
    if tokens.base is None and tokens.coded:
        raise InputError(f"tokens in pass {tokens.coded[0]} came without a base, wanted one")
    whole = {"width": int(tokens.width), "height": int(tokens.height), "model_id": int(tokens.model_id)}
    return dataclasses.replace(tokens, **whole, base=None if base is None else int(base))


def _check_pass(index: int, pass_: Pass, part: PassTokens, model: Model, *, grey: bool) -> None:
    counts, values = part.counts, part.values
    tiles = pass_.level.tiles
    for name, array, shape in (("counts", counts, (tiles,)), ("values", values, (tiles, model.config.coefficients))):
        if not isinstance(array, np.ndarray) or array.shape != shape or not np.issubdtype(array.dtype, np.integer):
            came = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
            raise InputError(f"pass {index}: {name} {came} came, wanted integers {list(shape)}")
    layout = model.layout(pass_, grey=grey)
    wrong = np.flatnonzero((counts < 0) | (counts > layout.last))
    if len(wrong):
        tile = wrong[0]
        raise InputError(f"pass {index}, tile {tile}: {counts[tile]} tokens came, wanted 0 to {layout.last[tile]}")
    beyond = np.argwhere((values != 0) & ~layout.sent(counts)) if values.any() else []
    if len(beyond):
        tile, rank = beyond[0]
        raise InputError(
            f"pass {index}, tile {tile}: {values[tile, rank]} at rank {rank} came, wanted 0 where its "
            f"{counts[tile]} tokens have no integer"
        )
    large = np.argwhere((values < -MAX_MAGNITUDE) | (values > MAX_MAGNITUDE))
    if len(large):
        tile, rank = large[0]
        raise InputError(
            f"pass {index}, tile {tile}: {values[tile, rank]} at rank {rank} came, wanted -{MAX_MAGNITUDE} to "
            f"{MAX_MAGNITUDE}"
        )
