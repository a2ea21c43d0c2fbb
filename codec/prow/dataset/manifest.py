"""The manifest of a dataset in the making: what is done, and which inputs each shard holds.

It is written before the first shard. So a shard that is there is whole, and one that is in the manifest and is not
there is still to do. It is one line of JSON about the task, and then one for each shard.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError
from .shard import Task
from .source import Part

NAME = "_manifest.jsonl"  # readers of Parquet folders pass over what begins with an underscore


def shard_name(number: int) -> str:
    return f"part-{number:06}.parquet"


def prepare(dst: Path, task: Task, parts: list[Part]) -> None:
    """Write the manifest, or see that the one that is there says the same.

    Raises:
        InputError: `dst` holds something else.
    """
    lines = [json.dumps({"prow": "dataset", **dataclasses.asdict(task)}), *_lines(parts)]
    text = "\n".join(lines) + "\n"
    path = dst / NAME
    dst.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        _compare(path, text)
        return
    if any(not entry.name.startswith(".") for entry in dst.iterdir()):
        raise InputError(f"{dst} holds files and no {NAME}: wanted an empty folder, or one to continue with")
    temporary = dst / f".{NAME}-{os.urandom(8).hex()}.tmp"
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _lines(parts: list[Part]) -> Iterator[str]:
    for number, part in enumerate(parts):
        yield json.dumps({"shard": shard_name(number), **dataclasses.asdict(part)})


def _compare(path: Path, wanted: str) -> None:
    """Raises InputError, which says what differs, unless a manifest has this text."""
    there = path.read_text(encoding="utf-8")
    if there == wanted:
        return
    old, new = (json.loads(text.partition("\n")[0]) for text in (there, wanted))
    for key in new:
        if old.get(key) != new[key]:
            came = f"{key} {new[key]!r} came, and {path.parent} was begun with {old.get(key)!r}"
            raise InputError(f"{came}: wanted the same, or an empty folder")
    raise InputError(f"the source has other inputs than when {path.parent} was begun: wanted an empty folder")


def count_shards(dst: Path) -> int | None:
    """How many the manifest speaks of; None if there is no manifest."""
    path = dst / NAME
    if not path.is_file():
        return None
    with open(path, encoding="utf-8") as file:
        return sum(1 for _ in file) - 1
