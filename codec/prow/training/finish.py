"""From trained weights to a model: real encodes of training photos, and tables fitted to what they send."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
from PIL import Image

from ..codec import Codec
from ..tables import Tables
from ..tokenizer import Tokenizer
from .contexts_fit import fit, observe
from .data import find_sources

SCALES = (0.25, 0.5, 1.0, 1.0)  # of the photos, so that tables see small and large pictures
BASES = (22, 60)  # lowest and highest base step
ENOUGH = 6_000_000  # integers


def fit_tables(
    model: Tokenizer, tables: Tables, data: Path, minutes: float, *, contexts: bool, seed: int = 1
) -> Tables:
    """Tables for a model's real streams: first the static ones, which price the encoder's choices, then contexts.

    Encodes training photos for `minutes` twice (once with the prices it was given, once with better ones).
    """
    static = tables
    for attempt in range(2):
        integers, flags = _observe_photos(model, static, data, minutes, seed + attempt)
        static = fit(static, integers, flags, contexts=False)
    return fit(static, integers, flags, contexts=True) if contexts else static


def _observe_photos(
    model: Tokenizer, tables: Tables, data: Path, minutes: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    codec = Codec(model, tables)
    photos, _ = find_sources(data)
    rng = random.Random(seed)
    integers, flags, count = [], [], 0
    until = time.monotonic() + 60 * minutes
    while count < ENOUGH and (time.monotonic() < until or not count):
        photo, scale = rng.choice(photos).open(), rng.choice(SCALES)
        size = max(8, round(photo.width * scale)), max(8, round(photo.height * scale))
        base = rng.randint(*BASES)
        if base < 34 and size[0] * size[1] > 250**2:  # the many integers of a fine step teach little each
            continue
        pixels = np.asarray(photo.resize(size, Image.Resampling.LANCZOS))
        tokens = codec.encode(pixels, base, refine=rng.random() < 0.25).tokens
        part, part_flags = observe(tokens, model.config, tables)
        integers.append(part)
        flags.append(part_flags)
        count += len(part)
    return np.concatenate(integers), np.concatenate(flags)
