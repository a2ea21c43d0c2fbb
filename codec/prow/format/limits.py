"""How much a file or a picture may ask for (SPEC section 3): the numbers, and the errors for what is beyond them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from ..arguments import whole
from ..errors import LimitError

__all__ = ["DEFAULT_MAX_PIXELS", "Limits", "Meter", "memory_errors"]

DEFAULT_MAX_PIXELS = 2**26  # width * height, of decoders and encoders
_MOST_WORK = 10**10  # ns

# What decoding takes, in ns on two cores (SPEC section 3):
READ = 1000  # an integer or a flag
SHOWN = 40  # a pixel of the picture, which levels without networks are made larger to
COARSE, FULL_SIZE, LIGHT = 2600, 1400, 550  # a pixel of a level: with coarse, fine or light filter
TILE_PIXEL = 2200  # a pixel of a tile of an external model
VIVID = 2000  # a pixel of the picture in the vivid style


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is allowed.

    Attributes:
        pixels: most width * height of a picture. More than the default raises the limit of `work` as well.

    Raises:
        InputError: `pixels` is no whole number above 0.
    """

    pixels: int = DEFAULT_MAX_PIXELS

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixels", whole("max_pixels", self.pixels, 1))

    @property
    def work(self) -> int:
        """Most nominal time to decode a file, in ns: 10 s by default."""
        return _MOST_WORK * max(self.pixels, DEFAULT_MAX_PIXELS) // DEFAULT_MAX_PIXELS

    def check_pixels(self, width: int, height: int) -> None:
        """Raise LimitError for a picture that is too large."""
        if width * height > self.pixels:
            raise LimitError(
                f"{width} x {height} px are {width * height:,} pixels, the limit is {self.pixels:,} "
                "(raise it with max_pixels= or --max-pixels)"
            )


class Meter:
    """Adds up the work of decoding one file."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._work = limits, 0

    def add(self, work: int) -> None:
        """So many ns more are asked for. Raises LimitError for more than the limit."""
        self._work += work
        if self._work > self._limits.work:
            raise LimitError(
                f"decoding takes {self._work / 1e9:.1f} s of two cores or more, the limit is "
                f"{self._limits.work / 1e9:.1f} s (max_pixels={_enough_pixels(self._work)}, or --max-pixels, raises it)"
            )


def _enough_pixels(work: int) -> int:
    """The `Limits.pixels` whose limit of work is a little above this."""
    return int(1.1 * work * DEFAULT_MAX_PIXELS / _MOST_WORK) + 1


@contextlib.contextmanager
def memory_errors(width: int, height: int) -> Iterator[None]:
    """What is said where memory does not suffice for a picture of this size: a LimitError with both numbers."""
    try:
        yield
    except Exception as error:
        if not _is_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200] or "no more memory"
        raise LimitError(
            f"{width} x {height} px, {width * height:,} pixels, take more memory than this process can have: {reason}"
        ) from error


def _is_of_memory(error: Exception) -> bool:
    """numpy and Pillow raise MemoryErrors; ONNX Runtime and torch errors of their own that say what they are."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or ("alloc" in said and "memory" in said)
