"""What the loop over the passes wants of arithmetic on pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..entropy.model import Model
from ..format.geometry import Level, Pass
from ..format.tokens import PassTokens

# Of the distortion that an encoder wants to be small (`log_distortion`):
STRUCTURE = 0.75  # weight of the logarithm of lost structure, beside that of the square error
LEAST = 1e-3  # of lost structure, and of square error: less makes no difference
WINDOW = 8  # px
NOISE = (0.03 * 255) ** 2  # variance below which structure does not count, from SSIM

TILES = 2048  # that go through the network at once
BLOCK = 768  # px: side of what goes through the loop filter at once, about

Pictures = Any  # torch tensors or numpy arrays, float32 [B, C, H, W], 0 to 255


def row_batches(level: Level, pictures: int = 1) -> list[tuple[tuple[int, int], slice]]:
    """Batches of whole rows of tiles of each picture: (first and last row), tiles."""
    columns = len(level.columns)
    return [((a, b), slice(a * columns, b * columns)) for a, b in level.batches(TILES // pictures)]


class Backend(Protocol):
    """The networks of a model on some device, and the steps between them. B pictures of one size at once.

    Arguments in common: `bases`, that of each picture; `parts`, the pass's tokens of each; `prediction`, the pictures
    that the pass starts from, at the size of its level.
    """

    @property
    def model(self) -> Model: ...

    def targets(self, pixels: np.ndarray, count: int | None = None) -> list[Pictures]:
        """What the first `count` passes should arrive at, [1, C, H, W] of their levels, for pixels uint8 [H, W, C]."""
        ...

    def blank(self, level: Level, count: int) -> Pictures:
        """What the first pass starts from: grey."""
        ...

    def concatenate(self, pictures: list[Pictures]) -> Pictures:
        """New pictures, one after the other."""
        ...

    def double(self, picture: Pictures, ahead: Pictures | None, level: Level) -> Pictures:
        """Pictures at the next level, whose size is about twice theirs, plus `ahead`."""
        ...

    def choose(
        self,
        pass_: Pass,
        bases: Sequence[int],
        targets: Pictures,
        prediction: Pictures,
        kappa: np.ndarray,
        *,
        grey: bool = False,
    ) -> list[PassTokens]:
        """Tokens of a pass for each picture, the best ones when a bit costs `kappa` [B, tiles] squared quantiser
        steps. With `grey` of channel 0 alone.
        """
        ...

    def paint(self, pass_: Pass, bases: Sequence[int], parts: Sequence[PassTokens], prediction: Pictures) -> Pictures:
        """The pictures of a pass before the loop filter."""
        ...

    def loop_filter(
        self,
        pass_: Pass,
        bases: Sequence[int],
        parts: Sequence[PassTokens],
        picture: Pictures,
        prediction: Pictures,
        *,
        light: bool,
        rows: slice | None = None,
    ) -> tuple[Pictures, Pictures | None]:
        """Pictures as a reader sees them, 0 to 255, and what to add when they are doubled, if anything.

        The filter is told of tiles and tokens where there are tokens. `rows`: these alone, the first of them even.
        """
        ...

    def repaint(self, picture: Pictures, noise: np.ndarray, condition: tuple[float, float]) -> Pictures:
        """The vivid network (`prow.coding.vivid`) on pictures [1, C, H, W], with noise float32 [H, W]."""
        ...

    def log_distortion(self, picture: Pictures, target: Pictures, *, full: bool) -> float:
        """log(square error) + STRUCTURE * log(lost structure over several scales) of pictures [1, C, H, W].

        Square error alone drops faint texture everywhere for the sake of a few sharp edges. `full`: these are full
        resolution, whose own structure is seen least.
        """
        ...

    def to_image(self, picture: Pictures) -> np.ndarray:
        """[C, H, W], 0 to 255 -> uint8 [H, W, C]."""
        ...
