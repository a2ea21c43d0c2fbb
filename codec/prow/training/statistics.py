"""Running statistics of the integers a model sends: prices for training, and in the end the model's tables."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..entropy.tables import AROUND, DIRECT, SYMBOLS, TILE_BINS, TOTAL, Tables, input_count
from ..format.config import KIND_NAMES, STEPS, Config
from ..networks.quantise import Costs

ZERO_LOGITS = np.arange(-6.0, 9.01, 0.15)  # the bank: a class per logit of the probability of 0
GO_LOGITS = np.arange(-9.0, 9.01, 0.2)  # the odds: a class per logit of the probability of continue


class Statistics:
    """Decayed counts per kind, step and rank, with the prices and tables that follow from them.

    The model of an integer has two parameters: the probability of 0, and the mean magnitude m of non-zeros, which
    are geometric: p(n) ~ (1 - 1/m) ** n.
    """

    def __init__(self, config: Config, device: torch.device | str) -> None:
        kinds, k, n = len(KIND_NAMES), config.coefficients, config.tokens
        self.inputs = input_count(config)
        self.sent = torch.zeros(3, kinds, STEPS, k, device=device)  # sent, of these non-zero, sum of magnitudes
        self.flags = torch.zeros(2, kinds, STEPS, n, device=device)  # flags, of these continue
        self.order = torch.arange(k, device=device).repeat(kinds, 1)
        self._prices: tuple[Tensor, ...] | None = None

    def state(self) -> dict[str, Tensor]:
        return {"sent": self.sent, "flags": self.flags, "order": self.order}

    def load(self, state: dict[str, Tensor]) -> None:
        for name, tensor in state.items():
            getattr(self, name).copy_(tensor)
        self._prices = None

    def decay(self, factor: float) -> None:
        self.sent *= factor
        self.flags *= factor

    def add(self, kind: int, indices: Tensor, values: Tensor, sent: Tensor, counts: Tensor, last: Tensor) -> None:
        """indices [B], of steps; values, sent (bool) [B, K]; counts [B] tokens sent of at most last [B]."""
        for i, part in enumerate((sent.float(), (sent & (values != 0)).float(), values.abs() * sent)):
            self.sent[i, kind].index_add_(0, indices, part)
        numbers = torch.arange(self.flags.shape[-1], device=counts.device)
        asked = (numbers <= counts[:, None]) & (numbers < last[:, None])
        self.flags[0, kind].index_add_(0, indices, asked.float())
        self.flags[1, kind].index_add_(0, indices, (asked & (numbers < counts[:, None])).float())

    def refresh(self) -> None:
        """Prices anew from the counts."""
        self._prices = tuple(torch.as_tensor(p, device=self.sent.device) for p in self._fit())

    def prices(self, kind: int, indices: Tensor) -> tuple[Costs, Tensor, Tensor]:
        """Costs [B, K] of the integers at step indices [B], and bits [B, N] of continue and of stop."""
        if self._prices is None:
            self.refresh()
        assert self._prices is not None
        zero, size, go = (p[kind][indices] for p in self._prices)
        ratio = 1 - 1 / size
        one = 1 - (1 - zero).log2() - (1 - ratio).log2()
        more = (-ratio.log2()).clamp(min=0.05)
        return Costs(-zero.log2(), one, more), -go.log2(), -(1 - go).log2()

    def _fit(self) -> tuple[Tensor, Tensor, Tensor]:
        """Probability of 0 and mean magnitude of non-zeros [kinds, STEPS, K], probability of continue [..., N]."""
        near = torch.stack([_smooth(s, _NEAR) + 0.001 * _smooth(s, _FAR) for s in self.sent])
        wide = torch.stack([_blur_ranks(n) for n in near])  # the neighbourhood of a rank, as its prior
        prior = 8 * (wide + torch.tensor([1e-3, 1e-4, 1.5e-4], device=wide.device)[:, None, None, None])
        sent, nonzero, total = near + prior / (wide[0] + 1e-3)
        zero = (1 - nonzero / sent).clamp(0.005, 0.9999)
        size = (total / nonzero).clamp(1.01, 500)
        asked, went = torch.stack([_smooth(f, _NEAR) + 0.001 * _smooth(f, _FAR) for f in self.flags])
        go = ((went + 0.02) / (asked + 0.04)).clamp(0.0002, 0.9998)
        return zero, size, go

    def tables(self) -> Tables:
        """Integer tables with these statistics, without any context: the class closest to each rank's own."""
        zero, size, go = (t.double().cpu().numpy() for t in self._fit())
        ratios = np.array([tail_ratio(logit) for logit in ZERO_LOGITS])
        log_zero, log_other = np.log(sigmoid(ZERO_LOGITS)), np.log(sigmoid(-ZERO_LOGITS))
        start, further = log_other + np.log(1 - ratios), np.log(ratios)  # [C]
        share, more = (1 - zero).ravel()[:, None], (size - 1).ravel()[:, None]
        score = (1 - share) * log_zero + share * (start + more * further)  # [cells, C]
        classes = score.argmax(1).reshape(zero.shape).astype(np.uint8)
        bank = np.stack([frequencies(symbol_weights(z, r)) for z, r in zip(ZERO_LOGITS, ratios, strict=True)])
        flags = np.rint((np.log(go / (1 - go)) - GO_LOGITS[0]) / (GO_LOGITS[1] - GO_LOGITS[0]))
        kinds, _, n = go.shape
        flags = np.clip(flags, 0, len(GO_LOGITS) - 1).astype(np.uint8)
        return Tables(
            bank=bank,
            classes=classes,
            w1=np.zeros((self.inputs, 1), np.int16),
            b1=np.zeros(1, np.int32),
            w2=np.zeros((1, 1), np.int16),
            b2=np.zeros(1, np.int32),
            w3=np.zeros(1, np.int16),
            b3=np.zeros(1, np.int32),
            odds=np.clip(np.rint(sigmoid(GO_LOGITS) * TOTAL), 1, TOTAL - 1).astype(np.int32),
            go=flags,
            flag_around=np.zeros((kinds, n, AROUND, TILE_BINS), np.int8),
            flag_own=np.zeros((kinds, n, TILE_BINS), np.int8),
            order=self.order.cpu().numpy().astype(np.int32),
        )


