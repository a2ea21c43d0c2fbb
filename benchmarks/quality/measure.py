"""One codec, one picture, one budget: what is measured, and which of several files counts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from benchmarks.codecs.codec import Codec, Coded, code_within
from benchmarks.codecs.families import family_codecs
from benchmarks.common.corpus import Picture
from benchmarks.quality.metrics import METRICS, psnr
from benchmarks.quality.records import Point, Record, Wanted, record_of
from prow.image import load_rgb


class Scores:
    """Metrics of pictures against one original [H, W, 3] uint8, each measured once: files come up repeatedly."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = image
        self._known: dict[tuple[str, bytes], float | None] = {}

    def of(self, name: str, picture: np.ndarray) -> float | None:
        """-> a metric's value."""
        key = name, hashlib.sha256(picture.tobytes()).digest()
        if key not in self._known:
            self._known[key] = METRICS[name].of(self.image, picture)
        return self._known[key]

    def best(self, files: list[Coded], name: str) -> tuple[Coded, float | None]:
        """-> the file that is best in a metric, and its value; the first one where the metric is not defined."""
        best, value = files[0], self.of(name, files[0].image)
        for coded in files[1:]:
            other = self.of(name, coded.image)
            if other is not None and (value is None or METRICS[name].is_better(other, value)):
                best, value = coded, other
        return best, value


def best_by_psnr(codec: Codec, image: np.ndarray, budget: int) -> Coded | None:
    """-> a codec's file of image [H, W, 3] uint8 at a budget in bytes; None if it cannot."""
    return max(code_within(codec, image, budget), key=lambda coded: psnr(image, coded.image), default=None)


def measure(codec: Codec, budget: int, names: Sequence[str], scores: Scores) -> Point:
    """-> the point of the original at a budget in bytes."""
    files = code_within(codec, scores.image, budget)
    point: Point = {"budget": budget, "reached": bool(files)}
    for name in names if files else ():
        best, value = scores.best(files, name)
        point[name] = {"value": None if value is None else round(value, METRICS[name].kept), **best.facts()}
    return point


def measure_family(family: str, picture: Picture, wanted: Wanted) -> list[Record]:
    """-> one record per codec of a family: an image at the wanted budgets in the wanted metrics."""
    scores = Scores(load_rgb(picture.path))
    return [
        record_of(codec, picture, [measure(codec, b, names, scores) for b, names in wanted[codec.name].items()])
        for codec in family_codecs(family)
        if codec.name in wanted
    ]
