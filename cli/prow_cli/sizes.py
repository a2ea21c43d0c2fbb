"""Sizes in bytes as people write them: 700, 2k (2,000), 1.5k (1,500), 2KiB (2,048)."""

from __future__ import annotations

import re
from decimal import Decimal

import click

from prow.format.limits import DEFAULT_MAX_PIXELS

UNITS = {"": 1, "b": 1, "k": 10**3, "kb": 10**3, "kib": 2**10, "m": 10**6, "mb": 10**6, "mib": 2**20}
FITS = {"sms": 140, "lora": 222, "ble": 244, "udp": 1200, "qr": 2953}  # bytes of a message: docs/links.md
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([a-z]*)", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes meant by `text`; a fraction of a byte is dropped, since a size is an upper limit.

    Raises ValueError if `text` is not a number with one of the suffixes in UNITS (any case).
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].lower() not in UNITS:
        raise ValueError(f"{text!r} is not a size in bytes, such as 700, 2k, 1.5k or 2KiB")
    return int(Decimal(match[1]) * UNITS[match[2].lower()])


max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=DEFAULT_MAX_PIXELS,
    metavar="N",
    help=f"Refuse pictures of a larger width x height; {DEFAULT_MAX_PIXELS:,} without it.",
)


class Size(click.ParamType):
    """A click parameter type around parse_size."""

    name = "size"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_size(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
