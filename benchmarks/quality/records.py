"""Finished measurements, kept as JSON lines, from which a later run takes what it would otherwise repeat.

A point has budget, reached (whether the codec can do it) and, if so, for each metric measured the value (None where it
is not defined) and the file that it is from: bytes, the codec's setting, encode and decode seconds.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from benchmarks.codecs.codec import BEST_BY
from benchmarks.common.corpus import Picture
from benchmarks.common.workers import results_of, shown

SHIPPED = Path(__file__).parents[1] / "results"  # its *.jsonl are reused by every run

Point = dict[str, Any]
Record = dict[str, Any]  # codec, settings, image and its SHA-256, points
Wanted = dict[str, dict[int, list[str]]]  # metrics to measure, by codec and budget


class Measured(Protocol):
    """What results are known by besides the picture."""

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> dict[str, Any]: ...


class Records:
    """Points by (codec, its settings, image). Those in a file at `path` are known, and new ones are added to it."""

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self._path = path
        self._points: dict[tuple[str, str, str], dict[int, Point]] = {}
        for source in [*([] if fresh else sorted(SHIPPED.glob("*.jsonl"))), path]:
            for line in source.read_text().splitlines(keepends=True) if source.exists() else []:
                if line.endswith("\n"):  # a run that was killed may have left half a line
                    self._take(json.loads(line))
                else:
                    os.truncate(source, source.stat().st_size - len(line.encode()))

    def _take(self, record: Record) -> None:
        record = upgraded(record)
        points = self._points.setdefault(_key(record["codec"], record["settings"], record["image_sha256"]), {})
        for point in record["points"]:
            points[point["budget"]] = {**points.get(point["budget"], {}), **point}

    def points(self, codec: Measured, picture: Picture) -> dict[int, Point]:
        """-> what is known of a codec with its present settings on an image, by budget."""
        return self._points.get(_key(codec.name, codec.settings, picture.sha256), {})

    def missing(self, codecs: Iterable[Measured], picture: Picture, budgets: list[int], names: Sequence[str]) -> Wanted:
        """-> the metrics that are not known yet, without codecs and budgets that lack none."""
        wanted: Wanted = {}
        for codec in codecs:
            known = self.points(codec, picture)
            for b in budgets:
                if lacking := [n for n in names if b not in known or (known[b]["reached"] and n not in known[b])]:
                    wanted.setdefault(codec.name, {})[b] = lacking
        return wanted

    def fill(self, measure: Callable[..., list[Record]], units: list[tuple], jobs: int) -> None:
        """Measure those units (family, ..., Wanted) that want something; progress goes to stderr."""
        wanting = [unit for unit in units if unit[-1]]
        print(f"{len(units) - len(wanting)} results known, {len(wanting)} to do", file=sys.stderr)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        for records in shown(results_of(measure, wanting, jobs), len(wanting)):
            for record in records:
                self._take(record)
                with self._path.open("a") as file:
                    file.write(json.dumps(record) + "\n")


def record_of(codec: Measured, picture: Picture, points: list[Point]) -> Record:
    """-> new points as a record."""
    who = {"codec": codec.name, "settings": codec.settings}
    return {**who, "image": picture.path.name, "image_sha256": picture.sha256, "points": points}


def upgraded(record: Record) -> Record:
    """-> a record of the first kind as one of today's; others as they are.

    The first kind chose among downscale factors by PSNR for all metrics. So its PSNR is still right, and where
    there was a choice, its MS-SSIM is not: that one is left out, to be measured again.
    """
    if "best_by" not in record["settings"] or record["settings"]["best_by"] == BEST_BY:
        return record
    names = ("psnr",) if len(record["settings"]["factors"]) > 1 else ("psnr", "ms_ssim")
    points = []
    for old in record["points"]:
        point: Point = {"budget": old["budget"], "reached": old["bytes"] is not None}
        if point["reached"]:
            file = {name: old[name] for name in ("bytes", "factor", "quality")}
            point.update({name: {"value": old[name], **file} for name in names})
        points.append(point)
    return {**record, "settings": {**record["settings"], "best_by": BEST_BY}, "points": points}


def _key(codec: str, settings: dict[str, Any], image_sha256: str) -> tuple[str, str, str]:
    return codec, json.dumps(settings, sort_keys=True), image_sha256
