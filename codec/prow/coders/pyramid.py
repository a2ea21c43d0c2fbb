"""Models of this package: passes over a pyramid of levels (`prow.coding.codec`)."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np

from ..backends import select
from ..coding.codec import Codec
from ..coding.planes import mean, merge
from ..coding.vivid import repaint
from ..format.tokens import Tokens
from ..options import Style
from ..registry import ModelFile
from ..search import rate
from ..search.effort import EFFORTS, UNSEARCHED
from .base import Aim

if TYPE_CHECKING:
    from ..search.base_search import Candidate


class PyramidCoder:
    """See `Coder`."""

    def __init__(self, model: ModelFile, device: str, style: Style) -> None:
        self._model, self._device, self._style = model, device, style
        if style == "vivid":
            model.vivid_content()  # an error before all the work
        self._codec = Codec(select.open_backend(model, device, vivid=style == "vivid"))

    def encode(self, pictures: list[np.ndarray], aim: Aim) -> list[rate.Stream]:
        self._model.refuse_letterbox(aim.letterbox)
        if aim.room is None:
            return rate.at_quality(self._codec, pictures, aim.quality, aim.focus)
        effort = EFFORTS[aim.effort] if aim.focus is None else UNSEARCHED
        improve = self._improver(aim.effort, effort.rounds) if effort.rounds else None
        return rate.at_bytes(self._codec, pictures, aim.room, effort, improve, aim.focus)

    def _improver(self, effort: int, rounds: int) -> rate.Improve:
        """The gradient search of the model, on torch whatever the encoder runs on."""
        backend = select.open_torch(self._model, self._device, user=f"effort {effort}")
        from ..search.gradient_search import improved

        def improve(pixels: np.ndarray, best: Candidate) -> tuple[bytes, Tokens]:
            return improved(backend, pixels, best, rounds)

        return improve

    def alike(self, tokens: Tokens) -> Hashable:
        return self._codec.alike(tokens)

    def decode(self, batch: list[Tokens], octaves: int = 0) -> list[np.ndarray]:
        if self._style == "vivid":
            backend, pictures = self._codec.backend, self._codec.decode_many(batch)
            colours = [backend.to_image(repaint(backend, *one)) for one in zip(pictures, batch, strict=True)]
            colours = [mean(colour) if tokens.grey else colour for colour, tokens in zip(colours, batch, strict=True)]
        else:
            colours = self._codec.images(batch, octaves)
        return [self._pixels(colour, tokens, octaves) for colour, tokens in zip(colours, batch, strict=True)]

    def _pixels(self, colour: np.ndarray, tokens: Tokens, octaves: int) -> np.ndarray:
        """Decoded colour uint8 [H, W, 1 or 3], with its alpha."""
        pixels = merge(colour, self._codec.alpha_image(tokens, octaves))
        return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
