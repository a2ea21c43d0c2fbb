"""What the networks are told about a pass."""

from __future__ import annotations

import torch
from torch import Tensor

from ..format.config import KIND_NAMES, STEPS, step_size


def step_tensor(indices: Tensor) -> Tensor:
    """Quantiser steps of step indices, same shape."""
    table = torch.tensor([step_size(i) for i in range(STEPS)], device=indices.device)
    return table[indices]


def pixel_scale(step: Tensor) -> Tensor:
    """Grey levels that one unit of a network's output is worth at a quantiser step."""
    return (step / 4).clamp(1, 24)


def condition(step: Tensor, kind: int | Tensor) -> Tensor:
    """What a network is told about a pass: step [B], kind (or an integer tensor []) -> [B, 1 + kinds]."""
    kinds = (torch.arange(len(KIND_NAMES), device=step.device) == kind).float()
    return torch.cat([(step.log2() / 3 - 1)[:, None], kinds.expand(step.shape[0], -1)], dim=1)
