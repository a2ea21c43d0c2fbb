"""What callers may choose of an encoder and a decoder. Imports nothing slow: a command line starts quickly."""

from __future__ import annotations

import os
from typing import Literal, get_args

DEFAULT_EFFORT = 5  # of an encoder, 1 to 9
DEFAULT_FOCUS_WEIGHT = 16.0
DEFAULT_QUALITY = 50  # 0 to 100
DEFAULT_PLACEHOLDER_BYTES = 48
Style = Literal["faithful", "vivid"]  # of decoding
STYLES = get_args(Style)
Check = Literal["crc16", "crc32"]  # of a file
CHECKS = get_args(Check)


def thread_count() -> int | None:
    """Threads that OMP_NUM_THREADS asks for (the first number of a list), at most one for each processor, since a
    system that is asked for thousands may hang. None if it asks for none."""
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if not (given.isascii() and given.isdigit()) or int(given[:9]) == 0:
        return None
    return min(int(given[:9]), os.cpu_count() or 1)
