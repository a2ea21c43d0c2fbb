"""What a folder of shards holds, in a few numbers."""

from __future__ import annotations

import dataclasses
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

from ..errors import InputError
from . import manifest


@dataclasses.dataclass(frozen=True)
class Stats:
    """Sums over a dataset.

    Attributes:
        rows: samples. errors: those without a result. bytes: of all results; pixels: of their pictures.
        psnr: mean in dB of those that have one and lost anything; None if none has.
        shards, wanted_shards: that are there, and that the manifest speaks of (None without a manifest).
        messages: the most frequent errors, and how often each came.
    """

    rows: int
    errors: int
    bytes: int
    pixels: int
    psnr: float | None
    shards: int
    wanted_shards: int | None
    messages: tuple[tuple[str, int], ...]


def stats(folder: str | os.PathLike[str]) -> Stats:
    """Sum up a folder that `encode`, `decode` or `truncate` made, finished or not; reads the small columns alone.

    Raises:
        InputError: pyarrow is not installed, or there is no such dataset.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise InputError("pyarrow is not installed: pip install 'prow[dataset]'") from None
    place = Path(folder)
    wanted = manifest.count_shards(place)
    paths = sorted(place.glob("part-*.parquet"))
    if not paths and wanted is None:
        raise InputError(f"{place} holds no shards: wanted a folder that `prow dataset` made")
    rows = total = pixels = 0
    levels: list[float] = []
    messages: Counter[str] = Counter()
    for path in paths:
        names = pq.read_schema(path).names
        table = pq.read_table(path, columns=[n for n in ("width", "height", "bytes", "psnr", "error") if n in names])
        columns: dict[str, list[Any]] = table.to_pydict()
        rows += len(table)
        total += sum(filter(None, columns.get("bytes", ())))
        sides = zip(columns["width"], columns["height"], strict=True)
        pixels += sum(width * height for width, height in sides if width is not None)
        levels += [level for level in columns.get("psnr", ()) if level is not None and math.isfinite(level)]
        messages.update(error for error in columns["error"] if error is not None)
    psnr = sum(levels) / len(levels) if levels else None
    return Stats(rows, sum(messages.values()), total, pixels, psnr, len(paths), wanted, tuple(messages.most_common(5)))
