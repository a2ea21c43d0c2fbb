"""Coefficients to integers and prefix lengths, by measured cost in bits (rate-distortion optimised quantisation).

All distortions are in squared quantiser steps, in the anchor's orthonormal domain; `kappa` is the price of a bit in
the same unit, so a Lagrangian is distortion + kappa * bits (the lambda of the literature is kappa * step**2). At high
rate the slope of a uniform quantiser, 6 dB a bit, gives kappa = 2 ln 2 / 12 = 0.116.
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
    """The best integers, each coefficient by itself: exact, since their prices do not depend on each other.

    Args:
        ratios: [B, K] coefficients in quantiser steps.

    Returns:
        values [B, K], and their Lagrangian minus that of sending nothing, [B, K] (negative: worth sending).
    """
    magnitude, unit, nothing = ratios.abs(), kappa * costs.more, kappa * costs.zero
    # v + 1 is better than v where (m - v)**2 - (m - v - 1)**2 = 2 (m - v) - 1 > unit: this is the best v but for 0
    value = (magnitude + (1 - unit) / 2).floor().clamp(1, MAX_MAGNITUDE)
    price = value * (value - 2 * magnitude + unit) + kappa * costs.one - unit  # less the square of the magnitude
    return value * (price < nothing) * ratios.sign(), torch.minimum(price, nothing)


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
    # [B, N], as a product since ONNX Runtime takes long for a cumulative sum over all coefficients
    total = gains @ (torch.arange(gains.shape[1], device=ends.device)[:, None] < ends).to(gains.dtype)
    total = total + kappa * go_bits.cumsum(1)
    stops = torch.where(torch.arange(1, len(ends), device=ends.device) < last[:, None], stop_bits[:, 1:], 0.0)
    stops = torch.cat([stops, torch.zeros_like(total[:, :1])], dim=1)  # after the last token no flag is sent
    total = total + kappa * stops
    numbers = torch.arange(1, len(ends) + 1, device=ends.device)
    total = total.masked_fill(numbers > last[:, None], torch.inf)
    nothing = (kappa * stop_bits[:, :1]).expand(total.shape[0], 1)
    return torch.cat([nothing, total], dim=1).argmin(1)


def prefix_mask(counts: Tensor, ends: Tensor, ranks: int) -> Tensor:
    """bool [B, ranks]: the ranks in the first counts [B] tokens."""
    kept = torch.cat([torch.zeros_like(ends[:1]), ends])[counts]
    return torch.arange(ranks, device=ends.device) < kept[:, None]


def choose_tokens(
    ratios: Tensor,
    exists: Tensor,
    costs: Costs,
    flags: tuple[Tensor, Tensor],
    ends: Tensor,
    last: Tensor,
    kappa: float | Tensor,
) -> tuple[Tensor, Tensor]:
    """Integers and tokens of tiles by rate and distortion.

    Args:
        ratios: [B, K], from `Tokenizer.analyse`. exists: bool [B, K], the ranks that each tile has.
        flags: go_bits and stop_bits of `choose_prefix`. ends, last: likewise.

    Returns:
        values [B, K], also those of ranks beyond the tokens, and counts [B].
    """
    values, gains = quantise(ratios, costs, kappa)
    return values * exists, choose_prefix(gains * exists, ends, *flags, kappa, last)
