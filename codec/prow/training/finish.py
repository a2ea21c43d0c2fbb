"""From trained weights to a model: real encodes of training photos, and tables fitted to what they send."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
from PIL import Image

from ..backends.torch_backend import TorchBackend
from ..coding.codec import Codec, Wanted
from ..entropy.model import Model
from ..entropy.tables import Tables
from ..format.geometry import passes
from ..networks.tokenizer import Tokenizer
from .data import find_sources
from .tables_fit import Observed, fit_contexts, fit_static, observe

# Share of the pictures, their long sides in px, and how far their bases are from the usual one. Small pictures
# are quick, and coarse levels have few integers; large ones are what most files are of, and look different at the same
# step. The last two are rare files.
SIZES = (
    (0.32, (32, 220), (-5, 4)),
    (0.2, (220, 500), (-5, 4)),
    (0.4, (500, 1024), (-5, 4)),
    (0.05, (32, 420), (-20, -5)),
    (0.03, (32, 1024), (4, 16)),
)
REFINED = 0.35  # share of pictures that go on at full resolution, up to any of the refining passes
MOST = 6000  # integers of a kind of pass and picture, so that full resolution does not outweigh the rest
ENOUGH = 24_000_000  # integers


def fit_tables(network: Tokenizer, tables: Tables, data: Path, minutes: float, *, seed: int = 1) -> Tables:
    """Tables for a model's real streams: first the static ones, which price the encoder's choices, then contexts.

    Encodes training photos for `minutes` in two goes, a short one with the prices it was given, a long one with
    better ones.
    """
    for attempt, share in enumerate((0.25, 0.75)):
        observed = _observe_photos(network, tables, data, minutes * share, seed + attempt)
        tables = fit_static(tables, observed)
    return fit_contexts(tables, observed) if network.config.contexts else tables


def _observe_photos(network: Tokenizer, tables: Tables, data: Path, minutes: float, seed: int) -> Observed:
    config, model = network.config, Model(network.config, tables)
    codec = Codec(TorchBackend(model, network))
    photos, _ = find_sources(data)
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    observed, count = [], 0
    until = time.monotonic() + 60 * minutes
    while count < ENOUGH and (time.monotonic() < until or not count):
        photo = rng.choice(photos).open()
        _, sides, offsets = rng.choices(SIZES, [share for share, *_ in SIZES])[0]
        scale = min(rng.uniform(*sides) / max(photo.size), 1)
        base = config.usual_base + rng.randint(*offsets)
        width, height = (max(8, round(n * scale)) for n in photo.size)
        pixels = np.asarray(photo.resize((width, height), Image.Resampling.LANCZOS))
        refining = len(config.refine_shifts)
        unused = refining if rng.random() > REFINED else rng.randrange(refining)
        targets = codec.backend.targets(pixels, len(passes(width, height, config)) - unused)
        (coded,) = codec.encode_many((width, height), [Wanted(base, targets)])
        observed.append(observe(coded.tokens, model).thinned(numbers, MOST))
        count += len(observed[-1].integers)
    return Observed.join(observed)
