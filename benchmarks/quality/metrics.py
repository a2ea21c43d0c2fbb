"""The one place where pictures are compared. Pictures are uint8 arrays [H, W, 3]. `METRICS` is the registry."""

from __future__ import annotations

import dataclasses
import io
import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from prow.training.published import MissingPackageError, locate

PSNR_OF_EQUALS = 100.0  # dB; stands for infinity, so that means and JSON stay finite
MS_SSIM_MIN_SIDE = 161  # px; MS-SSIM halves a picture four times and then needs an 11 px window
BUTTERAUGLI = "butteraugli_main"  # of libjxl
SSIMULACRA2_MIN_SIDE = 225  # px; its weights are for six scales, each of 8 px or more, rounded up at each halving


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


def ssimulacra2(wanted: np.ndarray, got: np.ndarray) -> float | None:
    """SSIMULACRA 2 of two pictures [H, W, 3] uint8: 100 for equals, below 0 for very bad; None under 225 px a side.

    The package takes whatever Pillow can open: here uncompressed files in memory.
    """
    _check(wanted, got)
    if min(wanted.shape[:2]) < SSIMULACRA2_MIN_SIDE:
        return None
    from ssimulacra2 import compute_ssimulacra2

    files = (io.BytesIO(), io.BytesIO())
    for file, pixels in zip(files, (wanted, got), strict=True):
        Image.fromarray(pixels).save(file, "PPM")
    return float(compute_ssimulacra2(*files))


def st_lpips(wanted: np.ndarray, got: np.ndarray) -> float | None:
    """ST-LPIPS of two pictures [H, W, 3] uint8: 0 for equals, higher for worse; None if a side is under 21 px."""
    _check(wanted, got)
    from prow.training.st_lpips import MIN_SIDE, distance

    return distance(wanted, got) if min(wanted.shape[:2]) >= MIN_SIDE else None


def cvvdp(wanted: np.ndarray, got: np.ndarray) -> float | None:
    """ColorVideoVDP of two pictures [H, W, 3] uint8, in JOD: 10 for equals; None if a side is under 16 px.

    For a full-HD monitor of 24 inches in an office, see cvvdp.py.
    """
    _check(wanted, got)
    from benchmarks.quality.cvvdp import MIN_SIDE, quality

    return quality(wanted, got) if min(wanted.shape[:2]) >= MIN_SIDE else None


def butteraugli(wanted: np.ndarray, got: np.ndarray) -> float:
    """Butteraugli of two pictures [H, W, 3] uint8, the 3-norm at 80 nits: 0 for equals, higher for worse.

    By libjxl's own program, which reads files. Raises RuntimeError with its words if it fails.
    """
    _check(wanted, got)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("wanted.png", "got.png")]
        for path, pixels in zip(paths, (wanted, got), strict=True):
            Image.fromarray(pixels).save(path, compress_level=0)
        done = subprocess.run([BUTTERAUGLI, *paths], capture_output=True, text=True, check=False)
    found = re.search(r"^3-norm: (\S+)$", done.stdout, re.MULTILINE)
    if done.returncode != 0 or found is None:
        raise RuntimeError(f"{BUTTERAUGLI} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return float(found[1])


@dataclasses.dataclass(frozen=True)
class Metric:
    """How two pictures are compared, and how the result is written. `package` is its package on PyPI, if any, and
    `program` what it calls.

    `of(wanted, got)` is None where the metric is not defined, which is for pictures that are too small.
    """

    title: str
    decimals: int  # in tables
    kept: int  # decimals in records
    higher_is_better: bool
    of: Callable[[np.ndarray, np.ndarray], float | None]
    package: str | None = None
    program: str | None = None

    @property
    def heading(self) -> str:
        """The title and which way is up."""
        return f"{self.title} ({'higher' if self.higher_is_better else 'lower'} is better)"

    def is_better(self, one: float, other: float) -> bool:
        """Whether value `one` is strictly better than value `other`."""
        return one > other if self.higher_is_better else one < other


METRICS = {
    "psnr": Metric("PSNR, dB", 2, 4, True, psnr),
    "ms_ssim": Metric("MS-SSIM", 3, 5, True, ms_ssim, "pytorch-msssim"),
    "ssimulacra2": Metric("SSIMULACRA 2", 1, 3, True, ssimulacra2, "ssimulacra2"),
    "st_lpips": Metric("ST-LPIPS", 3, 5, False, st_lpips, "stlpips-pytorch"),
    "cvvdp": Metric("ColorVideoVDP, JOD", 2, 4, True, cvvdp, "cvvdp"),
    "butteraugli": Metric("Butteraugli, 3-norm", 2, 5, False, butteraugli, program=BUTTERAUGLI),
}


def require(names: Iterable[str]) -> None:
    """Raise MissingPackageError for the first of these metrics whose package or program is not installed."""
    for name in names:
        metric = METRICS[name]
        if metric.package is not None:
            locate(metric.package, f"metric {name!r}")
        if metric.program is not None and shutil.which(metric.program) is None:
            raise MissingPackageError(
                f"metric {name!r} needs the program {metric.program}, which is not on the PATH: "
                "on Debian, apt-get install libjxl-devtools"
            )


def _check(wanted: np.ndarray, got: np.ndarray) -> None:
    for name, x in (("wanted", wanted), ("got", got)):
        if x.dtype != np.uint8 or x.ndim != 3 or x.shape[2] != 3:
            raise ValueError(f"picture '{name}' is {x.dtype} {list(x.shape)}, must be uint8 [H, W, 3]")
    if wanted.shape != got.shape:
        raise ValueError(f"pictures have shapes {list(wanted.shape)} and {list(got.shape)}: must be the same")
