"""Fits a model's tables to the tokens of training pictures: first the ranks' own, then the context network's.

The probability of an integer is modelled by one number s, the logit of 0: the rank's own, plus a shift by context;
magnitudes are geometric with a ratio that is a learned function of s. After a gradient fit of that model, everything
is rounded to integers and the bank is counted anew from the symbols that fall into each class.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..entropy.context_model import PassContext, position_inputs, rest_of_network
from ..entropy.layout import Rounds
from ..entropy.model import Model, StreamSpec
from ..entropy.tables import SYMBOLS, Tables, to_symbols
from ..format.tokens import Tokens
from .descent import Descent
from .statistics import GO_LOGITS, ZERO_LOGITS, frequencies, symbol_weights, tail_ratio

SPACING = float(ZERO_LOGITS[1] - ZERO_LOGITS[0])
FLAG_SPACING = float(GO_LOGITS[1] - GO_LOGITS[0])
HIDDEN = 48  # width of the context network


@dataclasses.dataclass(frozen=True)
class Observed:
    """What the coder sees of pictures.

    Attributes:
        integers: int16 [n, 4], kind, step index, rank and symbol of each integer.
        inputs: int8 [n, `input_count`], what the context network is told about it.
        flags: int16 [m, 7], kind, step index, token, tiles around, bin before, bin of its own, and the flag.
    """

    integers: np.ndarray
    inputs: np.ndarray
    flags: np.ndarray

    @classmethod
    def join(cls, parts: list[Observed]) -> Observed:
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(cls)))

    def thinned(self, rng: np.random.Generator, most: int) -> Observed:
        """At most so many integers of each kind and step index of pass, drawn at random, and all flags."""
        _, which = np.unique(self.integers[:, :2], axis=0, return_inverse=True)
        shuffled = rng.permutation(len(which))
        grouped = shuffled[np.argsort(which[shuffled], kind="stable")]
        sizes = np.bincount(which)
        place = np.arange(len(grouped)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        kept = np.sort(grouped[place < most])
        return Observed(self.integers[kept], self.inputs[kept], self.flags)


def observe(tokens: Tokens, model: Model) -> Observed:
    """Every integer and every flag of an image, with their contexts."""
    assert tokens.base is not None
    integers, inputs, flags = [_rows(0, 0, 0, 0)[:0]], [], [_rows(*[0] * 7)[:0]]
    before: PassContext | None = None
    for pass_, part in zip(StreamSpec(tokens.width, tokens.height, model).passes, tokens.passes, strict=True):
        step_index, layout = pass_.step_index(tokens.base), model.layout(pass_)
        position = position_inputs(pass_, tokens.base, model, before.pass_ if before else None)
        inputs.append(np.zeros((0, position.shape[1] + 34), np.int8))
        if not part.some:
            continue
        context, rounds = PassContext(pass_, tokens.base, model, before, watch=True), Rounds(layout)
        for token in rounds:
            go = part.counts[rounds.tiles] > token
            flags.append(_rows(pass_.kind, step_index, token, *context.flag_features(token, rounds.tiles), go))
            tiles = rounds.go_on(go)
            context.go_on(token, tiles)
            for start, end in context.groups(token):
                rank, tile = layout.positions(tiles, start, end)
                symbols = to_symbols(part.values[tile, rank])[0]
                integers.append(_rows(pass_.kind, step_index, rank, symbols))
                told = np.concatenate([position[rank], context.context_inputs(rank, tile)], axis=1)
                inputs.append(told.astype(np.int8))
                context.update(rank, tile, symbols)
        before = context
    return Observed(*(np.concatenate(parts) for parts in (integers, inputs, flags)))


def _rows(*columns: int | np.ndarray) -> np.ndarray:
    """int16 [n, columns]"""
    return np.stack(np.broadcast_arrays(*(np.atleast_1d(column) for column in columns)), axis=1).astype(np.int16)


class IntegerModel(nn.Module):
    """The logit of 0 of an integer as its rank's own plus a shift; in units of the bank's spacing."""

    def __init__(self, tables: Tables) -> None:
        super().__init__()
        self.base = nn.Parameter(torch.from_numpy(tables.classes.astype(np.float32)))
        ratios = torch.tensor([tail_ratio(z) for z in ZERO_LOGITS])
        self.tail = nn.Parameter(torch.logit(ratios))  # per class

    def bits(self, rows: Tensor, shift: Tensor | float = 0.0) -> Tensor:
        """rows [n, 4] -> mean bits an integer."""
        kind, step_index, rank, symbol = rows.long().T
        s = (self.base[kind, step_index, rank] + shift).clamp(0, len(ZERO_LOGITS) - 1.001)
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


class ContextNetwork(nn.Module):
    """Inputs of an integer -> shift of its class. Learns in float32, then becomes integers."""

    def __init__(self, inputs: np.ndarray) -> None:
        super().__init__()
        sample = torch.from_numpy(inputs[:: max(1, len(inputs) // 100_000)]).float()
        self.mean, self.scale = sample.mean(0), 1 / sample.std(0, correction=0).clamp(min=0.5)
        self.first, self.second = nn.Linear(inputs.shape[1], HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.last = nn.Linear(HIDDEN, 1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, inputs: Tensor) -> Tensor:
        """int8 [n, inputs] -> [n], in classes."""
        hidden = F.relu(self.first((inputs.float() - self.mean) * self.scale))
        return self.last(F.relu(self.second(hidden)))[:, 0] * 8

    @torch.no_grad()
    def to_integers(self) -> dict[str, np.ndarray]:
        """The tables w1 to b3: weights in units of 2**-12, activations of 2**-6 (SPEC section 5.4)."""
        w1 = self.first.weight.double() * self.scale
        b1 = self.first.bias.double() - w1 @ self.mean.double()
        weights = {"w1": w1.T, "w2": self.second.weight.double().T, "w3": self.last.weight[0].double() * 8}
        # half a unit of what is cut off after each of the first two layers, so that these round
        b1, b2, b3 = b1 * 2**12 + 2**5, self.second.bias.double() * 2**18 + 2**11, self.last.bias.double() * 8 * 2**18
        limit = 2**15 - 1
        rounded = {n: (w * 2**12).round().clamp(-limit, limit).numpy().astype(np.int16) for n, w in weights.items()}
        return rounded | {n: b.round().numpy().astype(np.int32) for n, b in (("b1", b1), ("b2", b2), ("b3", b3))}


class FlagModel(nn.Module):
    """The logit of continue, likewise."""

    def __init__(self, tables: Tables) -> None:
        super().__init__()
        self.go = nn.Parameter(torch.from_numpy(tables.go.astype(np.float32)))
        self.flag_around = nn.Parameter(torch.from_numpy(tables.flag_around.astype(np.float32)))
        self.flag_own = nn.Parameter(torch.from_numpy(tables.flag_own.astype(np.float32)))

    def bits(self, rows: Tensor) -> Tensor:
        """rows [m, 7] -> mean bits a flag."""
        kind, step_index, token, around, before, own, flag = rows.long().T
        s = self.go[kind, step_index, token] + self.flag_around[kind, token, around, before]
        s = s + self.flag_own[kind, token, own]
        return F.binary_cross_entropy_with_logits(s * FLAG_SPACING + GO_LOGITS[0], flag.float()) / np.log(2)


def _descend_tables(model: IntegerModel | FlagModel, free: list[nn.Parameter], rows: np.ndarray) -> None:
    """Fit tables to rows; entries that no row asks for stay where they were."""
    data, batch = torch.from_numpy(rows), 1 << 15
    start = [p.detach().clone() for p in free]
    descent, updates = Descent(torch.optim.Adam(free, lr=0.15)), 6 * max(1, len(data) // batch)
    for update in range(updates):
        loss = model.bits(data[torch.randint(0, len(data), (batch,))])
        pull = sum((p - s).square().sum() for p, s in zip(free, start, strict=True))
        (loss + 1e-7 * pull).backward()
        descent.update(update / updates)


def fit_static(tables: Tables, observed: Observed) -> Tables:
    """The ranks' own classes and odds, and the bank, as they are best without contexts."""
    integers, flags = IntegerModel(tables), FlagModel(tables)
    _descend_tables(integers, [integers.base, integers.tail], observed.integers)
    _descend_tables(flags, [flags.go], observed.flags)
    fitted = dataclasses.replace(
        tables,
        classes=_integers(integers.base, np.uint8, len(ZERO_LOGITS) - 1),
        go=_integers(flags.go, np.uint8, len(GO_LOGITS) - 1),
    )
    return _with_bank(fitted, observed, integers)


