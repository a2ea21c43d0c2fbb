"""ColorVideoVDP (Mantiuk, Hanji, Ashraf, Asano and Chapiro, ACM TOG 43(4), 2024) of still pictures.

How different two pictures look on a known display to somebody at a known distance, in JOD (just-objectionable
differences): 10 for pictures that nobody can tell apart, one less for each step that 75 % of the viewers notice.

The display is DISPLAY: 24 inches, 1920 x 1080 px, 200 cd/m^2, in an office of 250 lux, seen from 0.6 m (37.8 px a
degree). Its numbers, the calibration and the tables of contrast sensitivity are those in the package cvvdp (MIT,
(c) 2024 Graphics and Displays group); the package's code, which also knows video, is not used, for it needs
torchvision, ffmpeg and a client for model hubs. Names of parameters are those of its JSON.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from prow.training.published import published

PACKAGE = "cvvdp"
FOLDER = "pycvvdp/vvdp_data"
SHA256 = {
    "cvvdp_parameters.json": "ef4dedb44f11f33f509ea3d6d204bb23b03917259b8efbc077009ce53211762b",
    "csf_lut_weber_fixed_size.json": "df39c869c0c53a9a2cb757811ecaf4ce0d44b4151f5ff9590f5bfe1ede940c18",
    "display_models.json": "653979727e809fcd9e44424aff2615d54edde026d9feb17d8f07b7f0ff61b517",
    "color_spaces.json": "30ce6752d35672d97a9d7fb7286170915a2ddfe4307782693f9ee176ef9491d1",
}
DISPLAY = "standard_fhd"
MIN_SIDE = 16  # px; a pyramid needs some levels
LOWEST_FREQUENCY = 0.2  # cycles a degree: there the pyramid ends
REFLECTIVITY = 0.005  # of the display, for light from the room
XYZ_TO_LMS = (  # CIE 2006 cone fundamentals
    (0.187596268556126, 0.585168649077728, -0.026384263306304),
    (-0.133397430663221, 0.405505777260049, 0.034502127690364),
    (0.000244379021663, -0.000542995890619, 0.019406849066323),
)
LMS_TO_DKL = ((1.0, 1.0, 0.0), (1.0, -2.311130179947035, 0.0), (-1.0, -1.0, 50.977571328718781))  # for D65
KERNEL = (0.05, 0.25, 0.4, 0.25, 0.05)  # of the pyramid
MASKING_GAIN = (1.0, 1.45, 1.0)  # of the achromatic, red-green and yellow-violet channels
BLUR_RADIUS, BLUR_SIGMA = 6, 3  # px: a mask acts a little beyond where it is

Tensor = torch.Tensor


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What the package's files say, ready for use."""

    parameters: dict[str, Any]
    to_dkl: Tensor  # [3, 3]: linear light of the display to DKL
    white: float  # cd/m^2 that a full signal adds to `black`
    black: float  # cd/m^2, with the reflected light of the room
    pixels_per_degree: float
    log_luminance: Tensor  # [L], equally spaced
    log_frequency: Tensor  # [R]
    log_sensitivity: Tensor  # [3, L, R]: by channel, background luminance and frequency

    def tensor(self, name: str) -> Tensor:
        """-> a parameter as a float tensor."""
        return torch.tensor(self.parameters[name], dtype=torch.float32)


def read(name: str) -> dict[str, Any]:
    """-> one of the package's files. Raises MissingPackageError without it, ValueError if it is another version's."""
    path = published(PACKAGE, "ColorVideoVDP", f"{FOLDER}/{name}", SHA256[name])
    return json.loads(path.read_text())


@functools.cache
def load() -> Calibration:
    """-> the calibration, with DISPLAY."""
    parameters, table, displays, spaces = (read(name) for name in SHA256)
    display, space = displays[DISPLAY], spaces["sRGB"]
    width, height = display["resolution"]
    metres = display["diagonal_size_inches"] * 0.0254 / math.hypot(width, height)  # a pixel's side
    to_xyz = torch.tensor([space["RGB2X"], space["RGB2Y"], space["RGB2Z"]])
    black = display["max_luminance"] / display["contrast"]
    return Calibration(
        parameters,
        torch.tensor(LMS_TO_DKL) @ torch.tensor(XYZ_TO_LMS) @ to_xyz,
        display["max_luminance"] - black,
        black + display["E_ambient"] / math.pi * REFLECTIVITY,
        1 / (2 * math.degrees(math.atan(0.5 * metres / display["viewing_distance_meters"]))),
        torch.tensor(table["L_bkg"]).log10(),
        torch.tensor(table["rho"]).log10(),
        torch.tensor([table[f"o0_c{channel}"] for channel in (1, 2, 3)]),
    )


