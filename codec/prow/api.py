"""The public functions behind `import prow`. torch is imported by those that need it, and by no other."""

from __future__ import annotations

import functools
import math
from numbers import Integral, Real
from typing import TYPE_CHECKING

from . import backend, container
from .config import DEFAULT_EFFORT, STYLES, Style
from .container import DEFAULT_MAX_PIXELS, Profile
from .errors import BudgetError, DamagedError, InputError, LimitError, ProwError
from .image import ImageLike, load_rgb
from .registry import load, load_by_id, vivid_network

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    import numpy as np
    from PIL import Image
    from torch import Tensor

    from .base_codec import BaseCodec
    from .codec import Codec
    from .rate import Stream
    from .tokens import Tokens

DEFAULT_QUALITY = 50
_DECODE_PIXELS = 1 << 22  # that `decode_many` decodes at once, unless one picture has more
_ENCODE_PIXELS = 1 << 20  # that `encode_many` encodes at once, likewise: encoders need more memory
ByteString = bytes  # the builtin, where a parameter is called bytes


def encode(
    image: ImageLike,
    *,
    bytes: int | None = None,
    bpp: float | None = None,
    quality: float | None = None,
    model: str = "default",
    profile: Profile = "file",
    effort: int = DEFAULT_EFFORT,
    device: str = "auto",
) -> ByteString:
    """A picture as a prow file.

    Args:
        image: PIL image, path, or numpy uint8 [H, W, 3] or [H, W]; see `prow.image` for modes and alpha.
        bytes: size of the whole file, header included, at least 32 (16 for the bare profile). The result has
            exactly this many bytes, or fewer if the model has nothing left to say.
        bpp: the same in bits per pixel of the whole file.
        quality: 0 to 100 instead of a size. At most one of the three; 50 if none.
        model: name of an installed model.
        profile: "file", or "bare" for embedding (no magic, length or checksum).
        effort: 1 (quick) to 9 (slow): how long to look for better tokens of the same size. Without effect on quality=.
        device: "auto", "cpu", "cuda" or any torch device.

    Raises:
        InputError: an unusable picture or argument. BudgetError: a size below the minimum. ModelError: no such model.
    """
    return _pack(_encode([load_rgb(image)], bytes, bpp, quality, model, profile, effort, device)[0], profile)


def encode_many(
    images: Iterable[ImageLike],
    *,
    bytes: int | None = None,
    bpp: float | None = None,
    quality: float | None = None,
    model: str = "default",
    profile: Profile = "file",
    effort: int = DEFAULT_EFFORT,
    device: str = "auto",
) -> list[ByteString]:
    """Many pictures as prow files, in the same order; arguments as in `encode`, and sizes are those of each file.

    As `encode` of each, but pictures of one size go through the networks together. A sum of many numbers may come out
    differently by its last digit then, so now and then another token is chosen that is as good.

    Raises:
        As `encode`; a note on the error says which picture it is, counted from 0.
    """
    pictures: list[np.ndarray] = []
    for index, image in enumerate(images):
        try:
            pictures.append(load_rgb(image))
        except ProwError as error:
            error.add_note(f"picture {index} of those that came")
            raise
    found: list[ByteString] = [b""] * len(pictures)
    sizes = [(pixels.shape[1], pixels.shape[0]) for pixels in pictures]
    for indices in _groups(sizes, sizes, _ENCODE_PIXELS):
        some = [pictures[i] for i in indices]
        for i, stream in zip(indices, _encode(some, bytes, bpp, quality, model, profile, effort, device), strict=True):
            found[i] = _pack(stream, profile)
    return found


def tokenize(
    image: ImageLike,
    *,
    bytes: int | None = None,
    bpp: float | None = None,
    quality: float | None = None,
    model: str = "default",
    profile: Profile = "file",
    effort: int = DEFAULT_EFFORT,
    device: str = "auto",
) -> Tokens:
    """The integers that `encode` with the same arguments would write. See `prow.tokens.Tokens`."""
    return _encode([load_rgb(image)], bytes, bpp, quality, model, profile, effort, device)[0].tokens


