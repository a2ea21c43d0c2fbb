"""The promises that prow must keep, as checks over images: sizes, prefixes, and tokens that no float can change.

Each check returns a report with `passed`, and everything that one needs to find out why not.
"""

from __future__ import annotations

import math

import numpy as np
import torch

import prow
from benchmarks.acceptance.files import Files, Images, Report, progress, score, spread
from benchmarks.codecs.prow_codec import EFFORT
from benchmarks.common.machine import use_backend
from benchmarks.quality.metrics import psnr
from prow import registry
from prow.api import read_tokens
from prow.backends.torch_backend import load_backend
from prow.coding.codec import Codec
from prow.format import container
from prow.search import rate
from prow.search.effort import EFFORTS

TOKEN_BUDGET = 1024  # bytes, of the files for the token tests
FALL = 0.1  # dB that the mean PSNR may fall ...
GROWTH = 1.1  # ... as a prefix grows by this factor
PERTURBATION = 1e-3  # relative, of every weight
SEED = 20


# -- budgets and prefixes ------------------------------------------------------------------------------------------


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


def check_prefixes(images: Images, files: Files, count: int, jobs: int) -> Report:
    """Decode `count` random prefixes of every file; the lengths are the same for all images of a budget."""
    rng = np.random.default_rng(SEED)
    budgets = sorted({budget for _, budget in files})
    lengths = {}
    for budget in budgets:
        drawn = rng.integers(container.SMALL_HEADER_BYTES, budget, min(count, 10 * budget))
        lengths[budget] = [*sorted(int(n) for n in drawn), budget]
    cases = [(budget, name) for budget in budgets for name in images]
    work = [(images[name], files[name, budget], lengths[budget]) for budget, name in cases]
    curves = dict(zip(cases, spread("prefixes", _decode_prefixes, work, jobs), strict=True))
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
            curve.append(score((image, data[:n])))
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


def check_threads(images: Images, model: str) -> Report:
    """Encode with 1 and 2 threads, and decode the same file with both."""
    different_files: list[str] = []
    different_tokens: list[str] = []
    pixels, before = 0, torch.get_num_threads()
    for name, image in progress("threads", images.items(), len(images)):
        files, tokens, pictures = [], [], []
        for number in (1, 2):
            torch.set_num_threads(number)
            files.append(prow.encode(image, bytes=TOKEN_BUDGET, model=model, effort=EFFORT))
            tokens.append(read_tokens(files[0]))
            with use_backend("torch"):
                pictures.append(np.asarray(prow.decode(files[0])))
        torch.set_num_threads(before)
        different_files += [name] if files[0] != files[1] else []
        different_tokens += [name] if not tokens[0].same_as(tokens[1]) else []
        pixels = max(pixels, largest_difference(*pictures))
    return {
        "different_files": different_files,
        "different_tokens": different_tokens,
        "largest_pixel_difference": pixels,
        "passed": not different_files and not different_tokens,
    }


def check_perturbation(images: Images, model: str, device: str) -> Report:
    """Files of a machine whose arithmetic is off are read as they were written, and so are ours: no network takes part
    in that. What such a machine makes of our tokens is a picture that is a little off."""
    loaded = registry.load(model)
    ours, theirs = (Codec(load_backend(loaded, device)) for _ in range(2))
    generator = torch.Generator().manual_seed(SEED)
    for tensor in [*theirs.backend.network.parameters(), *theirs.backend.network.buffers()]:
        tensor.mul_(1 + PERTURBATION * torch.randn(tensor.shape, generator=generator).to(tensor.device))
    wrong, falls, pixels = [], [], 0
    for name, image in progress("perturbation", images.items(), len(images)):
        height, width = image.shape[:2]
        how = {"bytes": TOKEN_BUDGET, "model": model, "effort": EFFORT, "device": device}
        tokens = read_tokens(prow.encode(image, **how))
        foreign = rate.at_bytes(theirs, [image], TOKEN_BUDGET, EFFORTS[3])[0]
        file = container.pack(foreign.content, width=width, height=height, model_id=loaded.config.model_id)
        if not (tokens.same_as(prow.tokenize(image, **how)) and read_tokens(file).same_as(foreign.tokens)):
            wrong.append(name)
        picture, shifted = (codec.backend.to_image(codec.decode(tokens)) for codec in (ours, theirs))
        falls.append(psnr(image, picture) - psnr(image, shifted))
        pixels = max(pixels, largest_difference(picture, shifted))
    return {
        "relative": PERTURBATION,
        "different_tokens": wrong,
        "mean_fall_db": round(float(np.mean(falls)), 4),
        "largest_pixel_difference": pixels,
        "passed": not wrong,
    }


def largest_difference(one: np.ndarray, other: np.ndarray) -> int:
    """Of any sample of two pictures."""
    return int(np.abs(one.astype(int) - other.astype(int)).max())
