"""The tasks, and a codec at one of them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.codecs.codec import Codec
from benchmarks.codecs.families import family_codecs
from benchmarks.common import faces
from benchmarks.common.corpus import Picture
from benchmarks.quality.measure import best_by_psnr
from benchmarks.quality.metrics import psnr
from benchmarks.quality.records import Point, Record, Wanted, record_of
from benchmarks.tasks import ocr, text_pictures, top1
from prow.image import load_rgb

CHOSEN_BY = "psnr"  # which of several files counts
KEPT = 4  # decimals of shares


@dataclasses.dataclass(frozen=True)
class Task:
    """What is to be done with a picture. `score(name, original, picture)` is the share of it that succeeds, 0 to 1,
    and what to note of it; pictures are [H, W, 3] uint8, `name` is that of the file. `settings` are all else that
    the score depends on.
    """

    title: str
    packages: tuple[str, ...]
    settings: dict[str, Any]
    score: Callable[[str, np.ndarray, np.ndarray], tuple[float, dict[str, Any]]]


def same_class(name: str, original: np.ndarray, picture: np.ndarray) -> tuple[float, dict[str, Any]]:
    """-> 1 if the network sees the same class in both, else 0; and the two classes."""
    wanted, got = _class_of(original.tobytes(), *original.shape[:2]), top1.classify(picture)
    return float(wanted == got), {"class": got, "wanted": wanted}


@functools.lru_cache(maxsize=1)
def _class_of(pixels: bytes, height: int, width: int) -> int:
    """-> the class of the original, kept while one decoded picture after the other is compared with it."""
    return top1.classify(np.frombuffer(pixels, np.uint8).reshape(height, width, 3))


def words_read(name: str, original: np.ndarray, picture: np.ndarray) -> tuple[float, dict[str, Any]]:
    """-> the share of the words of a text picture that are read, letter for letter, in the line that has them."""
    wanted = {text.name: text for text in text_pictures.text_pictures()}[name]
    read = 0
    for line, box in zip(wanted.lines, wanted.boxes, strict=True):
        seen = ocr.read_line(picture, box).split()
        for word in line.split():
            if word in seen:
                seen.remove(word)
                read += 1
    return read / wanted.words, {"read": read, "words": wanted.words}


def faces_found(name: str, original: np.ndarray, picture: np.ndarray) -> tuple[float, dict[str, Any]]:
    """-> the share of the faces of the original that are found again at their place."""
    wanted, got = _faces_of(original.tobytes(), *original.shape[:2]), faces.find(picture)
    found = sum(any(faces.overlap(one, other) >= faces.SAME for other in got) for one in wanted)
    return found / len(wanted), {"found": found, "faces": len(wanted)}


@functools.lru_cache(maxsize=1)
def _faces_of(pixels: bytes, height: int, width: int) -> list[faces.Box]:
    """-> the faces of the original, kept like its class."""
    return faces.find(np.frombuffer(pixels, np.uint8).reshape(height, width, 3))


TASKS = {
    "top1": Task(
        "same top-1 class, % of images",
        (top1.PACKAGE,),
        {"model": Path(top1.WEIGHTS).name, "sha256": top1.WEIGHTS_SHA256, "side": top1.SIDE},
        same_class,
    ),
    "words": Task(
        "words read, %",
        ocr.PACKAGES,
        {"model": Path(ocr.MODEL).name, "sha256": ocr.MODEL_SHA256, "words": "in their line, whole"},
        words_read,
    ),
    "faces": Task(
        "faces found, %",
        (faces.PACKAGE,),
        {
            "cascade": Path(faces.CASCADE).name,
            "sha256": faces.CASCADE_SHA256,
            "search": [faces.SMALLEST, faces.SCALE, faces.NEIGHBOURS, faces.SAME],
        },
        faces_found,
    ),
}


@dataclasses.dataclass(frozen=True)
class Trial:
    """A codec at a task: what the records know results by."""

    codec: Codec
    task: str

    @property
    def name(self) -> str:
        """The codec's name."""
        return self.codec.name

    @property
    def settings(self) -> dict[str, Any]:
        """All that results depend on."""
        own = {key: value for key, value in self.codec.settings.items() if key != "best_by"}
        task = {"name": self.task, **TASKS[self.task].settings}
        return {"codec": own, "chosen_by": CHOSEN_BY, "task": task}


def measure(trial: Trial, name: str, image: np.ndarray, budget: int) -> Point:
    """-> the point of a picture [H, W, 3] uint8 at a budget in bytes."""
    best = best_by_psnr(trial.codec, image, budget)
    if best is None:
        return {"budget": budget, "reached": False}
    value, notes = TASKS[trial.task].score(name, image, best.image)
    value, quality = round(value, KEPT), round(psnr(image, best.image), KEPT)
    return {"budget": budget, "reached": True, trial.task: {"value": value, **notes, "psnr": quality, **best.facts()}}


def measure_family(family: str, task: str, picture: Picture, wanted: Wanted) -> list[Record]:
    """-> one record per codec of a family: a picture at the wanted budgets."""
    image = load_rgb(picture.path)
    return [
        record_of(trial, picture, [measure(trial, picture.path.name, image, b) for b in wanted[trial.name]])
        for trial in (Trial(codec, task) for codec in family_codecs(family))
        if trial.name in wanted
    ]
