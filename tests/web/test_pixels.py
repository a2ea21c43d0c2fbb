"""Pixels of the decoder in JavaScript, which rests on weights in 13 bits, against those of Python."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from conftest import Draw
from PIL import Image

import prow
from format_spec import make_vectors

from .conftest import Decoder

MOST, MEAN = 2, 0.2  # of 255
# Random integers times 13,777 grey levels, which make all of the last bits of the weights count.
MOST_OF, MEAN_OF_NOISE = {"prow-small_1x40": 4}, 0.3
PIXELS = 10_000  # of a golden vector that is decoded here
GOLDEN = [row["file"].removesuffix(".prow") for row in json.loads(make_vectors.INDEX.read_text())["vectors"]]


def rgba(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGBA"))


def check_pixels(came: dict[str, Any], data: bytes, most: int = MOST, mean: float = MEAN, **options: Any) -> None:
    assert "error" not in came, came
    wanted = rgba(prow.decode(data, **options))
    assert (came["height"], came["width"]) == wanted.shape[:2]
    pixels = np.frombuffer(base64.b64decode(came["data"]), np.uint8).reshape(wanted.shape)
    difference = np.abs(pixels.astype(int) - wanted)
    assert difference.max() <= most and difference.mean() < mean, (difference.max(), difference.mean())


def test_golden_vectors(decoder: Decoder, built: object) -> None:
    files = {name: (make_vectors.GOLDEN / f"{name}.prow").read_bytes() for name in GOLDEN}
    some = {name: data for name, data in files.items() if (info := prow.inspect(data)).width * info.height <= PIXELS}
    assert len(some) > 0.8 * len(files)
    asked = [{"ask": "decode", "model": name.split("_")[0], "data": data} for name, data in some.items()]
    for (name, data), came in zip(some.items(), decoder.ask(asked), strict=True):
        check_pixels(came, data, MOST_OF.get(name, MOST), MEAN_OF_NOISE if name in MOST_OF else MEAN)


def test_drawn_pictures_whole_and_cut(decoder: Decoder, built: object, draw: Draw) -> None:
    """With loop filters behind the last token, and without."""
    data = prow.encode(draw(150, 110, 3), bytes=900)
    tall = prow.encode(draw(20, 500, 4), bytes=500)
    alpha = np.dstack([draw(70, 50, 5), draw(70, 50, 6)[:, :, :1]])
    cases = [data, data[:60], data[:13], tall, prow.placeholder(draw(64, 64, 7)), prow.encode(alpha, bytes=500)]
    asked = [{"ask": "decode", "model": "prow-small", "data": one} for one in cases]
    for one, came in zip(cases, decoder.ask(asked), strict=True):
        check_pixels(came, one)


def test_what_options_do(decoder: Decoder, built: object, draw: Draw) -> None:
    damaged = bytearray(prow.encode(draw(40, 30), bytes=200))
    damaged[-1] ^= 255
    data = bytes(damaged)
    ask = {"ask": "decode", "model": "prow-small", "data": data}
    refused, decoded, limited = decoder.ask(
        [ask, {**ask, "options": {"strict": False}}, {**ask, "options": {"strict": False, "maxPixels": 1199}}]
    )
    assert refused["error"] == "DamagedError" and limited["error"] == "LimitError"
    check_pixels(decoded, data, strict=False)


@pytest.mark.parametrize("model", ["anchor", "prow-small"])
def test_a_file_of_another_model_is_refused(model: str, decoder: Decoder) -> None:
    other = "anchor" if model == "prow-small" else "prow-small"
    data = (make_vectors.GOLDEN / f"{other}_17x23.prow").read_bytes()
    (came,) = decoder.ask([{"ask": "decode", "model": model, "data": data}])
    assert came["error"] == "ModelError" and model in came["message"]
