"""The one place where pictures are compared. Pictures are uint8 arrays [H, W, 3]."""

from __future__ import annotations

import math

import numpy as np

PSNR_OF_EQUALS = 100.0  # dB; stands for infinity, so that means and JSON stay finite
MS_SSIM_MIN_SIDE = 161  # px; MS-SSIM halves a picture four times and then needs an 11 px window


def psnr(wanted: np.ndarray, got: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over all samples of two pictures [H, W, 3] uint8."""
    _check(wanted, got)
    error = np.mean(np.square(wanted.astype(np.int32) - got.astype(np.int32)))
    return PSNR_OF_EQUALS if error == 0 else 10 * math.log10(255**2 / error)


def ms_ssim(wanted: np.ndarray, got: np.ndarray) -> float | None:
    """MS-SSIM of two pictures [H, W, 3] uint8, mean over the channels; None if a side is under 161 px."""
    _check(wanted, got)
    if min(wanted.shape[:2]) < MS_SSIM_MIN_SIDE:
        return None
    import torch
    from pytorch_msssim import ms_ssim as of_tensors

    x, y = (torch.tensor(a).permute(2, 0, 1)[None].float() for a in (wanted, got))  # [1, 3, H, W]
    return float(of_tensors(x, y, data_range=255))


def _check(wanted: np.ndarray, got: np.ndarray) -> None:
    for name, x in (("wanted", wanted), ("got", got)):
        if x.dtype != np.uint8 or x.ndim != 3 or x.shape[2] != 3:
            raise ValueError(f"picture '{name}' is {x.dtype} {list(x.shape)}, must be uint8 [H, W, 3]")
    if wanted.shape != got.shape:
        raise ValueError(f"pictures have shapes {list(wanted.shape)} and {list(got.shape)}: must be the same")
