"""Coefficients to integers and prefix lengths, by measured cost in bits (rate-distortion optimised quantisation).

All distortions are in squared quantiser steps, in the anchor's orthonormal domain; `kappa` is the price of a bit in
the same unit, so a Lagrangian is distortion + kappa * bits. At high rate the slope of a uniform quantiser,
6 dB a bit, gives kappa = 2 ln 2 / 12 = 0.116; real pictures want a little more.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

MAX_MAGNITUDE = 2**15 - 1


@dataclasses.dataclass(frozen=True)
class Costs:
    """Bits of an integer at each rank: `zero` for 0, `one` for +-1, `more` for each further unit. [B, K] or [1, K]."""

    zero: Tensor
    one: Tensor
    more: Tensor

    def bits(self, values: Tensor) -> Tensor:
        """Bits of integers, and their continuous relaxation in between: linear from table entry to table entry."""
        magnitude = values.abs()
        low = self.zero + (self.one - self.zero) * magnitude.clamp(max=1)
        return low + self.more * (magnitude - 1).clamp(min=0)


def quantise(ratios: Tensor, costs: Costs, kappa: float | Tensor) -> tuple[Tensor, Tensor]:
    """The best integers, each coefficient by itself: exact, since their prices do not depend on each other, as long
    as a further unit costs less than it gains (kappa * more <= 1; 12 bits at kappa 0.08, tables stay below 7).

    Args:
        ratios: [B, K] coefficients in quantiser steps.

    Returns:
        values [B, K], and their Lagrangian minus that of sending nothing, [B, K] (negative: worth sending).
    """
    magnitude = ratios.abs()
    floor = magnitude.floor().clamp(max=MAX_MAGNITUDE - 1)
    value, price = torch.zeros_like(ratios), magnitude.square() + kappa * costs.zero
    for candidate in (floor, floor + 1):
        other = (magnitude - candidate).square() + kappa * costs.bits(candidate)
        value, price = torch.where(other < price, candidate, value), torch.minimum(other, price)
    return value * ratios.sign(), price - magnitude.square()


def choose_prefix(
    gains: Tensor, ends: Tensor, go_bits: Tensor, stop_bits: Tensor, kappa: float | Tensor, last: Tensor
) -> Tensor:
    """How many tokens each tile sends: the prefix with the least Lagrangian.

    Args:
        gains: [B, K] from `quantise`, zero where a tile has no coefficient. ends: [N] rank after each token's last.
        go_bits, stop_bits: [B or 1, N] cost of the continue flag before each token. last: [B] tokens a tile can have.

    Returns:
        [B] counts, 0 to N.
    """
    total = gains.cumsum(1)[:, ends - 1]  # [B, N]
    total = total + kappa * go_bits.cumsum(1)
    stops = torch.where(torch.arange(1, len(ends), device=ends.device) < last[:, None], stop_bits[:, 1:], 0.0)
    stops = torch.cat([stops, torch.zeros_like(total[:, :1])], dim=1)  # after the last token no flag is sent
    total = total + kappa * stops
    numbers = torch.arange(1, len(ends) + 1, device=ends.device)
    total = total.masked_fill(numbers > last[:, None], torch.inf)
    nothing = (kappa * stop_bits[:, :1]).expand(total.shape[0], 1)
    return torch.cat([nothing, total], dim=1).argmin(1)


def keep_prefix(values: Tensor, counts: Tensor, ends: Tensor) -> Tensor:
    """Zero what lies beyond each tile's prefix: values [B, K], counts [B]."""
    kept = torch.cat([torch.zeros_like(ends[:1]), ends])[counts]
    return values * (torch.arange(values.shape[1], device=values.device) < kept[:, None])
