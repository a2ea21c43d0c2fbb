"""Analysis by synthesis: tokens are chosen again by what the whole decoder makes of them.

The first choice of tokens weighs each coefficient by itself, as if the decoder were linear and no pass followed. Here
the gradient of the error of the last level that matters, taken through all networks, says which integers should rather
be one more or one less; the most promising of these changes are made together, the stream is written and cut, and they
are kept if the picture got better (`Backend.log_distortion`); if not, the next ones get their turn, fewer at once. The
gradient is that of the square error alone: lost structure is too far from linear in steps of 1.
Iterative inference of this kind is due to Campos et al. (arXiv:1906.01223); the proposals are a Newton step with the
curvature of the linear anchor.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from ..backends.torch_backend import TorchBackend
from ..coding.codec import KAPPA, Codec
from ..coding.planes import split
from ..coding.reconstruction import Reconstruction
from ..entropy.model import StreamSpec
from ..entropy.reader import read
from ..entropy.writer import written
from ..format.config import REFINE, step_size
from ..format.tokens import PassTokens, Tokens
from ..networks.quantise import Costs, quantise
from .base_search import Candidate, useful_passes

FIRST_SHARE = 0.25  # of the proposals that the first round tries
MOST = 0.9  # of the integers that are not 0 are in the passes whose integers may change
MAX_PIXELS = 1 << 21  # of the finest level that takes part; larger ones would take too much memory
SMALL = 1 << 16  # px of a level that gets twice the rounds of a large one, since they are quick

Change = tuple[int, int, int, int]  # pass, tile, rank, difference


def improved(backend: TorchBackend, pixels: np.ndarray, best: Candidate, rounds: int) -> tuple[bytes, Tokens]:
    """A stream with better tokens than the best one so far.

    Args:
        pixels: uint8 [H, W, 1 to 4]. rounds: how many sets of changes to try on large levels, more on small ones; each
            takes about as long as decoding four times, up to the last pass that matters.

    Returns:
        A stream of as many bytes, and what a reader gets of it; its distortion after the last pass that matters
        (`useful_passes`) is smaller, or it is the stream that came.
    """
    codec, tokens, received = Codec(backend), best.coded.tokens, best.tokens
    last, changing = useful_passes(received), useful_passes(received, MOST)
    spec, content = StreamSpec(tokens.width, tokens.height, backend.model), best.content
    finest = spec.passes[last]
    area = finest.level.width * finest.level.height
    some = any(part.some for part in received.passes[: changing + 1])
    if not some or finest.kind == REFINE or area > MAX_PIXELS:
        return content, received
    targets = backend.targets(split(pixels, spec.model.config.channels)[0], last + 1)
    least, share = codec.distortion(received, targets, last), FIRST_SHARE
    changes = _propose(backend, spec, tokens, received, targets[changing], changing)
    for _ in range(round(rounds * min(1 + SMALL / area, 4))):
        if not changes:
            break
        tried = max(1, round(share * len(changes)))
        candidate = _changed(tokens, changes[:tried])
        writer = written(candidate, backend.model)
        new = writer.bytes()[: len(content)]
        new_received = read(new, spec, writer.classes())
        distortion = codec.distortion(new_received, targets, last)
        if len(new) == len(content) and distortion < least:
            least, content, received, tokens = distortion, new, new_received, candidate
            share = min(1.0, 1.3 * share)
            changes = _propose(backend, spec, tokens, received, targets[changing], changing)
        elif share * len(changes) < 0.5:
            break
        else:
            changes, share = changes[tried:] + changes[:tried], 0.6 * share
    return content, received


@torch.inference_mode(False)
@torch.enable_grad()
def gradients(backend: TorchBackend, spec: StreamSpec, tokens: Tokens, target: Tensor, last: int) -> list[Tensor]:
    """How the square error of pass `last`, before its loop filter, changes with each integer that was sent.

    Args:
        tokens: with a base. target: [1, C, H, W] of the level of pass `last`.

    Returns:
        For each pass up to `last` the derivative of the mean square error by its integers, [tiles, K].
    """
    assert tokens.base is not None
    integers = [
        torch.from_numpy(part.values.astype(np.float32)).to(backend.device).requires_grad_()
        for part in tokens.passes[: last + 1]
    ]
    pictures = Reconstruction(dataclasses.replace(backend, gradients=True), [tokens.base])
    for pass_, part, values in zip(spec.passes, tokens.passes, integers, strict=False):
        pictures.predict(pass_)
        pictures.receive([PassTokens(part.counts, values)])  # type: ignore[arg-type] - a tensor
    error = (pictures.unfiltered() - target.clone()).square().mean()
    return list(torch.autograd.grad(error, integers, materialize_grads=True))


def _propose(
    backend: TorchBackend, spec: StreamSpec, tokens: Tokens, received: Tokens, target: Tensor, last: int
) -> list[Change]:
    """Integers that should be one more or one less by gradient and price, the most promising first.

    Gradients are those at the received tokens, and only these are changed.
    """
    assert tokens.base is not None
    proposals: list[tuple[float, Change]] = []
    for index, gradient in enumerate(gradients(backend, spec, received, target, last)):
        pass_, part, counts = spec.passes[index], tokens.passes[index], received.passes[index].counts
        if not counts.any():
            continue
        # second derivative of the mean square error, were the decoder linear: the transform is orthonormal
        size = spec.model.config.channels * pass_.level.width * pass_.level.height
        curvature = 2 * step_size(pass_.step_index(tokens.base)) ** 2 / size
        values = torch.from_numpy(part.values.astype(np.float32)).to(backend.device)
        wanted = values - gradient / curvature
        costs = Costs(*backend.prices(pass_, tokens.base)[:3])
        better = quantise(wanted, costs, KAPPA)[0].clamp(values - 1, values + 1)
        gain = (better - wanted).square() - (values - wanted).square()
        gain = (gain + KAPPA * (costs.bits(better) - costs.bits(values))) * curvature
        sent = torch.from_numpy(spec.model.layout(pass_, grey=tokens.grey).sent(counts)).to(backend.device)
        tile, rank = torch.nonzero(sent & (better != values) & (gain < 0), as_tuple=True)
        columns = (gain[tile, rank], tile, rank, (better - values)[tile, rank])
        rows = zip(*(column.tolist() for column in columns), strict=True)
        proposals += [(g, (index, t, r, int(d))) for g, t, r, d in rows]
    return [change for _, change in sorted(proposals)]


def _changed(tokens: Tokens, changes: list[Change]) -> Tokens:
    values = [part.values for part in tokens.passes]
    for index in {change[0] for change in changes}:
        values[index] = values[index].copy()
    for index, tile, rank, difference in changes:
        values[index][tile, rank] += difference
    parts = tuple(PassTokens(part.counts, v) for part, v in zip(tokens.passes, values, strict=True))
    return dataclasses.replace(tokens, passes=parts)
