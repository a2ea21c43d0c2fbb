"""Rate-distortion figures on validation photos while training: whole pictures, closed loop, bytes from the prices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..backends.torch_ops import double
from ..format.geometry import passes
from ..networks.tokenizer import Tokenizer
from .data import SUFFIXES
from .loop import Cut, run_passes
from .statistics import Statistics

BPP = (0.01, 0.03, 0.1, 0.3)


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
    """Mean PSNR (dB) at fixed rates, interpolated in log rate between streams that end after each pass."""
    curves = []
    for image in images:
        height, width = image.shape[-2:]
        base = torch.full((1,), model.config.usual_base, device=image.device)
        curve = []
        plan = passes(width, height, model.config)
        for index in range(plan[0].octaves + 2):
            bits, picture, ahead, whole = 0.0, image, None, torch.ones(1, device=image.device)
            cut = Cut(index, whole)
            for result in run_passes(model, image, base, statistics, kappa, cut=cut, learn=False, refine=1):
                bits, picture, ahead = bits + float(result.bits.sum()), result.picture, result.ahead
            if picture.shape != image.shape:
                picture = double(picture, ahead, plan[-1].level)
            error = (picture - image).square().mean().clamp(min=1e-3)
            curve.append((bits / (width * height), float(10 * torch.log10(255**2 / error))))
        curves.append(np.array(curve).T)
    means = {bpp: np.mean([np.interp(np.log(bpp), np.log(rate + 1e-9), psnr) for rate, psnr in curves]) for bpp in BPP}
    return {f"psnr_at_{bpp}bpp": round(float(mean), 3) for bpp, mean in means.items()}