def seen(picture: np.ndarray) -> Tensor:
    """-> what a picture [H, W, 3] uint8 is on the display: DKL, [3, H, W]."""
    known = load()
    signal = torch.tensor(picture).permute(2, 0, 1).float() / 255
    linear = torch.where(signal > 0.04045, ((signal + 0.055) / 1.055) ** 2.4, signal / 12.92)
    return torch.einsum("ij,jhw->ihw", known.to_dkl, known.white * linear + known.black)


def frequencies(height: int, width: int) -> list[float]:
    """-> cycles a degree of each band of a picture's pyramid, finest first; the last is what is left over."""
    half = load().pixels_per_degree / 2
    every = [half, *(0.3228 * half * 2.0**-i for i in range(14))]
    wanted = next((i for i, f in enumerate(every) if f <= LOWEST_FREQUENCY), len(every)) + 1
    levels = min(wanted, int(math.log2(min(height, width))) - 1)
    return [*every[:levels], 0.1]


def shrink(x: Tensor) -> Tensor:
    """-> [C, H, W] at half the size, rounded up.

    Beyond its borders a picture is its mirror image; but at the right border the package asks whether the *height*
    is odd, and so do we.
    """
    kernel = torch.tensor(KERNEL)
    is_odd = x.shape[1] % 2 == 1
    y = F.conv2d(x[:, None], kernel.view(1, 1, 5, 1), stride=(2, 1), padding=(2, 0))[:, 0]
    y[:, 0] += x[:, 0] * kernel[1] + x[:, 1] * kernel[0]
    y[:, -1] += x[:, -1] * kernel[3] + x[:, -2] * kernel[4] if is_odd else x[:, -1] * kernel[4]
    z = F.conv2d(y[:, None], kernel.view(1, 1, 1, 5), stride=(1, 2), padding=(0, 2))[:, 0]
    z[..., 0] += y[..., 0] * kernel[1] + y[..., 1] * kernel[0]
    z[..., -1] += y[..., -1] * kernel[3] + y[..., -2] * kernel[4] if is_odd else y[..., -1] * kernel[4]
    return z


def grow(x: Tensor, height: int, width: int) -> Tensor:
    """-> [C, h, w] at twice the size: [C, height, width]."""
    kernel = 2 * torch.tensor(KERNEL)
    y = F.conv2d(_spread(x, height, 1)[:, None], kernel.view(1, 1, 5, 1))[:, 0]
    return F.conv2d(_spread(y, width, 2)[:, None], kernel.view(1, 1, 1, 5))[:, 0]


def _spread(x: Tensor, size: int, axis: int) -> Tensor:
    """-> zeros between the entries of an axis: `size` and 2 more at each end, where the outermost entries recur."""
    x = x.movedim(axis, 0)
    spread = x.new_zeros(size + 4, *x.shape[1:])
    spread[2:-2:2] = x
    spread[0], spread[-2 + size % 2] = x[0], x[-1]
    return spread.movedim(0, axis)


def contrasts(picture: np.ndarray) -> list[tuple[Tensor, Tensor]]:
    """-> for each band of a picture [H, W, 3] uint8 its contrast [3, h, w] and log10 of its background [h, w]."""
    levels = [seen(picture)]
    for _ in frequencies(*picture.shape[:2])[1:]:
        levels.append(shrink(levels[-1]))
    bands = []
    for i, fine in enumerate(levels[:-1]):
        coarse = grow(levels[i + 1], *fine.shape[1:])
        background = coarse[0].clamp(min=0.01)
        contrast = ((fine - coarse) / background).clamp(max=1000)
        bands.append((contrast if i == 0 else 2 * contrast, background.log10()))
    background = levels[-1][0].clamp(min=0.01).mean(dim=(0, 1), keepdim=True)
    bands.append(((levels[-1] / background).clamp(max=1000), background.log10()))
    return bands


