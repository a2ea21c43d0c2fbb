"""The promises that prow must keep, as checks over images: sizes, prefixes, and tokens that no float can change.

Each check returns a report with `passed`, and everything that one needs to find out why not.
"""

from __future__ import annotations

import concurrent.futures
import copy
import dataclasses
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch

import prow
from benchmarks.codecs import EFFORT
from benchmarks.metrics import psnr
from prow import container, rate, registry, stream
from prow.codec import Codec
from prow.tokens import Tokens

TOKEN_BUDGET = 1024  # bytes, of the files for the token tests
FALL = 0.1  # dB that the mean PSNR may fall ...
GROWTH = 1.1  # ... as a prefix grows by this factor
PERTURBATION = 1e-3  # relative, of every weight
SEED = 20

Images = dict[str, np.ndarray]  # by name, uint8 [H, W, 3]
Files = dict[tuple[str, int], bytes]  # by name and budget
Report = dict[str, Any]


class Progress:
    """One line on stderr: what is being done, how far, and how long it will still take."""

    def __init__(self, name: str, total: int) -> None:
        self.name, self.total, self.done, self.began = name, total, 0, time.monotonic()

    def step(self) -> None:
        self.done += 1
        spent = time.monotonic() - self.began
        left = spent / self.done * (self.total - self.done)
        end = "\n" if self.done == self.total else ""
        line = f"\r{self.name} {self.done}/{self.total}, {spent:.0f} s, {left:.0f} s left   "
        print(line, end=end, file=sys.stderr, flush=True)


def score(image: np.ndarray, data: bytes) -> float:
    """PSNR in dB of a file's picture."""
    return psnr(image, np.asarray(prow.decode(data)))


# -- budgets and prefixes ------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Workers:
    """Spreads calls over processes of one thread each; with one job, none but this one."""

    jobs: int = 1

    def map(self, name: str, function: Callable[[Any], Any], items: list) -> list:
        """The results in the order of the items."""
        progress, results = Progress(name, len(items)), []
        with self._pool() as pool:
            for result in pool.map(function, items) if pool else map(function, items):
                results.append(result)
                progress.step()
        return results

    @contextmanager
    def _pool(self) -> Iterator[concurrent.futures.Executor | None]:
        if self.jobs == 1:
            yield None
            return
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the workers, which start anew
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(self.jobs, mp_context=context) as pool:
            yield pool


def encode_all(images: Images, budgets: Iterable[int], model: str, workers: Workers) -> Files:
    """A file per image and budget."""
    cases = [(name, budget) for name in images for budget in budgets]
    files = workers.map("encode", _encode, [(images[name], budget, model) for name, budget in cases])
    return dict(zip(cases, files, strict=True))


def _encode(case: tuple[np.ndarray, int, str]) -> bytes:
    image, budget, model = case
    return prow.encode(image, bytes=budget, model=model, effort=EFFORT)


def check_budgets(images: Images, files: Files, model: str) -> Report:
    """No file is too long; one that is too short stays as it is with ten times the budget: nothing is left to say."""
    over, short, lazy = [], [], []
    for (name, budget), data in files.items():
        case = [name, budget, len(data)]
        if len(data) > budget:
            over.append(case)
        elif len(data) < budget:
            more = prow.encode(images[name], bytes=10 * budget, model=model, effort=EFFORT)
            (short if more == data else lazy).append(case)
    return {"files": len(files), "over": over, "short": short, "lazy": lazy, "passed": not over and not lazy}


def check_prefixes(images: Images, files: Files, count: int, workers: Workers) -> Report:
    """Decode `count` random prefixes of every file; the lengths are the same for all images of a budget."""
    rng = np.random.default_rng(SEED)
    budgets = sorted({budget for _, budget in files})
    lengths = {}
    for budget in budgets:
        drawn = rng.integers(container.SMALL_HEADER_BYTES, budget, min(count, 10 * budget))
        lengths[budget] = [*sorted(int(n) for n in drawn), budget]
    cases = [(budget, name) for budget in budgets for name in images]
    work = [(images[name], files[name, budget], lengths[budget]) for budget, name in cases]
    curves = dict(zip(cases, workers.map("prefixes", _decode_prefixes, work), strict=True))
    by_budget = {
        budget: summarise_curves(lengths[budget], np.array([curves[budget, name][0] for name in images]), list(images))
        for budget in budgets
    }
    failures = [[name, budget, *failure] for (budget, name), (_, failed) in curves.items() for failure in failed]
    monotone = all(report["worst_mean_fall_db"] <= FALL for report in by_budget.values())
    return {"failures": failures, "by_budget": by_budget, "monotone": monotone, "passed": monotone and not failures}


def _decode_prefixes(case: tuple[np.ndarray, bytes, list[int]]) -> tuple[list[float], list[tuple[int, str]]]:
    """PSNR of prefixes of these lengths (nan for one that does not decode), and what went wrong at which length."""
    image, data, lengths = case
    curve, failures = [], []
    for n in lengths:
        try:
            curve.append(score(image, data[:n]))
        except Exception as error:  # whatever it is, it is what this benchmark looks for
            failures.append((n, repr(error)))
            curve.append(math.nan)
    return curve, failures


