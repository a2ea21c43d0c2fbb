"""Models that are ready to turn pictures into tokens and back: with networks, on some device.

This is the one place that knows how a model works. The public functions see a `Coder` (`open_coder`), and how much it
would have to do (`work`).
"""

from __future__ import annotations

import numpy as np

from ..arguments import one_of
from ..coding import reconstruction
from ..entropy.model import StreamSpec
from ..external.model import ExternalModel
from ..format.limits import TILE_PIXEL, VIVID
from ..format.tokens import Tokens
from ..options import STYLES, Style
from ..registry import AnyModel, ModelFile
from .base import Aim, Coder

__all__ = ["Aim", "Coder", "open_coder", "work"]


def open_coder(model: AnyModel, device: str, style: Style = "faithful") -> Coder:
    """What encodes and decodes pictures of a model.

    Raises:
        InputError: an unknown style, or a device that cannot be used. ModelError: the model does not have the style.
    """
    one_of("style", style, STYLES)
    if isinstance(model, ExternalModel):
        from .tiled import TiledCoder

        return TiledCoder(model, device, style)
    from .pyramid import PyramidCoder

    assert isinstance(model, ModelFile)
    return PyramidCoder(model, device, style)


def work(model: AnyModel, tokens: Tokens, octaves: int = 0, style: Style = "faithful") -> int:
    """Nominal time to decode tokens of a model, in ns, without that to read them (`prow.format.limits`)."""
    if isinstance(model, ExternalModel):
        return TILE_PIXEL * model.tile**2 * int(np.count_nonzero(tokens.passes[0].counts))
    assert isinstance(model, ModelFile)
    repainted = VIVID * tokens.width * tokens.height if style == "vivid" else 0
    return repainted + reconstruction.work(tokens, StreamSpec(tokens.width, tokens.height, model), octaves)
