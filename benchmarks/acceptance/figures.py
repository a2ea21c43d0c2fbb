"""What prow does not promise, but should be good at: figures with an aim, or none."""

from __future__ import annotations

import numpy as np

import prow
from benchmarks.acceptance.files import Files, Images, Report, encode_all, score, spread
from prow.format.geometry import Level


def steps_by_place(image: np.ndarray, tile: int) -> tuple[float, float]:
    """Mean absolute step of neighbouring pixels, across the borders of full-resolution tiles and elsewhere."""
    level = Level(image.shape[1], image.shape[0], tile)
    pixels = image.astype(float)
    across, inside = [], []
    for axis, parts in ((1, level.columns), (0, level.rows)):
        step = np.abs(np.diff(pixels, axis=axis))
        border = np.zeros(step.shape[axis], bool)
        border[np.cumsum(parts)[:-1] - 1] = True
        across.append(np.compress(border, step, axis=axis).ravel())
        inside.append(np.compress(~border, step, axis=axis).ravel())
    return float(np.concatenate(across).mean()), float(np.concatenate(inside).mean())


def measure_seams(images: Images, files: Files, budget: int, tile: int) -> Report:
    """The ratio of mean steps over all images of more than one tile, decoded and original; empty without any."""
    rows = {}
    for name, image in images.items():
        if max(image.shape[:2]) <= tile:
            continue
        decoded = steps_by_place(np.asarray(prow.decode(files[name, budget])), tile)
        rows[name] = [*decoded, *steps_by_place(image, tile)]
    if not rows:
        return {}
    across, inside, original_across, original_inside = np.mean(list(rows.values()), axis=0)
    return {
        "budget": budget,
        "ratio": round(across / inside, 4),
        "ratio_of_originals": round(original_across / original_inside, 4),
        "worst": max((round(r[0] / r[1], 4), name) for name, r in rows.items()),
        "by_image": {name: [round(x, 4) for x in row] for name, row in rows.items()},
    }


def measure_cuts(images: Images, files: Files, budgets: tuple[int, ...], jobs: int) -> Report:
    """Mean PSNR of the largest files, truncated, and of those made for the smaller budgets."""
    *smaller, largest = budgets
    report: Report = {}
    for budget in smaller:
        cases = [(image, files[name, budget]) for name, image in images.items()]
        cases += [(image, prow.truncate(files[name, largest], budget)) for name, image in images.items()]
        made, cut = np.reshape(spread(f"cuts to {budget}", score, cases, jobs), (2, -1)).mean(1).tolist()
        report[str(budget)] = {"made": round(made, 4), "cut": round(cut, 4), "loss": round(made - cut, 4)}
    return report


def measure_anchor(images: Images, files: Files, budgets: tuple[int, ...], jobs: int) -> Report:
    """Mean PSNR of the files at hand and of files of the linear anchor."""
    linear = encode_all(images, budgets, "anchor", jobs)
    report: Report = {}
    for budget in budgets:
        pairs = [[score((image, made[name, budget])) for made in (files, linear)] for name, image in images.items()]
        ours, anchor = np.mean(pairs, axis=0).tolist()
        report[str(budget)] = {"network": round(ours, 4), "anchor": round(anchor, 4), "gain": round(ours - anchor, 4)}
    return report
