"""What the public functions want of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Protocol

import numpy as np

from ..coding.focus import Focus
from ..format.tokens import Tokens
from ..search.rate import Stream


@dataclasses.dataclass(frozen=True)
class Aim:
    """What is wanted of streams.

    Attributes:
        room: bytes of each; None: as many as `quality` takes, 0 to 100. effort: 1 (quick) to 9 (slow).
        letterbox: the whole picture as one tile. focus: parts that matter more than the rest, the same in all.
    """

    room: int | None
    quality: float
    effort: int
    letterbox: bool = False
    focus: Focus | None = None


class Coder(Protocol):
    """A model on a device."""

    def encode(self, pictures: list[np.ndarray], aim: Aim) -> list[Stream]:
        """Streams of pictures of one shape, uint8 [H, W, 1 to 4]; of `room` bytes each, or fewer if the model has
        nothing left to say. Raises InputError for what the model lacks."""
        ...

    def alike(self, tokens: Tokens) -> Hashable:
        """Pictures with equal ones can be decoded together."""
        ...

    def decode(self, batch: list[Tokens], octaves: int = 0) -> list[np.ndarray]:
        """The pictures, all alike, as Pillow wants them: uint8 [H, W] or [H, W, 2 to 4]. Octaves as in
        `prow.decode`, and checked."""
        ...
