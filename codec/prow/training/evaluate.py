"""Rate-distortion figures on validation photos while training: whole pictures, closed loop, bytes from the prices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..tokenizer import Tokenizer
from .data import SUFFIXES
from .loop import run_passes
from .statistics import Statistics

BASES = (26, 32, 38, 44)
BPP = (0.03, 0.1, 0.3)


def validation_images(folder: Path, count: int, side: int, device: torch.device) -> list[Tensor]:
    """`count` photos evenly from a folder, shrunk to a long side of `side` px: tensors [1, 3, H, W]."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    images = []
    for path in paths[:: max(1, len(paths) // count)][:count]:
        photo = Image.open(path).convert("RGB")
        photo.thumbnail((side, side), Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.array(photo)).to(device)
        images.append(pixels.permute(2, 0, 1)[None].float())
    return images


@torch.no_grad()
def rd_figures(model: Tokenizer, images: list[Tensor], statistics: Statistics, kappa: float) -> dict[str, float]:
    """Mean PSNR (dB) at fixed rates, interpolated in log rate between base steps, and the raw points."""
    curves, points = [], {}
    for image in images:
        curve = []
        for base in BASES:
            steps = torch.full((1,), base, device=image.device)
            bits, error = 0.0, torch.tensor(0.0)
            for result in run_passes(model, image, steps, statistics, kappa, learn=False, refine=False):
                bits += float(result.bits.sum())
                error = result.error
            bpp = bits / (image.shape[-1] * image.shape[-2])
            curve.append((bpp, float(10 * torch.log10(255**2 / error.clamp(min=1e-3)).mean())))
        curves.append(np.array(sorted(curve)))
    for i, base in enumerate(reversed(BASES)):
        mean = np.mean([c[i] for c in curves], axis=0)
        points[f"bpp_step{base}"], points[f"psnr_step{base}"] = round(float(mean[0]), 4), round(float(mean[1]), 3)
    for bpp in BPP:
        at = [np.interp(np.log(bpp), np.log(c[:, 0]), c[:, 1]) for c in curves]
        points[f"psnr_at_{bpp}bpp"] = round(float(np.mean(at)), 3)
    return points