def summarise_curves(lengths: list[int], curves: np.ndarray, names: list[str]) -> Report:
    """Falls of the mean over the images, and the worst of a single image, each per 10 % of growth."""
    mean = np.nanmean(curves, axis=0)
    single = [(*worst_fall(lengths, curve), name) for name, curve in zip(names, curves, strict=True)]
    fall, start, end = worst_fall(lengths, mean)
    worst = max(single)
    return {
        "lengths": lengths,
        "mean_psnr": [round(float(x), 4) for x in mean],
        "psnr": {name: [round(float(x), 4) for x in curve] for name, curve in zip(names, curves, strict=True)},
        "worst_mean_fall_db": round(fall, 4),
        "worst_mean_fall_bytes": [start, end],
        "worst_single_fall_db": round(worst[0], 4),
        "worst_single": [worst[3], worst[1], worst[2]],
    }


def worst_fall(lengths: list[int], curve: np.ndarray) -> tuple[float, int, int]:
    """Largest fall in dB per growth by 10 % (of any two prefixes, the longer after the shorter) and where it is.

    A growth by less than 10 % counts as one by 10 %.
    """
    worst = (0.0, lengths[0], lengths[0])
    for i, short in enumerate(lengths):
        for j in range(i + 1, len(lengths)):
            if not math.isnan(curve[i] - curve[j]):
                growths = max(1.0, math.log(lengths[j] / short) / math.log(GROWTH))
                worst = max(worst, (float(curve[i] - curve[j]) / growths, short, lengths[j]))
    return worst


# -- tokens --------------------------------------------------------------------------------------------------------


def same_tokens(a: Tokens, b: Tokens) -> bool:
    return a.base == b.base and all(
        np.array_equal(x.counts, y.counts) and np.array_equal(x.values, y.values)
        for x, y in zip(a.passes, b.passes, strict=True)
    )


@contextmanager
def threads(number: int) -> Iterator[None]:
    """So many threads for torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def watched_decode(data: bytes) -> tuple[Tokens, np.ndarray]:
    """prow.decode with torch, and the tokens that it hands from the entropy decoder to the network."""
    seen: list[Tokens] = []
    decode_many = Codec.decode_many

    def watch(self: Codec, batch: Sequence[Tokens]) -> list[torch.Tensor]:
        seen.extend(batch)
        return decode_many(self, batch)

    with mock.patch.object(Codec, "decode_many", watch), mock.patch.dict(os.environ, PROW_BACKEND="torch"):
        picture = np.asarray(prow.decode(data))
    (tokens,) = seen
    return tokens, picture


def check_threads(images: Images, model: str) -> Report:
    """Encode with 1 and 2 threads, and decode the same file with both."""
    different_files, different_tokens, pixels = [], [], 0
    progress = Progress("threads", len(images))
    for name, image in images.items():
        files, tokens, pictures = [], [], []
        for number in (1, 2):
            with threads(number):
                files.append(prow.encode(image, bytes=TOKEN_BUDGET, model=model, effort=EFFORT))
                received, picture = watched_decode(files[0])
            tokens.append(received)
            pictures.append(picture.astype(int))
        different_files += [name] if files[0] != files[1] else []
        different_tokens += [name] if not same_tokens(*tokens) else []
        pixels = max(pixels, int(np.abs(pictures[0] - pictures[1]).max()))
        progress.step()
    return {
        "different_files": different_files,
        "different_tokens": different_tokens,
        "largest_pixel_difference": pixels,
        "passed": not different_files and not different_tokens,
    }


def check_perturbation(images: Images, model: str, device: str) -> Report:
    """A machine whose arithmetic is off reads our files, and we read its files: the tokens are those written."""
    ours = registry.load(model)
    codec = Codec(ours.network(device), ours.tables)
    network = copy.deepcopy(codec.network)
    generator = torch.Generator().manual_seed(SEED)
    for tensor in [*network.parameters(), *network.buffers()]:
        tensor.mul_(1 + PERTURBATION * torch.randn(tensor.shape, generator=generator).to(tensor.device))
    other = Codec(network, ours.tables)
    wrong, falls, pixels = [], [], 0
    progress = Progress("perturbation", len(images))
    for name, image in images.items():
        data = prow.encode(image, bytes=TOKEN_BUDGET, model=model, effort=EFFORT, device=device)
        tokens, picture = watched_decode(data)
        with mock.patch.object(registry, "_network", lambda name, device: network):
            same, shifted = watched_decode(data)
            foreign = rate.at_bytes(other, [image], TOKEN_BUDGET, 3)[0]
        height, width = image.shape[:2]
        read = stream.read(foreign.content, width, height, codec.config.model_id, codec.config, codec.tables)
        if not (same_tokens(tokens, same) and same_tokens(read, foreign.tokens)):
            wrong.append(name)
        falls.append(psnr(image, picture) - psnr(image, shifted))
        pixels = max(pixels, int(np.abs(picture.astype(int) - shifted.astype(int)).max()))
        progress.step()
    return {
        "relative": PERTURBATION,
        "different_tokens": wrong,
        "mean_fall_db": round(float(np.mean(falls)), 4),
        "largest_pixel_difference": pixels,
        "passed": not wrong,
    }