def decode(
    data: ByteString,
    *,
    style: Style = "faithful",
    device: str = "auto",
    strict: bool = True,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Image.Image:
    """The picture in a prow file, or in any prefix of one that holds the header.

    Args:
        data: the bytes of a file.
        style: "faithful", nearest to the original; "vivid", repainted to look sharper, with likely detail that need not
            be true (see `prow.vivid`; takes torch). Any file can be decoded either way.
        strict: False decodes a damaged file all the same.
        device: as in `encode`. On a CPU this does without torch if ONNX Runtime is there (see `prow.backend`).
        max_pixels: width * height above this is refused.

    Raises:
        FormatError: not a prow file we can read (see `prow.errors`). ModelError: its model is not installed, or
        does not have this style.
    """
    return detokenize(_tokens_of(data, strict, max_pixels), style=style, device=device)


def decode_many(
    files: Iterable[ByteString],
    *,
    style: Style = "faithful",
    device: str = "auto",
    strict: bool = True,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> list[Image.Image]:
    """The pictures in many prow files, in the same order.

    As `decode` of each (pixels may differ by 1/255), but pictures of one size and model, with however many tokens each
    tile of theirs has, go through the network together, which is what a GPU is good at.

    Raises:
        As `decode`; a note on the error says which file it is, counted from 0.
    """
    batch = []
    for index, data in enumerate(files):
        try:
            batch.append(_tokens_of(data, strict, max_pixels))
        except ProwError as error:
            error.add_note(f"file {index} of those that came")
            raise
    found: list[Image.Image | None] = [None] * len(batch)
    for indices in _alike(batch):
        some = [batch[i] for i in indices]
        for i, image in zip(indices, _detokenize_alike(some, style, device), strict=True):
            found[i] = image
    return found  # type: ignore[return-value] - every place is filled


def detokenize(tokens: Tokens, *, style: Style = "faithful", device: str = "auto") -> Image.Image:
    """The picture that tokens stand for; arguments as in `decode`."""
    return _detokenize_alike([tokens], style, device)[0]


# -- inside ------------------------------------------------------------------------------------------------------


def _pack(stream: Stream, profile: Profile) -> ByteString:
    """A stream as a file."""
    tokens = stream.tokens
    return container.pack(
        stream.content, width=tokens.width, height=tokens.height, model_id=tokens.model_id, profile=profile
    )


def _encode(
    pictures: list[np.ndarray],
    size: int | None,
    bpp: float | None,
    quality: float | None,
    model: str,
    profile: Profile,
    effort: int,
    device: str,
) -> list[Stream]:
    """The streams of pictures of one size, uint8 [H, W, 3]."""
    if profile not in ("file", "bare"):
        raise InputError(f"profile {profile!r} came, wanted 'file' or 'bare'")
    given = [n for n, v in (("bytes", size), ("bpp", bpp), ("quality", quality)) if v is not None]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} came together, wanted one of bytes, bpp and quality")
    if isinstance(effort, bool) or not isinstance(effort, Integral) or not 1 <= effort <= 9:
        raise InputError(f"effort {effort!r} came, wanted a whole number from 1 to 9")
    if not isinstance(model, str):
        raise InputError(f"model {model!r} came, wanted the name of one (see prow.models())")
    name = load(model).config.name
    height, width = pictures[0].shape[:2]
    if bpp is not None:
        size = _bytes_of(bpp, width * height)
    room = None if size is None else _room(size, width, height, profile)
    level = _quality(DEFAULT_QUALITY if quality is None else quality)
    from . import rate

    codec = _codec(name, device)
    if room is None:
        return rate.at_quality(codec, pictures, level)
    refiner = _torch_codec(name, device) if rate.EFFORTS[int(effort)].rounds else None
    return rate.at_bytes(codec, pictures, room, int(effort), refiner)


def _tokens_of(data: ByteString, strict: bool, max_pixels: int) -> Tokens:
    """What is in a file."""
    header, payload, state = container.parse(data)
    if state == "damaged" and strict:
        raise DamagedError("the CRC is wrong: the file is damaged (strict=False decodes it all the same)")
    model = load_by_id(header.model_id)
    _check_pixels(header.width, header.height, max_pixels)
    from .stream import read

    return read(payload, header.width, header.height, header.model_id, model.config, model.tables)


def _alike(batch: list[Tokens]) -> Iterator[list[int]]:
    """Places of pictures that can be decoded together (`Codec.decode_many`), not too many for one go."""
    depths = [tokens.filter_depths(load_by_id(tokens.model_id).config) for tokens in batch]
    keys = [(t.model_id, t.width, t.height, d) for t, d in zip(batch, depths, strict=True)]
    return _groups(keys, [(tokens.width, tokens.height) for tokens in batch], _DECODE_PIXELS)


def _groups(keys: Sequence[Hashable], sizes: Sequence[tuple[int, int]], most: int) -> Iterator[list[int]]:
    """Places of equal keys, as many at once as have `most` px, or one."""
    groups: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    for indices in groups.values():
        width, height = sizes[indices[0]]
        count = max(1, most // (width * height))
        yield from (indices[first : first + count] for first in range(0, len(indices), count))


def _detokenize_alike(batch: list[Tokens], style: Style, device: str) -> list[Image.Image]:
    """The pictures of one model and size that tokens stand for."""
    from PIL import Image

    if style not in STYLES:
        raise InputError(f"style {style!r} came, wanted one of {', '.join(map(repr, STYLES))}")
    model = load_by_id(batch[0].model_id)
    if style == "faithful":
        codec = _codec(model.config.name, device)
        return [Image.fromarray(codec.to_image(picture)) for picture in codec.decode_many(batch)]
    codec = _torch_codec(model.config.name, device)
    repaint = _repaint(model.config.name, codec)
    pictures = zip(codec.decode_many(batch), batch, strict=True)
    return [Image.fromarray(codec.to_image(repaint(picture, tokens))) for picture, tokens in pictures]


def _repaint(name: str, codec: Codec) -> Callable[[Tensor, Tokens], Tensor]:
    """What brings decoded pictures of a model into the vivid style."""
    network = vivid_network(name, str(codec.device))
    from .vivid import repaint

    return functools.partial(repaint, network, codec.config)


def _bytes_of(bpp: float, pixels: int) -> int:
    if not (isinstance(bpp, Real) and math.isfinite(float(bpp) * pixels) and bpp > 0):
        raise InputError(f"bpp {bpp!r} came, wanted a number above 0")
    return math.floor(float(bpp) * pixels / 8)


def _room(size: int, width: int, height: int, profile: Profile) -> int:
    """Payload bytes in a file of `size` bytes."""
    if isinstance(size, bool) or not isinstance(size, Integral):
        raise InputError(f"bytes {size!r} came, wanted a whole number")
    least = container.MIN_BYTES if profile == "file" else container.MIN_BARE_BYTES
    if size < least:
        raise BudgetError(f"a budget of {size} bytes came, the {profile} profile wants at least {least}")
    return container.payload_room(int(size), width, height, profile)


def _quality(quality: float) -> float:
    if not (isinstance(quality, Real) and 0 <= quality <= 100):
        raise InputError(f"quality {quality!r} came, wanted a number from 0 to 100")
    return float(quality)


def _check_pixels(width: int, height: int, limit: int) -> None:
    if width * height > limit:
        raise LimitError(
            f"{width} x {height} px are {width * height:,} pixels, the limit is {limit:,} (raise it with max_pixels=)"
        )


def _codec(name: str, device: str) -> BaseCodec:
    """A model on the backend of choice."""
    model = load(name)
    return model.onnx if backend.choose(model.config, device) == "onnx" else _torch_codec(name, device)


def _torch_codec(name: str, device: str) -> Codec:
    backend.wanted()  # so that a wrong name is an error here too
    import torch

    from .codec import Codec

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InputError(f"device {device!r} came, torch cannot use it: {str(error).splitlines()[0]}") from None
    model = load(name)
    return Codec(model.network(device), model.tables)


__all__ = [
    "decode",
    "decode_many",
    "detokenize",
    "encode",
    "encode_many",
    "tokenize",
]
