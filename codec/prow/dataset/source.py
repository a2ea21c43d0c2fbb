"""Where pictures come from: a folder of them, Parquet files, WebDataset tars.

A source is cut into parts, each of which becomes one shard. A part is read in batches, so that memory is bounded.
"""

from __future__ import annotations

import abc
import copy
import dataclasses
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .rows import Came

if TYPE_CHECKING:
    import pyarrow as pa

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".jxl")
TEXTS = ("txt", "json", "cls", "caption")  # members of tars that become text; all others become bytes
INPUT = "input"  # the column that says which input a row is of


@dataclasses.dataclass(frozen=True)
class Part:
    """What one shard holds: pictures of a folder, or `count` samples of one file from number `first` on.

    `files` are relative to the source, "." being the source itself.
    """

    files: tuple[str, ...]
    first: int
    count: int


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some samples: what each is called, its picture, and the columns that are kept."""

    inputs: list[str]
    pictures: list[Came]
    columns: pa.Table


class Source(abc.ABC):
    """A folder or a file of samples.

    Attributes:
        root: of the files. column: that of the pictures. left_out: columns that are not kept.
    """

    def __init__(self, root: Path, files: list[Path], column: str | None, left_out: frozenset[str]) -> None:
        self.root, self.files, self.column, self.left_out = root, files, column, left_out

    @abc.abstractmethod
    def parts(self, size: int) -> list[Part]:
        """All of it in parts of up to `size` samples, in an order that is always the same. Raises InputError."""

    @abc.abstractmethod
    def schema(self) -> pa.Schema:
        """Of the columns that are kept."""

    @abc.abstractmethod
    def read(self, part: Part, size: int) -> Iterator[Batch]:
        """A part in batches of up to `size` samples. Raises InputError if there are fewer than there were."""

    def without_files(self) -> Source:
        """What a worker needs to `read` parts; a list of all files may be long."""
        small = copy.copy(self)
        small.files = []
        return small

    def name(self, path: Path) -> str:
        """Of a file in a part."""
        return path.relative_to(self.root).as_posix()

    def kept(self, names: list[str]) -> list[str]:
        return [name for name in names if name not in self.left_out]


class FolderSource(Source):
    """Pictures in a folder and in those below it; one column, `path`, relative to it."""

    def parts(self, size: int) -> list[Part]:
        names = [self.name(path) for path in self.files]
        return [
            Part(tuple(names[first : first + size]), 0, len(names[first : first + size]))
            for first in range(0, len(names), size)
        ]

    def schema(self) -> pa.Schema:
        import pyarrow as pa

        return pa.schema([(name, pa.string()) for name in self.kept(["path"])])

    def read(self, part: Part, size: int) -> Iterator[Batch]:
        import pyarrow as pa

        for first in range(0, len(part.files), size):
            names = list(part.files[first : first + size])
            columns = pa.table({"path": pa.array(names, pa.string())}).select(self.kept(["path"]))
            yield Batch(names, [_read_file(self.root / name) for name in names], columns)


class ParquetSource(Source):
    """Parquet files with a column of pictures: bytes, paths, or as Hugging Face has them, both in one."""

    def __init__(self, root: Path, files: list[Path], column: str | None, left_out: frozenset[str]) -> None:
        import pyarrow.parquet as pq

        super().__init__(root, files, column or "image", left_out)
        self.whole = pq.read_schema(files[0])
        if self.column not in self.whole.names:
            known = ", ".join(self.whole.names)
            raise InputError(f"{files[0]} has no column {self.column!r}: wanted one of {known} (--column)")

    def parts(self, size: int) -> list[Part]:
        import pyarrow.parquet as pq

        parts = []
        for path in self.files:
            metadata = pq.read_metadata(path)
            if not metadata.schema.to_arrow_schema().equals(self.whole):
                raise InputError(f"{path} has other columns than {self.files[0]}: wanted files with the same ones")
            starts = range(0, metadata.num_rows, size)
            parts += [Part((self.name(path),), start, min(size, metadata.num_rows - start)) for start in starts]
        return parts

    def schema(self) -> pa.Schema:
        import pyarrow as pa

        return pa.schema([self.whole.field(name) for name in self.kept(self.whole.names)])

    def read(self, part: Part, size: int) -> Iterator[Batch]:
        import pyarrow.parquet as pq

        (name,) = part.files
        path = self.root / name
        names, beside = self.schema().names, [c for c in ("error",) if c in self.whole.names]
        with pq.ParquetFile(path) as file:
            for first, table in _rows(file, part, size, list({*names, str(self.column), *beside})):
                errors = table["error"].to_pylist() if beside else [None] * len(table)
                cells = table[self.column].to_pylist()
                pictures = [self._picture(path, *pair) for pair in zip(cells, errors, strict=True)]
                inputs = [f"{path.name if name == '.' else name}:{first + i}" for i in range(len(table))]
                yield Batch(inputs, pictures, table.select(names))

    def _picture(self, path: Path, cell: Any, error: object) -> Came:
        if isinstance(cell, dict):  # Hugging Face: bytes, or else where they are
            cell = cell.get("bytes") or cell.get("path")
        if cell is None:
            return InputError(error if isinstance(error, str) else f"null came in column {self.column!r}")
        if isinstance(cell, str):
            return _read_file(path.parent / cell)
        if isinstance(cell, bytes):
            return cell
        return InputError(f"{type(cell).__name__} came in column {self.column!r}, wanted bytes or a path")


class TarSource(Source):
    """Tars as WebDataset writes them: files one after another whose names up to the first dot are the same are one
    sample. A column for the key, one for each kind of file but the picture's."""

    def __init__(self, root: Path, files: list[Path], column: str | None, left_out: frozenset[str]) -> None:
        super().__init__(root, files, column, left_out)
        self._counts: dict[Path, int] = {}
        kinds: set[str] = set()
        for path in files:
            count = 0
            for _, members in _samples(path):
                picture = self._picture_of(members)
                kinds |= {kind for kind in members if kind != picture and kind != column}
                count += 1
            self._counts[path] = count
        self.names = ["__key__", *sorted(kinds)]

    def parts(self, size: int) -> list[Part]:
        return [
            Part((self.name(path),), start, min(size, count - start))
            for path, count in self._counts.items()
            for start in range(0, count, size)
        ]

    def schema(self) -> pa.Schema:
        import pyarrow as pa

        text = {"__key__", *TEXTS}
        return pa.schema([(name, pa.string() if name in text else pa.binary()) for name in self.kept(self.names)])

    def read(self, part: Part, size: int) -> Iterator[Batch]:
        import pyarrow as pa

        (name,) = part.files
        path = self.root / name
        schema, stop = self.schema(), part.first + part.count
        inputs: list[str] = []
        pictures: list[Came] = []
        columns: list[dict[str, Any]] = []
        with open(path, "rb") as file:
            for number, (key, members) in enumerate(_samples(path)):
                if number < part.first:
                    continue
                cells: dict[str, Any] = {"__key__": key}
                kind = self._picture_of(members)
                for other, (offset, length) in members.items():
                    if other == kind or other in schema.names:
                        file.seek(offset)
                        data = file.read(length)
                        cells[other] = data.decode(errors="replace") if other in TEXTS else data
                inputs.append(f"{path.name if name == '.' else name}:{key}")
                wanted = f"one named .{self.column}" if self.column else "a picture"
                pictures.append(cells[kind] if kind else InputError(f"{', '.join(members)} came, wanted {wanted}"))
                columns.append({column: cells.get(column) for column in schema.names})
                if len(inputs) == size or number + 1 == stop:
                    yield Batch(inputs, pictures, pa.Table.from_pylist(columns, schema=schema))
                    inputs, pictures, columns = [], [], []
                if number + 1 == stop:
                    return

    def _picture_of(self, members: dict[str, tuple[int, int]]) -> str | None:
        """Which member of a sample is the picture."""
        if self.column:
            return self.column if self.column in members else None
        return next((kind for kind in members if f".{kind.rpartition('.')[2]}" in PICTURES), None)


