"""How near a decoded picture is to the original, with numpy alone: what `prow.encode` can be asked for."""

from __future__ import annotations

import numpy as np

from .errors import InputError

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM (Wang et al., 2003), from full resolution on
WINDOW, SIGMA = 11, 1.5  # px: side and standard deviation of its Gaussian window
MS_SSIM_LEAST_SIDE = (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1) + 1  # px: a window must fit into the smallest scale
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(wanted: np.ndarray, got: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of pictures uint8 of one shape, over all samples; infinite if they are equal."""
    _check_shapes(wanted, got)
    error = np.mean((wanted.astype(np.float32) - got) ** 2, dtype=np.float64)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def ms_ssim(wanted: np.ndarray, got: np.ndarray) -> float:
    """Multi-scale structural similarity, at most 1, of pictures uint8 [H, W, C] or [H, W]: the mean over channels.

    Windows do not reach beyond the picture, and structure that is turned around counts as none, both as in
    pytorch-msssim.

    Raises InputError if a side has fewer than 161 px: the smallest scale would have no whole window.
    """
    _check_shapes(wanted, got)
    check_ms_ssim_size(wanted.shape[1], wanted.shape[0])
    x, y = (_planes(pixels) for pixels in (wanted, got))
    product = np.ones(len(x))
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale:
            x, y = _halved(x), _halved(y)
        whole, structure = _similarity(x, y)
        last = scale == len(SCALE_WEIGHTS) - 1
        product *= np.maximum(whole if last else structure, 0) ** weight
    return float(product.mean())


def check_ms_ssim_size(width: int, height: int) -> None:
    """Raise InputError for a picture that is too small for MS-SSIM."""
    if min(width, height) < MS_SSIM_LEAST_SIDE:
        raise InputError(f"{width} x {height} px came, MS-SSIM wants at least {MS_SSIM_LEAST_SIDE} px a side")


def _planes(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, C] or [H, W] -> float32 [C, H, W]."""
    return np.ascontiguousarray(np.moveaxis(np.atleast_3d(pixels), 2, 0), np.float32)


def _similarity(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SSIM of each channel of float32 [C, H, W], and the part of it that says how alike structures are: both [C]."""
    mean_x, mean_y = _blurred(x), _blurred(y)
    variances = _blurred(x * x + y * y) - mean_x**2 - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    structure = (2 * covariance + _C2) / (variances + _C2)
    whole = structure * (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return whole.mean((1, 2), dtype=np.float64), structure.mean((1, 2), dtype=np.float64)


def _blurred(x: np.ndarray) -> np.ndarray:
    """Means under the Gaussian window, where a whole one fits: [C, H, W] -> [C, H - 10, W - 10]."""
    taps = np.exp(-((np.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * SIGMA**2)).astype(np.float32)
    taps /= taps.sum()
    rows, columns = x.shape[1] - WINDOW + 1, x.shape[2] - WINDOW + 1
    down = sum(tap * x[:, i : i + rows] for i, tap in enumerate(taps))
    return np.asarray(sum(tap * down[:, :, i : i + columns] for i, tap in enumerate(taps)))  # type: ignore[index]


def _halved(x: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 samples; of an odd side, zeros come before the first one."""
    x = np.pad(x, ((0, 0), (x.shape[1] % 2, 0), (x.shape[2] % 2, 0)))
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4


def _check_shapes(wanted: np.ndarray, got: np.ndarray) -> None:
    for picture in (wanted, got):
        if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim not in (2, 3):
            raise InputError(f"a picture of type {type(picture).__name__} came, uint8 [H, W] or [H, W, C] wanted")
    if wanted.shape != got.shape:
        raise InputError(f"pictures of shapes {list(wanted.shape)} and {list(got.shape)} came, equal ones wanted")
