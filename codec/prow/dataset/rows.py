"""A batch of pictures in memory: what becomes of each, a broken one too."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from .. import api, metrics
from ..errors import InputError, ProwError
from ..format import container
from ..image import load_pixels, load_rgb
from ..options import DEFAULT_EFFORT, Style

T = TypeVar("T")
MOST_PIXELS = 1 << 24  # that are in memory at once, unless one picture has more
PICTURE_FORMATS = ("png", "webp", "jpeg")  # that `decode_rows` writes; PNG and WebP without loss
_SAVE_OPTIONS = {"png": {"compress_level": 4}, "webp": {"lossless": True}, "jpeg": {"quality": 95}}
ByteString = bytes  # the builtin, where a parameter is called bytes
Came = ByteString | ProwError | None  # the bytes of a picture, or why there are none


@dataclasses.dataclass(frozen=True)
class Row:
    """What became of one picture: `data` of `width` x `height` px, or else all of it None and an `error` of one line.

    `psnr` in dB, over all samples, if it was asked for; infinite where nothing was lost.
    """

    data: bytes | None = None
    width: int | None = None
    height: int | None = None
    psnr: float | None = None
    error: str | None = None


def encode_batch(
    pictures: Iterable[ByteString],
    *,
    bytes: int = 1000,
    effort: int = DEFAULT_EFFORT,
    model: str = "default",
    device: str = "auto",
) -> list[ByteString]:
    """Picture files (JPEG, PNG, ...) as prow files, in the same order: for `map_batches` of Ray Data and the like.

    Args:
        pictures: what the files hold. bytes: size of each prow file. The others: as in `prow.encode`.

    Raises:
        InputError: a picture that cannot be read, with a note that says which, counted from 0; or an unusable argument.
        ModelError: no such model. `encode_rows` raises for no picture.
    """
    opened = []
    for index, data in enumerate(pictures):
        try:
            opened.append(_open(data))
        except ProwError as error:
            error.add_note(f"picture {index} of those that came")
            raise
    return api.encode_many(opened, bytes=bytes, effort=effort, model=model, device=device)


def encode_rows(
    pictures: Sequence[Came],
    *,
    bytes: int = 1000,
    effort: int = DEFAULT_EFFORT,
    model: str = "default",
    device: str = "auto",
    psnr: bool = False,
) -> list[Row]:
    """As `encode_batch`, but a picture that cannot be read becomes a row with its error.

    Args:
        pictures: what the files hold; an error in place of one comes back in its row. psnr: measure it, which takes
            decoding. The others: as in `encode_batch`.

    Raises:
        ProwError: an argument that no picture could be encoded with, as in `prow.encode`.
    """
    options: dict[str, Any] = {"bytes": bytes, "effort": effort, "model": model, "device": device}
    api.encode(np.zeros((1, 1, 3), np.uint8), **options)  # or each picture would get the error
    rows = [Row()] * len(pictures)
    for places in _bounded([_pixels_in_picture(came) for came in pictures]):
        loaded: dict[int, np.ndarray] = {}
        for i in places:
            try:
                loaded[i] = load_pixels(_open(pictures[i]))
            except ProwError as error:
                rows[i] = _failed(error)
        try:
            files = api.encode_many(loaded.values(), **options)
        except ProwError:  # of one of them: which?
            files = [_try(api.encode, pixels, **options) for pixels in loaded.values()]
        for (i, pixels), data in zip(loaded.items(), files, strict=True):
            if isinstance(data, ProwError):
                rows[i] = _failed(data)
                continue
            value = _psnr(pixels, data, device) if psnr else None
            rows[i] = Row(data, pixels.shape[1], pixels.shape[0], value)
    return rows


def decode_rows(
    files: Sequence[Came], *, picture_format: str = "png", style: Style = "faithful", device: str = "auto"
) -> list[Row]:
    """prow files, or prefixes of some, as picture files; one that cannot be read becomes a row with its error.

    Args:
        picture_format: one of PICTURE_FORMATS. The others: as in `prow.decode`.

    Raises:
        InputError: an unusable argument.
    """
    if picture_format not in PICTURE_FORMATS:
        raise InputError(f"format {picture_format!r} came, wanted one of {', '.join(map(repr, PICTURE_FORMATS))}")
    grey = api.encode(np.zeros((1, 1, 3), np.uint8), bytes=32, effort=1, device=device)
    api.decode(grey, style=style, device=device)  # as in encode_rows
    rows = [Row()] * len(files)
    for places in _bounded([_pixels_in_file(came) for came in files]):
        given: dict[int, ByteString] = {}
        for i in places:
            try:
                given[i] = _given(files[i])
            except ProwError as error:
                rows[i] = _failed(error)
        try:
            images = api.decode_many(given.values(), style=style, device=device)
        except ProwError:  # of one of them: which?
            images = [_try(api.decode, data, style=style, device=device) for data in given.values()]
        for i, image in zip(given, images, strict=True):
            rows[i] = _failed(image) if isinstance(image, ProwError) else _saved(image, picture_format)
    return rows


def truncate_rows(files: Sequence[Came], *, bytes: int) -> list[Row]:
    """prow files cut to a size, with headers that are right for what is left; without any model.

    Args:
        bytes: of each whole file at most. One that has fewer stays as it is.
    """
    rows = []
    for data in files:
        try:
            small = container.truncate(_given(data), bytes)
            header = container.parse(small)[0]
            rows.append(Row(small, header.width, header.height))
        except ProwError as error:
            rows.append(_failed(error))
    return rows


def _failed(error: ProwError) -> Row:
    return Row(error=" ".join(str(error).split()))


def _given(came: Came) -> ByteString:
    """The bytes of a file. Raises what came instead of them, and InputError if nothing did."""
    if isinstance(came, ProwError):
        raise came
    if came is None:
        raise InputError("null came, wanted the bytes of a picture")
    return came


def _open(came: Came) -> Image.Image:
    """A picture whose pixels are not read yet. Raises as `_given`, and InputError if it is none that can be read."""
    data = _given(came)
    try:
        return Image.open(io.BytesIO(data))
    except Exception as error:  # Pillow's readers raise a dozen kinds
        what = type(error).__name__ if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise InputError(f"{len(data):,} bytes came that are no picture that can be read: {what}") from error


def _pixels_in_picture(came: Came) -> int:
    """0 of what cannot be read: that is tried again, and becomes a row then."""
    try:
        return math.prod(_open(came).size)
    except ProwError:
        return 0


def _pixels_in_file(came: Came) -> int:
    """The same of a prow file."""
    try:
        header = container.parse(_given(came))[0]
        return header.width * header.height
    except ProwError:
        return 0


def _bounded(pixels: Sequence[int]) -> Iterator[list[int]]:
    """Places of pictures, one after another, as many at once as have MOST_PIXELS px, or one."""
    places: list[int] = []
    total = 0
    for i, count in enumerate(pixels):
        if places and total + count > MOST_PIXELS:
            yield places
            places, total = [], 0
        places.append(i)
        total += count
    if places:
        yield places


def _try(do: Callable[..., T], *arguments: Any, **options: Any) -> T | ProwError:
    try:
        return do(*arguments, **options)
    except ProwError as error:
        return error


def _saved(image: Image.Image, picture_format: str) -> Row:
    if picture_format == "jpeg" and image.mode.endswith("A"):  # on white
        image = Image.fromarray(load_rgb(image))
    buffer = io.BytesIO()
    try:
        image.save(buffer, picture_format, **_SAVE_OPTIONS[picture_format])
    except (OSError, ValueError) as error:  # a side that the format cannot hold
        return Row(error=f"{picture_format} cannot hold this picture of {image.width} x {image.height} px: {error}")
    return Row(buffer.getvalue(), image.width, image.height)


def _psnr(wanted: np.ndarray, data: ByteString, device: str) -> float:
    """Of a prow file, in dB; alpha is put on white."""
    return metrics.psnr(load_rgb(wanted), load_rgb(api.decode(data, device=device, max_pixels=2**62)))
