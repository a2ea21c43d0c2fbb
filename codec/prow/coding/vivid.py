"""The vivid style: after decoding, a second network repaints the picture so that it looks sharper than the mean.

The tokens and the faithful picture stay as they are, since later passes build on the latter; any file can be shown
either way. The network is `prow.networks.vivid.Vivid`.
"""

from __future__ import annotations

import math

import numpy as np

from ..backends.base import Backend, Pictures
from ..entropy.model import StreamSpec
from ..format.config import STEPS, STEPS_PER_OCTAVE, VIVID_REACH, step_size
from ..format.geometry import strips
from ..format.tokens import Tokens

_STRIP = 1 << 19  # px that go through the network at once, about


def condition(tokens: Tokens, spec: StreamSpec) -> tuple[float, float]:
    """What the network is told of a file: the step that it ends with, and how many tokens there are for how many px."""
    count = sum(int(part.counts.sum(dtype=int)) for part in tokens.passes)
    share = (count + 1) / (tokens.width * tokens.height)
    return math.log2(step_size(_last_step_index(tokens, spec))) / 3 - 2, math.log2(share) / 4 + 2


def _last_step_index(tokens: Tokens, spec: StreamSpec) -> int:
    """Step index of the last pass with tokens, in units of full resolution, where the same detail has twice the
    coefficient that it has a level below; that of the first pass if there are none."""
    coded = tokens.coded
    pass_ = spec.passes[coded[-1] if coded else 0]
    index = pass_.step_index(spec.model.config.usual_base if tokens.base is None else tokens.base)
    return min(index + STEPS_PER_OCTAVE * pass_.octaves, STEPS - 1)


def grain(height: int, width: int) -> np.ndarray:
    """Fixed white noise, float32 [H, W], -1 to 1: the same on every machine."""
    y = np.arange(height, dtype=np.uint32)[:, None]
    x = y * np.uint32(0x9E3779B1) + np.arange(width, dtype=np.uint32) * np.uint32(0x85EBCA77)
    for shift, factor in ((15, 0x2C1B3C6D), (12, 0x297A2D39)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    return (x >> np.uint32(16)).astype(np.float32) / 32767.5 - 1


def repaint(backend: Backend, picture: Pictures, tokens: Tokens) -> Pictures:
    """A decoded picture [C, H, W] of these tokens in the vivid style, in strips so that memory stays bounded."""
    told = condition(tokens, StreamSpec(tokens.width, tokens.height, backend.model))
    height, width = picture.shape[-2:]
    noise = grain(height, width)
    painted = backend.concatenate([picture])
    for given, kept in strips(height, max(1, _STRIP // width), VIVID_REACH):
        strip = backend.repaint(picture[None, :, given], noise[given], told)[0][:, kept]
        top = given.start + kept.start
        painted[:, top : top + strip.shape[1]] = strip
    return painted
