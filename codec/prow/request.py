"""What encoders are asked for: a size, a quality or a target, and with what; checked."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from . import metrics
from .arguments import flag, number, one_of, several, text, told, whole
from .coding.focus import Focus
from .errors import BudgetError, InputError
from .format import container
from .format.container import Profile
from .options import DEFAULT_FOCUS_WEIGHT, DEFAULT_QUALITY
from .registry import AnyModel, find

Box = tuple[int, int, int, int]  # x, y, width, height in px
_MOST_BYTES = 1 << 62  # what a size in bits per pixel may come to


@dataclasses.dataclass(frozen=True)
class Target:
    """How near to the original a file should come: `value` of the metric `name`, whose unit is `unit`."""

    name: str
    value: float
    unit: str
    measure: Callable[[np.ndarray, np.ndarray], float]


def target_of(psnr: object, ms_ssim: object, others: dict[str, object]) -> Target | None:
    """The target that is asked for, if any. Raises InputError."""
    given = [name for name, value in {**others, "psnr": psnr, "ms_ssim": ms_ssim}.items() if value is not None]
    if psnr is None and ms_ssim is None:
        return None
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} came together, wanted one of bytes, bpp, quality, psnr and ms_ssim")
    if psnr is not None:
        return Target("psnr", number("psnr", psnr, "a number of dB above 0", 0, above=True), " dB", metrics.psnr)
    wanted = "a number above 0 and at most 1"
    return Target("ms_ssim", number("ms_ssim", ms_ssim, wanted, 0, 1, above=True), "", metrics.ms_ssim)


@dataclasses.dataclass(frozen=True)
class Request:
    """What `encode` was asked for."""

    bytes: int | None
    bpp: float | None
    quality: float | None
    model: str
    profile: Profile
    effort: int
    device: str
    letterbox: bool = False
    focus: Sequence[Box] = ()
    focus_weight: float = DEFAULT_FOCUS_WEIGHT

    def check(self) -> AnyModel:
        """The model that is asked for. Raises InputError and ModelError."""
        one_of("profile", self.profile, ("file", "bare"))
        given = [name for name in ("bytes", "bpp", "quality") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InputError(f"{' and '.join(given)} came together, wanted one of bytes, bpp and quality")
        whole("effort", self.effort, 1, 9)
        if self.bytes is not None and whole("bytes", self.bytes, -_MOST_BYTES) < self.least:
            self.refuse(int(self.bytes))
        if self.bpp is not None:
            number("bpp", self.bpp, "a number above 0", 0, above=True)
        self.level()
        flag("letterbox", self.letterbox)
        return find(text("model", self.model, "the name of one (see prow.models())"))

    @property
    def least(self) -> int:
        """Bytes of the smallest file."""
        return container.MIN_BYTES if self.profile == "file" else container.MIN_BARE_BYTES

    def refuse(self, size: int) -> NoReturn:
        """Raises BudgetError."""
        raise BudgetError(f"a budget of {size} bytes came, the {self.profile} profile wants at least {self.least}")

    def room(self, width: int, height: int, before: int = 0) -> int | None:
        """Bytes of the stream in a file of a picture, behind `before` others; None if a quality is asked for."""
        size = None if self.bytes is None else int(self.bytes)
        if self.bpp is not None:
            size = math.floor(min(float(self.bpp) * width * height / 8, _MOST_BYTES))
        if size is None:
            return None
        if size < self.least:
            self.refuse(size)
        return container.payload_room(size, width, height, self.profile) - before

    def parts(self, width: int, height: int) -> Focus | None:
        """The parts that matter more in a picture of this size, if any. Raises InputError."""
        weight = number("focus_weight", self.focus_weight, "a number of at least 1", 1)
        boxes = [_box(box, width, height) for box in several("focus", self.focus, "boxes (x, y, width, height)")]
        return Focus(np.array(boxes, dtype=np.int64), weight) if boxes else None

    def level(self) -> float:
        """The quality."""
        quality = DEFAULT_QUALITY if self.quality is None else self.quality
        return number("quality", quality, "a number from 0 to 100", 0, 100)


def _box(box: Any, width: int, height: int) -> Box:
    """A box in a picture of this size. Raises InputError."""
    try:
        x, y, across, down = map(operator.index, box)
    except (TypeError, ValueError):
        raise InputError(f"focus {told(box)} came, wanted whole numbers x, y, width, height") from None
    if not (0 <= x < x + across <= width and 0 <= y < y + down <= height):
        raise InputError(f"focus {told(box)} came, wanted x, y, width, height inside of {width} x {height} px")
    return x, y, across, down