def sensitivity(frequency: float, log_background: Tensor) -> Tensor:
    """-> the contrast sensitivity of each channel [3, h, w] before a background [h, w], at cycles a degree."""
    known = load()
    x, where = known.log_frequency, math.log10(frequency)
    i = int((torch.searchsorted(x, torch.tensor([where])) - 1).clamp(0, len(x) - 2))
    part = (where - x[i]) / (x[i + 1] - x[i])
    table = torch.lerp(known.log_sensitivity[..., i], known.log_sensitivity[..., i + 1], part)  # [3, L]
    y, last = known.log_luminance, len(known.log_luminance) - 1
    place = ((log_background - y[0]) / (y[-1] - y[0]) * last).clamp(0, last)
    lower = place.long()
    log_found = torch.lerp(table[:, lower], table[:, (lower + 1).clamp(max=last)], place.frac())
    return 10 ** (log_found + known.parameters["sensitivity_correction"] / 20)


def differences(wanted: Tensor, got: Tensor) -> Tensor:
    """-> visible differences of contrasts that are multiples of the threshold, [3, h, w] each: masked, saturating."""
    known = load()
    gain = torch.tensor(MASKING_GAIN).view(3, 1, 1)
    wanted, got = wanted * gain, got * gain
    mask = _blurred(torch.minimum(wanted.abs(), got.abs())) * 10 ** known.parameters["mask_c"]
    mask = _power(mask, known.tensor("mask_q")[:3].view(3, 1, 1))
    across = (2 ** known.tensor("xcm_weights")).view(4, 4)[:3, :3]  # by channel that masks and channel that is masked
    mask = torch.einsum("ij,ihw->jhw", across, mask)
    found = _power((wanted - got).abs(), known.tensor("mask_p")) / (1 + mask)
    most = 10 ** known.parameters["d_max"]
    return most * found / (most + found)


def _blurred(x: Tensor) -> Tensor:
    """-> [3, h, w] after a Gaussian; as it is where it is too small for one."""
    if min(x.shape[1:]) <= BLUR_RADIUS:
        return x
    offsets = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1.0)
    kernel = (-0.5 * (offsets / BLUR_SIGMA) ** 2).exp()
    kernel /= kernel.sum()
    x = F.pad(x[:, None], (BLUR_RADIUS,) * 4, "reflect")
    return F.conv2d(F.conv2d(x, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))[:, 0]


def _power(x: Tensor, exponent: Tensor) -> Tensor:
    """-> x ** exponent, for x of 0 and more; a little off, with a finite slope at 0, as it was when calibrated."""
    return (x + 1e-5) ** exponent - 1e-5**exponent


def _norm(x: Tensor, exponent: Tensor, axes: tuple[int, ...], count: int = 1) -> Tensor:
    """-> the norm over axes, of `count` entries if it is to be their mean."""
    return _power(_power(x, exponent).sum(dim=axes) / count, 1 / exponent)


@functools.lru_cache(maxsize=1)
def _contrasts_of(pixels: bytes, height: int, width: int) -> list[tuple[Tensor, Tensor]]:
    """-> contrasts of the original, kept while it is compared with one picture after the other."""
    return contrasts(np.frombuffer(pixels, np.uint8).reshape(height, width, 3))


@torch.inference_mode()
def quality(wanted: np.ndarray, got: np.ndarray) -> float:
    """-> JOD of two pictures [H, W, 3] uint8 of at least MIN_SIDE px a side: at most 10."""
    known = load()
    bands = list(zip(_contrasts_of(wanted.tobytes(), *wanted.shape[:2]), contrasts(got), strict=True))
    found = torch.empty(3, len(bands))
    for i, (((x, log_background), (y, _)), frequency) in enumerate(
        zip(bands, frequencies(*wanted.shape[:2]), strict=True)
    ):
        s = sensitivity(frequency, log_background)
        is_last = i == len(bands) - 1
        d = (x - y).abs() * s if is_last else differences(x * s, y * s)
        found[:, i] = _norm(d, known.tensor("beta"), (1, 2), d[0].numel())
    chromatic = known.parameters["ch_chrom_w"]
    found *= torch.tensor([1.0, chromatic, chromatic])[:, None]
    found[:, -1] *= known.tensor("baseband_weight")[:3]
    total = _norm(_norm(found, known.tensor("beta_sch"), (1,)), known.tensor("beta_tch"), (0,))
    return _jod(float(total) * known.parameters["image_int"])


def _jod(difference: float) -> float:
    """-> JOD of a visible difference; a straight line at first."""
    slope, exponent, straight = load().parameters["jod_a"], load().parameters["jod_exp"], 0.1
    if difference <= straight:
        return 10 - slope * straight ** (exponent - 1) * difference
    return 10 - slope * difference**exponent
