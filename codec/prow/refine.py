"""Analysis by synthesis: tokens are chosen again by what the whole decoder makes of them.

The first choice of tokens (`prow.codec`) weighs each coefficient by itself, as if the decoder were linear and no
pass followed. Here the gradient of the final picture's error, taken through all networks, says which integers
should rather be one more or one less; the most promising of these changes are made together, the stream is written
and cut, and the change is kept if the picture got better. Iterative inference of this kind is due to Campos et al.
(arXiv:1906.01223); the proposals are a Newton step with the curvature of the linear anchor.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .codec import KAPPA, Codec, Coded
from .config import REFINE, step_size
from .geometry import passes
from .quantise import quantise
from .stream import Layout, PassTokens, Tokens, read, write
from .tiling import pyramid

FIRST_SHARE = 0.25  # of the proposals that the first round tries
MAX_PIXELS = 1 << 21  # of the finest level that takes part; larger ones would take too much memory


def refine(codec: Codec, pixels: np.ndarray, coded: Coded, room: int, rounds: int) -> Tokens | None:
    """Better tokens for a stream that is cut at `room` bytes.

    Args:
        pixels: uint8 [H, W, 3]. coded: what `Codec.encode` made of them. rounds: how many sets of changes to try; each
            takes about as long as decoding four times, up to the last pass that has tokens.

    Returns:
        Tokens whose stream's first `room` bytes give a smaller error than those of `coded` do after that pass; None
        if no change helped.
    """
    tokens = coded.tokens
    plan = passes(tokens.width, tokens.height, codec.config)
    levels = sum(p.kind != REFINE for p in plan)
    received = _received(codec, tokens, room)
    spoken = max((i for i, part in enumerate(received.passes) if part.counts.any()), default=0)
    last = min(spoken, levels - 1)
    if spoken >= levels or plan[last].level.width * plan[last].level.height > MAX_PIXELS:
        return None
    image = torch.from_numpy(np.array(pixels)).to(codec.device).permute(2, 0, 1)[None].float()
    target = pyramid(image, levels)[last]

    def error_of(received: Tokens) -> float:
        return float((codec.decode(received, last=last) - target[0]).square().mean())

    least, best, share = error_of(received), None, FIRST_SHARE
    changes = _propose(codec, tokens, received, target, last)
    for _ in range(rounds):
        if not changes:
            break
        candidate = _changed(tokens, changes[: max(1, round(share * len(changes)))])
        received = _received(codec, candidate, room)
        error = error_of(received)
        if error < least:
            least, best, tokens, share = error, candidate, candidate, min(1.0, 1.3 * share)
            changes = _propose(codec, tokens, received, target, last)
        elif share * len(changes) < 1:
            break
        else:
            share *= 0.4
    return best


Change = tuple[int, int, int, int]  # pass, tile, rank, difference


def _received(codec: Codec, tokens: Tokens, room: int) -> Tokens:
    """What a reader gets of a stream that is cut."""
    content = write(tokens, codec.config, codec.tables)[:room]
    return read(content, tokens.width, tokens.height, tokens.model_id, codec.config, codec.tables)


def _propose(codec: Codec, tokens: Tokens, received: Tokens, target: Tensor, last: int) -> list[Change]:
    """Integers that should be one more or one less by gradient and price, the most promising first.

    Gradients are those at the received tokens, and only these are changed.
    """
    assert tokens.base is not None
    plan = passes(tokens.width, tokens.height, codec.config)
    gradients = codec.gradients(received, target, last)
    found = []
    for index, gradient in enumerate(gradients):
        step, part, counts = plan[index], tokens.passes[index], received.passes[index].counts
        if not counts.any():
            continue
        grid = step.step_index(tokens.base)
        layout = Layout(step.level, codec.config, codec.tables.order[step.kind])
        # second derivative of the mean square error, were the decoder linear: the transform is orthonormal
        curvature = 2 * step_size(grid) ** 2 / (3 * step.level.width * step.level.height)
        values = torch.from_numpy(part.values.astype(np.float32)).to(codec.device)
        wanted = values - gradient / curvature
        costs = codec.prices(step.kind, grid)[0]
        better = quantise(wanted, costs, KAPPA)[0].clamp(values - 1, values + 1)
        gain = (better - wanted).square() - (values - wanted).square()
        gain = (gain + KAPPA * (costs.bits(better) - costs.bits(values))) * curvature
        kept = np.concatenate([[0], layout.ends])[counts]
        sent = torch.from_numpy(layout.exists & (np.arange(values.shape[1]) < kept[:, None])).to(codec.device)
        tile, rank = torch.nonzero(sent & (better != values) & (gain < 0), as_tuple=True)
        columns = (gain[tile, rank], tile, rank, (better - values)[tile, rank])
        found += [(g, (index, t, r, int(d))) for g, t, r, d in zip(*(c.tolist() for c in columns), strict=True)]
    return [change for _, change in sorted(found)]


def _changed(tokens: Tokens, changes: list[Change]) -> Tokens:
    values = [part.values for part in tokens.passes]
    for index in {c[0] for c in changes}:
        values[index] = values[index].copy()
    for index, tile, rank, difference in changes:
        values[index][tile, rank] += difference
    parts = tuple(PassTokens(part.counts, v) for part, v in zip(tokens.passes, values, strict=True))
    return Tokens(tokens.width, tokens.height, tokens.model_id, tokens.base, parts)
