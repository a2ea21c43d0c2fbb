"""How much a file or a picture may ask for (SPEC section 3): the numbers, and the errors for what is beyond them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from ..arguments import whole
from ..errors import LimitError

__all__ = ["DEFAULT_MAX_PIXELS", "Limits", "memory_errors"]

DEFAULT_MAX_PIXELS = 2**26  # width * height, of decoders and encoders
_FREE_SHARE = 8  # of the pixels that are allowed, one in so many may be painted whatever the size of the file
_WORK_PER_BYTE = 4096


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is allowed, all of it in proportion to `pixels`: width * height of a picture.

    The unit of work is a pixel that networks paint or filter on some level, or an integer that is read: either takes
    about a microsecond on two cores. Pixels that are only made larger are no work.

    Raises:
        InputError: `pixels` is no whole number above 0.
    """

    pixels: int = DEFAULT_MAX_PIXELS

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixels", whole("max_pixels", self.pixels, 1))

    def work(self, payload_bytes: int) -> int:
        """Most work for a payload of so many bytes."""
        return self.pixels // _FREE_SHARE + _WORK_PER_BYTE * payload_bytes

    def check_pixels(self, width: int, height: int) -> None:
        """Raise LimitError for a picture that is too large."""
        if width * height > self.pixels:
            raise LimitError(
                f"{width} x {height} px are {width * height:,} pixels, the limit is {self.pixels:,} "
                "(raise it with max_pixels=)"
            )

    def check_work(self, work: int, payload_bytes: int) -> None:
        """Raise LimitError for a file that asks for more work than its size allows."""
        most = self.work(payload_bytes)
        if work > most:
            # Reading is stopped before all of the work is known: so at least twice as much.
            wanted = max(2 * self.pixels, _FREE_SHARE * (work - _WORK_PER_BYTE * payload_bytes))
            raise LimitError(
                f"a payload of {payload_bytes:,} bytes asks for {work:,} units of work, the limit is {most:,} "
                f"(raise it with max_pixels={wanted} or more)"
            )


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
