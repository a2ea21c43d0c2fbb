"""Fits the context shifts and the bank of a model to the tokens of training pictures.

The probability of an integer is modelled by one number s, the logit of 0: the rank's own, plus a shift from each
context table; magnitudes are geometric with a ratio that is a learned function of s. After a gradient fit of that
model, everything is rounded to integers and the bank is counted anew from the symbols that fall into each class.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Config
from ..contexts import PassContext, groups, shifted
from ..geometry import passes
from ..stream import Layout, Tokens
from ..tables import SYMBOLS, Tables, to_symbols
from .statistics import GO_LOGITS, ZERO_LOGITS, frequencies, symbol_weights, tail_ratio

SPACING = float(ZERO_LOGITS[1] - ZERO_LOGITS[0])
FLAG_SPACING = float(GO_LOGITS[1] - GO_LOGITS[0])
COLUMNS = ("kind", "step", "rank", "token", "own", "others", "so_far", "below", "symbol")
FLAG_COLUMNS = ("kind", "step", "token", "around", "below", "so_far", "flag")


def observe(tokens: Tokens, config: Config, tables: Tables) -> tuple[np.ndarray, np.ndarray]:
    """What the coder sees of an image: integers [n, 9] (COLUMNS) and flags [m, 7] (FLAG_COLUMNS), int16."""
    assert tokens.base is not None
    integers, flags, below = [], [], None
    for step, part in zip(passes(tokens.width, tokens.height, config), tokens.passes, strict=True):
        grid = step.step_index(tokens.base)
        layout = Layout(step.level, config, tables.order[step.kind])
        known = PassContext(step, grid, config, tables, below)
        active = np.arange(step.level.tiles)
        for token in range(config.tokens):
            active = active[layout.last[active] > token]
            if not len(active):
                break
            around, own = known.flag_features(token, active)
            go = part.counts[active] > token
            flags.append(_rows(step.kind, grid, token, around, known.below[active], own, go))
            active = active[go]
            known.go_on(token, active)
            for start, end in groups(config, token):
                rank, tile = layout.positions(active, start, end)
                symbols = to_symbols(part.values[tile, rank])[0]
                features = known.features(tile, *known.activity(rank, tile))
                integers.append(_rows(step.kind, grid, rank, token, *features, symbols))
                known.update(rank, tile, symbols)
        below = known
    return np.concatenate(integers), np.concatenate(flags)


def _rows(*columns: int | np.ndarray) -> np.ndarray:
    return np.stack(np.broadcast_arrays(*columns), axis=1).astype(np.int16)


class ShiftModel(nn.Module):
    """The logit of 0 of an integer as its rank's own plus shifts; in units of the bank's spacing."""

    def __init__(self, tables: Tables) -> None:
        super().__init__()
        self.base = nn.Parameter(torch.from_numpy(tables.classes.astype(np.float32)))
        self.near = nn.Parameter(torch.from_numpy(tables.near.astype(np.float32)))
        self.tile = nn.Parameter(torch.from_numpy(tables.tile.astype(np.float32)))
        self.below = nn.Parameter(torch.from_numpy(tables.below.astype(np.float32)))
        ratios = torch.tensor([tail_ratio(z) for z in ZERO_LOGITS])
        self.tail = nn.Parameter(torch.logit(ratios))  # per class

    def bits(self, rows: Tensor) -> Tensor:
        """rows [n, 9] -> mean bits an integer."""
        kind, step, rank, token, own, others, so_far, below, symbol = rows.long().T
        s = self.base[kind, step, rank] + self.near[kind, token, own, others]
        s = (s + self.tile[kind, token, so_far] + self.below[kind, token, below]).clamp(0, len(ZERO_LOGITS) - 1.001)
        logit = s * SPACING + ZERO_LOGITS[0]
        low = s.floor().long()
        tail = torch.lerp(self.tail[low], self.tail[low + 1], s - low)
        magnitude = _middle(symbol)
        other = F.softplus(logit) + F.softplus(tail) - (magnitude - 1) * F.logsigmoid(tail)
        return torch.where(symbol == 0, F.softplus(-logit), other).mean() / np.log(2)


def _middle(symbol: Tensor) -> Tensor:
    """A typical magnitude of a symbol."""
    bucket = (symbol + 1) // 2
    octave = torch.div(bucket - 8, 2, rounding_mode="floor") + 3
    large = 2.0**octave * (1.25 + 0.5 * ((bucket - 8) % 2))
    return torch.where(bucket < 8, bucket.float(), large)


class FlagModel(nn.Module):
    """The logit of continue, likewise."""

    def __init__(self, tables: Tables) -> None:
        super().__init__()
        self.go = nn.Parameter(torch.from_numpy(tables.go.astype(np.float32)))
        self.flag_around = nn.Parameter(torch.from_numpy(tables.flag_around.astype(np.float32)))
        self.flag_own = nn.Parameter(torch.from_numpy(tables.flag_own.astype(np.float32)))

    def bits(self, rows: Tensor) -> Tensor:
        """rows [m, 7] -> mean bits a flag."""
        kind, step, token, around, below, own, flag = rows.long().T
        s = self.go[kind, step, token] + self.flag_around[kind, token, around, below] + self.flag_own[kind, token, own]
        return F.binary_cross_entropy_with_logits(s * FLAG_SPACING + GO_LOGITS[0], flag.float()) / np.log(2)


def _descend(model: ShiftModel | FlagModel, rows: np.ndarray, epochs: int, batch: int = 1 << 15) -> None:
    data = torch.from_numpy(rows)
    free = [p for p in model.parameters() if p.requires_grad]
    start = [p.detach().clone() for p in free]
    optimiser = torch.optim.Adam(free, lr=0.15)
    steps = epochs * max(1, len(data) // batch)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, steps)
    for _ in range(steps):
        loss = model.bits(data[torch.randint(0, len(data), (batch,))])
        pull = sum((p - s).square().sum() for p, s in zip(free, start, strict=True))
        (loss + 1e-7 * pull).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        schedule.step()


def fit(tables: Tables, integers: np.ndarray, flags: np.ndarray, *, contexts: bool, epochs: int = 6) -> Tables:
    """Tables fitted to observations: ranks' own classes, odds and bank, and with contexts the shifts.

    Without contexts all shifts stay zero, and the classes found are also the encoder's prices.
    """
    shifts, odds = ShiftModel(tables), FlagModel(tables)
    if not contexts:
        for table in (shifts.near, shifts.tile, shifts.below, odds.flag_around, odds.flag_own):
            table.requires_grad_(False)
    _descend(shifts, integers, epochs)
    _descend(odds, flags, epochs)
    fitted = dataclasses.replace(
        tables,
        classes=_integers(shifts.base, np.uint8, len(ZERO_LOGITS) - 1),
        near=_integers(shifts.near, np.int8),
        tile=_integers(shifts.tile, np.int8),
        below=_integers(shifts.below, np.int8),
        go=_integers(odds.go, np.uint8, len(GO_LOGITS) - 1),
        flag_around=_integers(odds.flag_around, np.int8),
        flag_own=_integers(odds.flag_own, np.int8),
    )
    if not contexts:
        fitted = dataclasses.replace(fitted, price_classes=fitted.classes, price_go=fitted.go)
    return dataclasses.replace(fitted, bank=_bank(fitted, integers, torch.sigmoid(shifts.tail).detach().numpy()))


def _integers(values: Tensor, dtype: type, highest: int = 127) -> np.ndarray:
    lowest = 0 if dtype is np.uint8 else -127
    return values.detach().round().clamp(lowest, highest).numpy().astype(dtype)


def _bank(tables: Tables, integers: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """Frequencies counted per class, with the parametric model as 300 symbols' worth of prior; + and - alike."""
    kind, step, rank, token, own, others, so_far, below, symbol = integers.astype(np.int64).T
    base = tables.classes[kind, step, rank]
    classes = shifted(tables, kind, token, base, (own, others, so_far, below))
    counts = np.zeros((len(ZERO_LOGITS), SYMBOLS))
    np.add.at(counts, (classes, symbol), 1)
    both = (counts[:, 1::2] + counts[:, 2::2]) / 2
    counts[:, 1::2], counts[:, 2::2] = both, both
    prior = np.stack([symbol_weights(z, r) for z, r in zip(ZERO_LOGITS, ratios, strict=True)])
    blended = (counts + 300 * prior) / (counts.sum(1, keepdims=True) + 300)
    zero = np.maximum.accumulate(blended[:, 0])  # classes stay in order of the probability of 0
    blended[:, 1:] *= ((1 - zero) / (1 - blended[:, 0]))[:, None]
    blended[:, 0] = zero
    return np.stack([frequencies(b) for b in blended])
