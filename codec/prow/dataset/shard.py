"""One shard: a Parquet file that appears whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from . import rows
from .source import INPUT, Batch, Part, Source, open_source

if TYPE_CHECKING:
    import pyarrow as pa

FLUSH_BYTES = 1 << 26  # of a shard that wait in memory
_COLUMNS = {  # of results, by what is done
    "encode": ("prow", "width", "height", "bytes", "psnr", "error"),
    "decode": ("image", "width", "height", "error"),
    "truncate": ("prow", "width", "height", "bytes", "error"),
}
_DO: dict[str, Callable[..., list[rows.Row]]] = {
    "encode": rows.encode_rows,
    "decode": rows.decode_rows,
    "truncate": rows.truncate_rows,
}


@dataclasses.dataclass(frozen=True)
class Task:
    """What is done to a dataset: all that says what its shards hold.

    Attributes:
        kind: "encode", "decode" or "truncate". source: a folder or a file.
        column: that of the pictures, or the usual one. keep: keep it, too. drop: other columns that are not kept.
        options: of the function in `prow.dataset.rows`. shard: samples a shard.
    """

    kind: str
    source: str
    column: str | None
    keep: bool
    drop: tuple[str, ...]
    shard: int
    options: dict[str, Any]

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the results."""
        return tuple(name for name in _COLUMNS[self.kind] if name != "psnr" or self.options.get("psnr"))

    def open(self) -> Source:
        """Raises InputError if there is nothing to read, or a column stands in the way of a result."""
        left_out = set(self.drop)
        if self.kind != "encode":
            left_out |= {*self.columns, "psnr"} - ({"psnr"} if self.kind == "decode" else set())
        probe = open_source(self.source, self.column, frozenset(left_out))
        picture = probe.column
        if picture and not self.keep:
            left_out.add(picture)
        elif picture and picture not in self.columns:
            left_out.discard(picture)
        source = open_source(self.source, self.column, frozenset(left_out))
        taken = self.columns if self.kind != "encode" else (*self.columns, INPUT)
        if clash := [name for name in source.schema().names if name in taken]:
            raise InputError(f"column {clash[0]!r} of {self.source} has the name of a result (--drop {clash[0]})")
        return source


def schema_of(task: Task, source: Source) -> pa.Schema:
    """Of a shard: the columns that are kept, which input it is, the results."""
    import pyarrow as pa

    types = {"width": pa.int32(), "height": pa.int32(), "bytes": pa.int64(), "psnr": pa.float32(), "error": pa.string()}
    kept = list(source.schema())
    if INPUT not in source.schema().names:
        kept.append(pa.field(INPUT, pa.string()))
    return pa.schema([*kept, *(pa.field(name, types.get(name, pa.binary())) for name in task.columns)])


def write(task: Task, source: Source, part: Part, path: Path, batch: int, device: str | None) -> None:
    """Make one shard, `batch` samples at a time, in a file beside `path` that is renamed at the end.

    Raises:
        InputError: the source has fewer samples than it had. OSError.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, done = schema_of(task, source), 0
    temporary = path.with_name(f".{path.name}-{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                waiting: list[pa.Table] = []
                for some in source.read(part, batch):
                    waiting.append(_table(task, some, schema, device))
                    done += len(some.inputs)
                    if sum(table.nbytes for table in waiting) >= FLUSH_BYTES:
                        writer.write_table(pa.concat_tables(waiting))
                        waiting = []
                if waiting:
                    writer.write_table(pa.concat_tables(waiting))
            file.flush()
            os.fsync(file.fileno())
        if done != part.count:
            raise InputError(f"{done:,} samples came of {', '.join(part.files[:3])}, wanted {part.count:,}")
        os.replace(temporary, path)
    except BaseException:  # an interrupt too
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _table(task: Task, some: Batch, schema: pa.Schema, device: str | None) -> pa.Table:
    """The rows of a batch."""
    import pyarrow as pa

    options = task.options if device is None else {**task.options, "device": device}
    results = _DO[task.kind](some.pictures, **options)
    cells: dict[str, list[Any]] = {
        **{name: [getattr(row, name) for row in results] for name in ("width", "height", "psnr", "error")},
        "bytes": [row.data and len(row.data) for row in results],
        "prow": [row.data for row in results],
        "image": [row.data for row in results],
    }
    kept = some.columns.schema.names
    arrays = []
    for field in schema:
        if field.name in kept:
            arrays.append(some.columns[field.name])
        else:
            arrays.append(pa.array(some.inputs if field.name == INPUT else cells[field.name], field.type))
    return pa.Table.from_arrays(arrays, schema=schema)
