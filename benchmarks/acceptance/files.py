"""The files that promises are about: made, scored, and how far the work is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

import prow
from benchmarks.codecs.prow_codec import EFFORT
from benchmarks.common.workers import pool
from benchmarks.quality.metrics import psnr

Images = dict[str, np.ndarray]  # by name, uint8 [H, W, 3]
Files = dict[tuple[str, int], bytes]  # by name and budget
Report = dict[str, Any]
T = TypeVar("T")


def progress(what: str, items: Iterable[T], total: int) -> Iterator[T]:
    """The same items; one line on stderr says what is being done, how far, and how long it will still take."""
    began = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        spent = time.monotonic() - began
        line = f"\r{what} {done}/{total}, {spent:.0f} s, {spent / done * (total - done):.0f} s left   "
        print(line, end="\n" if done == total else "", file=sys.stderr, flush=True)


def spread(what: str, function: Callable[[Any], Any], items: list, jobs: int) -> list:
    """The results of a function, in the order of the items, by so many processes."""
    with pool(jobs) as executor:
        return list(progress(what, (executor.map if executor else map)(function, items), len(items)))


def encode_all(images: Images, budgets: Iterable[int], model: str, jobs: int) -> Files:
    """A file per image and budget."""
    cases = [(name, budget) for name in images for budget in budgets]
    files = spread("encode", _encode, [(images[name], budget, model) for name, budget in cases], jobs)
    return dict(zip(cases, files, strict=True))


def _encode(case: tuple[np.ndarray, int, str]) -> bytes:
    image, budget, model = case
    return prow.encode(image, bytes=budget, model=model, effort=EFFORT)


def score(case: tuple[np.ndarray, bytes]) -> float:
    """PSNR in dB of the picture in a file against its original."""
    image, data = case
    return psnr(image, np.asarray(prow.decode(data)))