def fit_contexts(tables: Tables, observed: Observed, epochs: int = 12) -> Tables:
    """The context network, the shifts of the flags, and the bank that goes with them, on top of `fit_static`."""
    inputs = observed.inputs.copy()
    kind, step_index, rank, _ = observed.integers.T
    inputs[:, 0] = tables.classes[kind, step_index, rank]
    integers, network, flags = IntegerModel(tables), ContextNetwork(inputs), FlagModel(tables)
    groups = [{"params": [integers.tail], "lr": 0.05}, {"params": network.parameters(), "lr": 3e-3}]
    rows, told, batch = torch.from_numpy(observed.integers), torch.from_numpy(inputs), 1 << 13
    descent, updates = Descent(torch.optim.Adam(groups)), epochs * max(1, len(rows) // batch)
    for update in range(updates):
        chosen = torch.randint(0, len(rows), (batch,))
        integers.bits(rows[chosen], network(told[chosen])).backward()
        descent.update(update / updates)
    _descend_tables(flags, [flags.flag_around, flags.flag_own], observed.flags)
    shifts = {n: _integers(getattr(flags, n), np.int8) for n in ("flag_around", "flag_own")}
    fitted = dataclasses.replace(tables, **network.to_integers(), **shifts)
    return _with_bank(fitted, Observed(observed.integers, inputs, observed.flags), integers)


def _integers(values: Tensor, dtype: type, highest: int = 127) -> np.ndarray:
    lowest = 0 if dtype is np.uint8 else -127
    return values.detach().round().clamp(lowest, highest).numpy().astype(dtype)


def _with_bank(tables: Tables, observed: Observed, model: IntegerModel) -> Tables:
    """Frequencies counted per class, with the parametric model as 300 symbols' worth of prior; + and - alike."""
    kind, step_index, rank, symbol = observed.integers.T
    classes = tables.classes[kind, step_index, rank].astype(np.int64)
    w1, b1, *_ = tables.weights
    for i in range(0, len(classes), 1 << 18):
        part = slice(i, i + (1 << 18))
        classes[part] += rest_of_network(observed.inputs[part].astype(np.float64) @ w1 + b1, tables)
    classes = np.clip(classes, 0, len(ZERO_LOGITS) - 1)
    counts = np.zeros((len(ZERO_LOGITS), SYMBOLS))
    np.add.at(counts, (classes, symbol), 1)
    both = (counts[:, 1::2] + counts[:, 2::2]) / 2
    counts[:, 1::2], counts[:, 2::2] = both, both
    ratios = torch.sigmoid(model.tail).detach().numpy()
    prior = np.stack([symbol_weights(z, r) for z, r in zip(ZERO_LOGITS, ratios, strict=True)])
    blended = (counts + 300 * prior) / (counts.sum(1, keepdims=True) + 300)
    zero = np.maximum.accumulate(blended[:, 0])  # classes stay in order of the probability of 0
    blended[:, 1:] *= ((1 - zero) / (1 - blended[:, 0]))[:, None]
    blended[:, 0] = zero
    return dataclasses.replace(tables, bank=np.stack([frequencies(b) for b in blended]))