_NEAR = torch.tensor([0.1, 0.4, 1.0, 0.4, 0.1])
_FAR = torch.exp(-0.5 * (torch.arange(-20, 21) / 6.0) ** 2)


def _smooth(counts: Tensor, kernel: Tensor) -> Tensor:
    """Convolve [kinds, STEPS, M] along the steps."""
    kinds, steps, m = counts.shape
    flat = counts.permute(0, 2, 1).reshape(-1, 1, steps)
    out = torch.nn.functional.conv1d(flat, kernel[None, None].to(counts.device), padding=len(kernel) // 2)
    return out.reshape(kinds, m, steps).permute(0, 2, 1)


def _blur_ranks(counts: Tensor) -> Tensor:
    """Mean over the 33 nearest ranks: [kinds, STEPS, K]."""
    padded = torch.nn.functional.pad(counts, (16, 16), mode="replicate")
    return torch.nn.functional.avg_pool1d(padded, 33, stride=1)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def tail_ratio(logit: float) -> float:
    """Ratio of the geometric non-zero magnitudes that goes with a probability of 0: a Laplacian, dead zone 0.6."""
    scale = 0.6 / np.log1p(np.exp(logit))  # 1 - p(0) = exp(-0.6 / scale)
    return float(np.clip(np.exp(-1 / scale), 0.05, 0.998))


def symbol_weights(logit: float, ratio: float) -> np.ndarray:
    """Probabilities of the 63 symbols: 0 by its logit, the rest two-sided geometric."""
    edges = [*range(1, DIRECT), *(int(2**e * half) for e in range(3, 15) for half in (1, 1.5)), 2**15]
    tail = ratio ** (np.array(edges, dtype=np.float64) - 1)  # p(magnitude >= edge | not 0)
    buckets = tail[:-1] - tail[1:]
    zero = 1 / (1 + np.exp(-logit))
    return np.concatenate([[zero], np.repeat(buckets / buckets.sum() * (1 - zero) / 2, 2)])


def frequencies(weights: np.ndarray) -> np.ndarray:
    """Probabilities -> integer frequencies, int32, each at least 1, sum 2**24."""
    freq = 1 + np.floor(weights * (TOTAL - SYMBOLS)).astype(np.int64)
    freq[0] += TOTAL - freq.sum()
    return freq.astype(np.int32)
