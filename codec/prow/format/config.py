"""The one place that says how big things are: a frozen config per model, and the grid of quantiser steps."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

# Quantiser steps live on a fixed grid so that probability tables can be indexed by them:
# step(i) = 2 ** ((i - STEP_ORIGIN) / STEPS_PER_OCTAVE), in units of an orthonormal coefficient (grey levels).
# A stream begins with its base: the step index of its first pass at full resolution.
STEPS = 64
STEPS_PER_OCTAVE = 4
STEP_ORIGIN = 8
MOST = 1 << 20  # of any number of a config
NEAR = 3  # how far from a model's usual base the bases are that have a short symbol

# Kinds of passes: each has its own scan order and its own tables.
START, MIDDLE, FULL, REFINE = range(4)
KIND_NAMES = ("start", "middle", "full", "refine")

# The network of the vivid style, the same for all models.
VIVID_WIDTH = 24  # channels
VIVID_DILATIONS = (1, 2, 4, 8, 4, 2, 1, 1)
VIVID_REACH = sum(VIVID_DILATIONS) + 3  # px on each side that a pixel depends on


def step_size(step_index: int) -> float:
    """Quantiser step of a step index: 0.25 to 13,777, in units of an orthonormal coefficient."""
    return 2.0 ** ((step_index - STEP_ORIGIN) / STEPS_PER_OCTAVE)


def filter_reach(dilations: tuple[int, ...]) -> int:
    """px on each side that a 2x2 cell of a loop filter's output can see: the convolutions, then the local mean."""
    return 2 * (sum(dilations) + 2) + 4


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of one model. Everything else (passes, tiles, tensor shapes) follows from it and the image size."""

    name: str
    model_id: int  # one byte in the header; never reused
    description: str = ""
    channels: int = 3  # of a picture: 1 is grey, of 4 the last one is by itself
    tile: int = 16  # px; the longest side of a tile
    # Integers per token, head first; their sum is channels * tile**2. Small at the head, where every bit counts.
    token_dims: tuple[int, ...] = (3, 5, 8, 16, 24, 40, 64, 96, 192, 320)
    # The schedule (`prow.format.geometry.passes`): each level once, coarse to fine, then full resolution again.
    usual_base: int = 32  # of most pictures
    octave_step: int = 1  # each octave below full resolution uses a step this many indices coarser
    refine_shifts: tuple[int, ...] = (4, 8, 12, 16, 20, 24)  # one refining pass per entry, so much below the base
    network: bool = True  # False: the linear anchor alone
    contexts: bool = True  # False: tables by rank alone
    patch: int = 4  # px
    width: int = 96
    heads: int = 3
    decoder_depth: int = 2
    # The loop filter of the coarse levels (START, MIDDLE), which are small, and that of full resolution.
    coarse_width: int = 96
    coarse_dilations: tuple[int, ...] = (1, 2, 4, 1, 2, 1, 1, 2, 4, 1, 2, 1)
    fine_width: int = 64
    fine_dilations: tuple[int, ...] = (1, 2, 4, 1, 1, 2, 4, 1)
    # That of coarse levels behind the last token (`prow.coding.reconstruction.filter_octaves`).
    light_width: int = 48
    light_dilations: tuple[int, ...] = (1, 2, 4, 1, 2, 1)

    def __post_init__(self) -> None:
        filters = (self.coarse_width, self.fine_width, self.light_width)
        sizes = (self.channels, self.tile, self.patch, self.width, self.heads, *filters)
        if min(sizes) < 1 or not 1 <= self.model_id <= 255:
            raise ValueError(f"config {self.name} has a size below 1 or model id {self.model_id}, wanted 1 to 255")
        for dilations in (self.coarse_dilations, self.fine_dilations, self.light_dilations):
            if min(dilations, default=0) < 1:
                raise ValueError(f"dilations {dilations} of {self.name} came, wanted one or more of at least 1")
        if sum(self.token_dims) != self.coefficients:
            raise ValueError(f"token_dims sum to {sum(self.token_dims)}, tile {self.tile} wants {self.coefficients}")
        if min(self.token_dims) < 1 or min(self.octave_step, *self.refine_shifts, 0) < 0:
            raise ValueError(f"config {self.name} has an empty token, an octave_step or a refine_shift below 0")
        if not NEAR <= self.usual_base < STEPS - NEAR:
            raise ValueError(f"usual_base {self.usual_base} of {self.name} came, wanted {NEAR} to {STEPS - 1 - NEAR}")
        if self.tile % self.patch or self.width % self.heads:
            raise ValueError(f"tile {self.tile} / patch {self.patch} or width {self.width} / heads {self.heads} is odd")

    @property
    def coefficients(self) -> int:
        """K, integers in a full tile: tile x tile coefficients of each channel."""
        return self.channels * self.tile * self.tile

    @property
    def tokens(self) -> int:
        return len(self.token_dims)

    @property
    def reach(self) -> int:
        """How many px away the loop filters can see; even. 0 without a network."""
        filters = (self.coarse_dilations, self.fine_dilations, self.light_dilations)
        return max(map(filter_reach, filters)) if self.network else 0

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Config:
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError(f"a config of JSON type {type(fields).__name__} came, wanted an object")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        for field in dataclasses.fields(cls):
            _check_type(field.name, str(field.type), values.get(field.name, field.default))
        return cls(**values)


def _check_type(name: str, wanted: str, value: object) -> None:
    """Raise ValueError for a value in JSON that is not of the type of its field: int, str, bool or tuple[int, ...]."""
    found = [type(one).__name__ for one in value] if isinstance(value, tuple) else type(value).__name__
    right = found == wanted or (wanted == "tuple[int, ...]" and isinstance(found, list) and set(found) <= {"int"})
    numbers = value if isinstance(value, tuple) else (value,)
    if not right or any(isinstance(n, int) and abs(n) > MOST for n in numbers):
        raise ValueError(f"{name} {str(value)[:60]!r} came in a config, wanted {wanted} up to {MOST:,}")


CONFIGS = {
    "anchor": Config(
        name="anchor",
        model_id=1,
        description="the linear anchor alone, no network, no contexts: the floor that benchmarks compare with",
        network=False,
        contexts=False,
    ),
    "prow-small": Config(
        name="prow-small",
        model_id=2,
        description="the default, small enough for CPUs",
    ),
    # For tests: the same code at toy size. Never shipped.
    "toy": Config(
        name="toy",
        model_id=120,
        tile=8,
        token_dims=(3, 5, 16, 40, 128),
        width=32,
        heads=2,
        decoder_depth=1,
        coarse_width=8,
        coarse_dilations=(1, 2),
        fine_width=8,
        fine_dilations=(1, 2),
        light_width=6,
        light_dilations=(1,),
    ),
}