def open_source(src: str | Path, column: str | None, left_out: frozenset[str]) -> Source:
    """What a folder or a file holds.

    Args:
        column: of the pictures; None: "image" in Parquet, the first that is a picture in tars.
        left_out: columns that are not kept.

    Raises:
        InputError: there is nothing, nothing to read, or there are files of several kinds.
    """
    src = Path(src)
    if not src.exists():
        raise InputError(f"{src} does not exist: a folder, a Parquet file or a tar was wanted")
    paths = [src] if src.is_file() else sorted(path for path in src.rglob("*") if _visible(path, src))
    kinds = {
        "Parquet files": (ParquetSource, [p for p in paths if p.suffix.lower() == ".parquet"]),
        "tars": (TarSource, [p for p in paths if p.suffix.lower() == ".tar"]),
        "pictures": (FolderSource, [p for p in paths if p.suffix.lower() in PICTURES and p != src]),
    }
    there = {name: len(files) for name, (_, files) in kinds.items() if files}
    if len(there) != 1:
        came = " and ".join(f"{count:,} {name}" for name, count in there.items()) or "nothing to read"
        raise InputError(f"{came} came in {src}: wanted Parquet files, tars or a folder of pictures, one kind of them")
    kind, files = kinds[next(iter(there))]
    if column and kind is FolderSource:
        raise InputError(f"column {column!r} came, and {src} is a folder of pictures, which has none")
    return kind(src, files, column, left_out)


def _visible(path: Path, root: Path) -> bool:
    """Files only, and none of those that are hidden, as those in the making are."""
    return not any(part.startswith((".", "_")) for part in path.relative_to(root).parts) and path.is_file()


def _read_file(path: Path) -> Came:
    try:
        return path.read_bytes()
    except OSError as error:
        return InputError(f"cannot read {path}: {error.strerror}")


def _rows(file: Any, part: Part, size: int, columns: list[str]) -> Iterator[tuple[int, pa.Table]]:
    """The rows of a part of a Parquet file: number of the first one, and up to `size` rows."""
    import pyarrow as pa

    row, stop = 0, part.first + part.count
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if row + count <= part.first or row >= stop:
            row += count
            continue
        for batch in file.iter_batches(size, row_groups=[group], columns=columns):
            start, end = max(part.first - row, 0), min(stop - row, len(batch))
            if start < end:
                yield row + start, pa.Table.from_batches([batch.slice(start, end - start)])
            row += len(batch)


def _samples(path: Path) -> Iterator[tuple[str, dict[str, tuple[int, int]]]]:
    """Key of each sample of a tar, and its members by kind: offset and length in bytes. Raises InputError."""
    try:
        with tarfile.open(path, "r:") as tar:
            key, members = "", {}
            for member in tar:
                if not member.isfile():
                    continue
                folder, _, base = member.name.rpartition("/")
                stem, _, kind = base.partition(".")
                here = f"{folder}/{stem}" if folder else stem
                if here != key and members:
                    yield key, members
                    members = {}
                key = here
                members[kind.lower()] = member.offset_data, member.size
            if members:
                yield key, members
    except tarfile.TarError as error:
        raise InputError(f"{path} is no tar that can be read: {error}") from error
