"""prow files as training data: pictures that are decoded a batch at a time, on a device, and cut on the way.

    files = ProwDataset("encoded", cut=(100, 1000))
    loader = DataLoader(files, 64, collate_fn=functools.partial(collate, device="cuda"))

A cut file is a coarser picture. To cut each at random is an augmentation: a network learns to see at any rate. With
workers (`num_workers`) give `collate_fn=list` and call `collate` in the loop: a forked process cannot use a GPU.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from . import api
from .errors import InputError
from .format import container
from .format.tokens import Tokens
from .image import load_rgb
from .options import Style

Cut = int | tuple[int, int] | None


class ProwDataset(Dataset[tuple[Any, ...]]):
    """prow files, each with what belongs to it: sample i is (bytes, value of each further column).

    Args:
        files: a list of prow files, or a folder or a file of Parquet that `prow dataset encode` made. Rows without a
            prow file (those with an error) are left out.
        column: of the files, in Parquet. columns: further ones, such as "label".
        cut: keep this many bytes of each file, or, given two, a number between them that is drawn anew each time, every
            octave being as likely as any other. The header is always kept. Drawn by torch's generator, so seeds and
            workers of a DataLoader do what they do for others.

    Raises:
        InputError: no such dataset or column, or an unusable cut.
    """

    def __init__(
        self,
        files: Sequence[bytes] | str | os.PathLike[str],
        *,
        column: str = "prow",
        columns: Sequence[str] = (),
        cut: Cut = None,
    ) -> None:
        self.cut = _checked(cut)
        if isinstance(files, str | os.PathLike):
            self.files, self.beside = _read(Path(files), column, columns)
        elif columns:
            raise InputError(f"columns {list(columns)} came with a list of files, wanted a Parquet dataset")
        else:
            self.files, self.beside = list(files), []

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        return (cut_file(self.files[index], self.cut), *(column[index] for column in self.beside))


def cut_file(data: bytes, cut: Cut) -> bytes:
    """The first bytes of a prow file: `cut` of them, or a number drawn between two, but at least its header.

    Raises:
        FormatError: not a prow file.
    """
    if cut is None:
        return data
    if not isinstance(cut, int | np.integer):
        low, high = map(math.log, cut)
        cut = round(math.exp(low + (high - low) * torch.rand(()).item()))
    return data[: max(cut, container.parse(data)[0].header_bytes)]


def collate(
    samples: Sequence[tuple[Any, ...]],
    *,
    device: str = "auto",
    style: Style = "faithful",
    size: tuple[int, int] | None = None,
) -> tuple[Any, ...]:
    """Decode samples of a `ProwDataset` together.

    Args:
        device: that decodes, and that the tensor is on. style: as in `prow.decode`.
        size: height and width in px that each picture is brought to; None: they must all have the same.

    Returns:
        (pictures uint8 [B, 3, H, W], alpha put on white, each further column: a tensor of numbers, or else a list).

    Raises:
        InputError: pictures of several sizes came without `size=`. FormatError: not a prow file.
    """
    if not samples:
        raise InputError("no samples came, wanted one or more")
    images = api.decode_many([sample[0] for sample in samples], device=device, style=style)
    if size is not None:
        height, width = size
        images = [image if image.size == (width, height) else image.resize((width, height)) for image in images]
    if len(sizes := sorted({image.size for image in images})) > 1:
        came = " and ".join(f"{width} x {height}" for width, height in sizes[:2])
        raise InputError(f"pictures of {came} px came in one batch, wanted one size (size=)")
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    pictures = torch.from_numpy(np.stack([load_rgb(image) for image in images])).permute(0, 3, 1, 2)
    return (pictures.contiguous().to(where), *(_column(values) for values in list(zip(*samples, strict=True))[1:]))


def collate_tokens(samples: Sequence[Tokens], *, length: int | None = None) -> Tensor:
    """Tokens of pictures as one batch for a generative model.

    Args:
        length: of each row; None: that of the longest. A longer row is cut, which leaves its most important tokens.

    Returns:
        int64 [B, length], rows of `Tokens.to_array` filled with 0, which says that nothing follows.

    Raises:
        InputError: no samples, those of several vocabularies, or of grey pictures or such with alpha.
    """
    if not samples:
        raise InputError("no samples came, wanted one or more")
    if len(kinds := sorted({tokens.vocabulary for tokens in samples})) > 1:
        raise InputError(f"tokens of vocabularies {kinds[0]} and {kinds[1]} came in one batch, wanted one")
    rows = [tokens.to_array() for tokens in samples]
    batch = torch.zeros(len(rows), max(map(len, rows)) if length is None else length, dtype=torch.int64)
    for place, row in zip(batch, rows, strict=True):
        row = row[: len(place)]
        place[: len(row)] = torch.from_numpy(row.astype(np.int64))
    return batch


def tokens_from_rows(
    rows: Tensor, *, width: int, height: int, model: str = "default", letterbox: bool = False, strict: bool = True
) -> list[Tokens]:
    """Inverse of `collate_tokens`, for rows that a generative model sampled, too.

    Args:
        rows: integers [B, length]. Others as in `prow.tokens_from_array`: with `strict=False` a row ends at the first
            symbol that says nothing.

    Raises:
        InputError: rows of another shape or type, and as `prow.tokens_from_array`.
    """
    if rows.ndim != 2 or rows.is_floating_point():
        raise InputError(f"rows {rows.dtype} {list(rows.shape)} came, wanted integers [B, length]")
    size = {"width": width, "height": height, "model": model, "letterbox": letterbox}
    return [api.tokens_from_array(row, strict=strict, **size) for row in rows.cpu().numpy()]


def _column(values: Sequence[Any]) -> Tensor | list[Any]:
    numbers = all(isinstance(value, int | float) for value in values)
    return torch.tensor(values) if numbers else list(values)


def _checked(cut: Cut) -> Cut:
    """Raises InputError if it is unusable."""
    ends = (cut, cut) if isinstance(cut, int | np.integer) else cut
    if ends is not None and not (len(ends) == 2 and 0 < ends[0] <= ends[1]):
        raise InputError(f"cut {cut!r} came, wanted a number of bytes above 0, or a smaller and a larger one")
    return cut


def _read(place: Path, column: str, columns: Sequence[str]) -> tuple[list[bytes], list[list[Any]]]:
    """The prow files in Parquet, and the further columns."""
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise InputError("pyarrow is not installed: pip install 'prow[dataset]'") from None
    paths = sorted(place.glob("*.parquet")) if place.is_dir() else [place]
    if not paths or not all(path.is_file() for path in paths):
        raise InputError(f"no Parquet files came in {place}, wanted what `prow dataset encode` makes")
    files: list[bytes] = []
    beside: list[list[Any]] = [[] for _ in columns]
    for path in paths:
        known = pq.read_schema(path).names
        if unknown := [name for name in (column, *columns) if name not in known]:
            raise InputError(f"column {unknown[0]!r} came, {path} has {', '.join(known)}")
        table = pq.read_table(path, columns=[column, *columns])
        kept = table.filter(table[column].is_valid())
        files += kept[column].to_pylist()
        for values, name in zip(beside, columns, strict=True):
            values += kept[name].to_pylist()
    return files, beside
