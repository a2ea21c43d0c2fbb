"""Sizes as people write them."""

from __future__ import annotations

import pytest

from prow_cli.sizes import parse_size


def test_sizes() -> None:
    texts = "700", "2k", "2K", "2kB", "1.5k", "2KiB", "2kib", "0.5 KiB", "1M", "1MiB", "64b", "1.0015k", "0.29k", "0"
    sizes = 700, 2000, 2000, 2000, 1500, 2048, 2048, 512, 10**6, 2**20, 64, 1001, 290, 0
    assert {text: parse_size(text) for text in texts} == dict(zip(texts, sizes, strict=True))


@pytest.mark.parametrize("text", ["", "k", "-5", "1e3", "2kk", "2g", "1,000", "0x10", "nan", "1.", ".5k", "٣", "1 2"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)
