"""Models that are ready to turn pictures into tokens and back: with networks, on some device.

`open_coder` is the one place that knows how a model works; the public functions see a `Coder`.
"""

from __future__ import annotations

from ..errors import InputError
from ..external.model import ExternalModel
from ..options import STYLES, Style
from ..registry import AnyModel, ModelFile
from .base import Aim, Coder

__all__ = ["Aim", "Coder", "open_coder"]


def open_coder(model: AnyModel, device: str, style: Style = "faithful") -> Coder:
    """What encodes and decodes pictures of a model.

    Raises:
        InputError: an unknown style, or a device that cannot be used. ModelError: the model does not have the style.
    """
    if style not in STYLES:
        raise InputError(f"style {style!r} came, wanted one of {', '.join(map(repr, STYLES))}")
    if isinstance(model, ExternalModel):
        from .tiled import TiledCoder

        return TiledCoder(model, device, style)
    from .pyramid import PyramidCoder

    assert isinstance(model, ModelFile)
    return PyramidCoder(model, device, style)
