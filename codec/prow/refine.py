"""Analysis by synthesis: tokens are chosen again by what the whole decoder makes of them.

The first choice of tokens (`prow.codec`) weighs each coefficient by itself, as if the decoder were linear and no
pass followed. Here the gradient of the error of the last level that matters, taken through all networks, says which
integers should rather be one more or one less; the most promising of these changes are made together, the stream is
written and cut, and they are kept if the picture got better (`prow.distortion`); if not, the next ones get their turn,
fewer at once. The gradient is that of the square error alone: lost structure is too far from linear in steps of 1.
Iterative inference of this kind is due to Campos et al. (arXiv:1906.01223); the proposals are a Newton step with the
curvature of the linear anchor.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .base_codec import KAPPA, BaseCodec, Coded
from .codec import Codec
from .config import REFINE, step_size
from .geometry import passes
from .quantise import quantise
from .stream import read, written
from .tokens import PassTokens, Tokens, layout_of

FIRST_SHARE = 0.25  # of the proposals that the first round tries
MOST = 0.9  # of the integers that are not 0 are in the passes whose integers may change
MAX_PIXELS = 1 << 21  # of the finest level that takes part; larger ones would take too much memory
SMALL = 1 << 16  # px of a level that gets twice the rounds of a large one, since they are quick


def refine(
    codec: BaseCodec, coded: Coded, received: Tokens, targets: list[Tensor], room: int, rounds: int
) -> tuple[bytes, Tokens]:
    """The stream of an encoder's result, cut at `room` bytes, with better tokens.

    Args:
        received: what a reader gets of the cut stream. targets: from `Codec.targets`. rounds: how many sets of changes
            to try on large levels, more on small ones; each takes about as long as decoding four times, up to the last
            pass that matters.

    Returns:
        A stream of `room` bytes, and what a reader gets of it; its distortion after the last pass that matters
        (`Tokens.depth`) is smaller, or it is the stream that came.

    Raises:
        TypeError: the codec knows no gradients.
    """
    if not isinstance(codec, Codec):
        raise TypeError(f"{type(codec).__name__} came, wanted a codec in torch, which has gradients")
    tokens, last, spoken = coded.tokens, received.depth(), received.depth(MOST)
    best = coded.content[:room], received
    plan = passes(tokens.width, tokens.height, codec.config)
    area = plan[last].level.width * plan[last].level.height
    said = any(part.counts.any() for part in received.passes[: spoken + 1])
    if not said or plan[last].kind == REFINE or area > MAX_PIXELS:
        return best
    least, share = codec.distortion(received, targets, last), FIRST_SHARE
    changes = _propose(codec, tokens, received, targets[spoken], spoken)
    for _ in range(round(rounds * min(1 + SMALL / area, 4))):
        if not changes:
            break
        tried = max(1, round(share * len(changes)))
        candidate = _changed(tokens, changes[:tried])
        writer = written(candidate, codec.config, codec.tables)
        content, classes = writer.bytes()[:room], writer.classes()
        received = read(content, tokens.width, tokens.height, tokens.model_id, codec.config, codec.tables, classes)
        distortion = codec.distortion(received, targets, last)
        if len(content) == room and distortion < least:
            least, best, tokens, share = distortion, (content, received), candidate, min(1.0, 1.3 * share)
            changes = _propose(codec, tokens, received, targets[spoken], spoken)
        elif share * len(changes) < 0.5:
            break
        else:
            changes, share = changes[tried:] + changes[:tried], 0.6 * share
    return best


Change = tuple[int, int, int, int]  # pass, tile, rank, difference


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
        layout = layout_of(step, codec.config, codec.tables)
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
