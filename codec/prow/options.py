"""What callers may choose of an encoder and a decoder. Imports nothing, so that a command line starts quickly."""

from __future__ import annotations

from typing import Literal, get_args

DEFAULT_EFFORT = 5  # of an encoder, 1 to 9
DEFAULT_FOCUS_WEIGHT = 16.0
DEFAULT_QUALITY = 50  # 0 to 100
DEFAULT_PLACEHOLDER_BYTES = 48
Style = Literal["faithful", "vivid"]  # of decoding
STYLES = get_args(Style)
