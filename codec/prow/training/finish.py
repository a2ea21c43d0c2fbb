"""From trained weights to a model: real encodes of training photos, and tables fitted to what they send."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
from PIL import Image

from ..codec import Codec, Wanted
from ..geometry import every_other, passes
from ..tables import Tables
from ..tokenizer import Tokenizer
from .contexts_fit import Observed, fit_contexts, fit_static, observe
from .data import find_sources

SCALES = (0.25, 0.5, 1.0, 1.0)  # of the photos, so that tables see small and large pictures
COMMON, RARE = (32, 54), (12, 58)  # lowest and highest base steps: mostly those of small files
# Two pictures of three are tiny, of this long side in px, since they are quick and the coarse levels have few integers.
TINY, TINY_STEPS = (40, 200), (24, 50)
ENOUGH = 4_000_000  # integers
PLANS = ((0, True), (0, True), (0, False), (1, True), (1, False))  # of `every_other`: phase, lowest


def fit_tables(
    model: Tokenizer, tables: Tables, data: Path, minutes: float, *, contexts: bool, seed: int = 1
) -> Tables:
    """Tables for a model's real streams: first the static ones, which price the encoder's choices, then contexts.

    Encodes training photos for `minutes` in two goes, a short one with the prices it was given, a long one with
    better ones.
    """
    for attempt, share in enumerate((0.25, 0.75)):
        observed = _observe_photos(model, tables, data, minutes * share, seed + attempt)
        tables = fit_static(tables, observed)
    return fit_contexts(tables, observed) if contexts else tables


def _observe_photos(model: Tokenizer, tables: Tables, data: Path, minutes: float, seed: int) -> Observed:
    codec = Codec(model, tables)
    photos, _ = find_sources(data)
    rng = random.Random(seed)
    observed, count = [], 0
    until = time.monotonic() + 60 * minutes
    while count < ENOUGH and (time.monotonic() < until or not count):
        photo = rng.choice(photos).open()
        if rng.random() < 2 / 3:
            scale, base = rng.uniform(*TINY) / max(photo.size), rng.randint(*TINY_STEPS)
        else:
            scale, base = rng.choice(SCALES), rng.randint(*(COMMON if rng.random() < 0.7 else RARE))
        size = max(8, round(photo.width * scale)), max(8, round(photo.height * scale))
        if base < 34 and size[0] * size[1] > 250**2:  # the many integers of a fine step teach little each
            continue
        pixels = np.asarray(photo.resize(size, Image.Resampling.LANCZOS))
        phase, lowest = rng.choice(PLANS)
        left_out = every_other(passes(*size, model.config), phase, lowest=lowest)
        wanted = Wanted(base, codec.targets(pixels), left_out=left_out)
        (coded,) = codec.encode_many(size, [wanted], refine=rng.random() < 0.25)
        observed.append(observe(coded.tokens, model.config, tables))
        count += len(observed[-1].integers)
    return Observed.join(observed)
