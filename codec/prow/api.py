"""The public functions behind `import prow`. torch is imported by those that need it, and by no other."""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from . import metrics
from .arguments import flag, one_of, several, text, whole
from .coders import Aim, open_coder, work
from .entropy.check import check_size
from .errors import DamagedError, InputError, LimitError, ProwError, ProwWarning, warn_of_cut
from .format import container
from .format.container import Profile
from .format.extras import block_crcs
from .format.limits import DEFAULT_MAX_PIXELS, Limits, Meter, memory_errors
from .format.sequence import as_symbols
from .format.tokens import Tokens
from .image import ImageLike, load_pixels, load_rgb, read_metadata
from .options import CHECKS, DEFAULT_EFFORT, DEFAULT_FOCUS_WEIGHT, DEFAULT_PLACEHOLDER_BYTES, Check, Style
from .registry import find, of_file, of_tokens
from .request import Box, Request, Target, target_of
from .search import rate
from .search.cuts import shortest

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

    from PIL import Image

_DECODE_PIXELS = 1 << 22  # that `decode_many` decodes at once, unless one picture has more
_FIRST_TRY, _GROWTH = 1024, 4  # bytes of the first file that is to reach a target, and by how much others grow
_ENCODE_PIXELS = 1 << 20  # that `encode_many` encodes at once, likewise: encoders need more memory
_NEVER_TOO_MUCH = 100_000  # px and bytes: within the limits whatever the file says
_OWN = 2**62  # limit for a file that was made here
ByteString = bytes  # the builtin, where a parameter is called bytes


def encode(
    image: ImageLike,
    *,
    bytes: int | None = None,
    bpp: float | None = None,
    quality: float | None = None,
    psnr: float | None = None,
    ms_ssim: float | None = None,
    model: str = "default",
    profile: Profile = "file",
    effort: int = DEFAULT_EFFORT,
    device: str = "auto",
    letterbox: bool = False,
    keep_metadata: bool = False,
    focus: Sequence[Box] = (),
    focus_weight: float = DEFAULT_FOCUS_WEIGHT,
    check: Check = "crc16",
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> ByteString:
    """A picture as a prow file.

    Args:
        image: PIL image, path, or numpy uint8 [H, W] or [H, W, 1 to 4]; see `prow.image` for modes. Alpha is kept.
        bytes: size of the whole file, header included, at least 32 (16 for the bare profile). The result has
            exactly this many bytes, or fewer if the model has nothing left to say.
        bpp: the same in bits per pixel of the whole file.
        quality: 0 to 100 instead of a size.
        psnr: in dB instead of a size: the smallest file whose decoded picture is so near to the original.
        ms_ssim: likewise, above 0 and at most 1, for pictures of at least 161 px a side (`prow.metrics`). At most one
            of the five; quality 50 if none.
        model: name of an installed model.
        profile: "file", or "bare" for embedding (no magic, length or checksum).
        effort: 1 (quick) to 9 (slow): how long to look for better tokens of the same size; above 5 it takes torch.
            Without effect on quality=.
        device: "auto", "cpu", "cuda" or any torch device.
        letterbox: with a model whose tiles have one size (`prow.ordered`), make the whole picture fit one tile, and
            enlarge it again after decoding. Without it, larger pictures are cut into tiles.
        keep_metadata: put EXIF, XMP and ICC profile of a PIL image or a path behind the file, as extras that no size
            counts and that `truncate` drops first. Not in the bare profile.
        focus: boxes (x, y, width, height) in px of the picture, such as faces, which get a larger share of the file.
            effort is without effect then, for it looks for what is best for the whole picture.
        focus_weight: how many times dearer a bit is elsewhere (`prow.coding.focus`); 1 or more.
        check: "crc32" for archives: a CRC-32 of each 1,024 bytes of the file as well, in extras likewise (4 bytes for
            each, and 12). A file with damage in its middle can then be decoded up to there. Not in the bare profile.
        max_pixels: a picture with a larger width * height is refused before its pixels are read. A file that `decode`
            refuses with its own limits makes a ProwWarning.

    Raises:
        InputError: an unusable picture or argument, or a psnr or ms_ssim that the model does not reach.
        BudgetError: a size below the minimum. LimitError: too many pixels, or not enough memory for them. ModelError:
        no such model.
    """
    target = target_of(psnr, ms_ssim, {"bytes": bytes, "bpp": bpp, "quality": quality})
    request = Request(bytes, bpp, quality, model, profile, effort, device, letterbox, focus, focus_weight)
    request.check()
    one_of("check", check, CHECKS)
    keep_metadata = flag("keep_metadata", keep_metadata)
    for name, wanted in (("keep_metadata", keep_metadata), ("check 'crc32'", check == "crc32")):
        if wanted and profile == "bare":
            raise InputError(f"{name} came with the bare profile, which has no place for it; the file profile wanted")
    pixels = load_pixels(image, Limits(max_pixels))
    extras = read_metadata(image) if keep_metadata else {}
    with memory_errors(pixels.shape[1], pixels.shape[0]):
        if target is not None:
            data = _encode_to_target(pixels, request, target)
        else:
            data = _pack(_encode([pixels], request)[0], profile)
        _warn_of_limits(data, pixels)
    if check == "crc32":
        extras = {**block_crcs(data), **extras}
    return container.add_extras(data, extras) if extras else data


def placeholder(
    image: ImageLike,
    bytes: int = DEFAULT_PLACEHOLDER_BYTES,
    *,
    model: str = "default",
    effort: int = DEFAULT_EFFORT,
    device: str = "auto",
) -> ByteString:
    """A picture in a few bytes of the bare profile, for HTML, JSON or a database: what to show while a picture loads.

    Args:
        bytes: all of them, the header of 3 to 7 bytes included; at least 16. Others as in `encode`, and `decode` reads
            the result.

    Raises:
        As `encode`.
    """
    return encode(image, bytes=bytes, profile="bare", model=model, effort=effort, device=device)


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
    letterbox: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> list[ByteString]:
    """Many pictures as prow files, in the same order; arguments as in `encode`, and sizes are those of each file.

    As `encode` of each, but pictures of one size go through the networks together. A sum of many numbers may come out
    differently by its last digit then, so now and then another token is chosen that is as good.

    Raises:
        As `encode`; a note on the error says which picture it is, counted from 0.
    """
    request = Request(bytes, bpp, quality, model, profile, effort, device, letterbox)
    request.check()
    pictures, limits = list[np.ndarray](), Limits(max_pixels)
    for index, image in enumerate(several("images", images, "pictures to go through")):
        try:
            pictures.append(load_pixels(image, limits))
        except ProwError as error:
            error.add_note(f"picture {index} of those that came")
            raise
    files: list[ByteString] = [b""] * len(pictures)
    sizes = [(pixels.shape[1], pixels.shape[0]) for pixels in pictures]
    for indices in _groups([pixels.shape for pixels in pictures], sizes, _ENCODE_PIXELS):
        with memory_errors(*sizes[indices[0]]):
            for i, stream in zip(indices, _encode([pictures[i] for i in indices], request), strict=True):
                files[i] = _pack(stream, profile)
                _warn_of_limits(files[i], pictures[i])
    return files


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
    letterbox: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Tokens:
    """The integers that `encode` with the same arguments would write. See `prow.format.tokens.Tokens`."""
    request = Request(bytes, bpp, quality, model, profile, effort, device, letterbox)
    request.check()
    pixels = load_pixels(image, Limits(max_pixels))
    with memory_errors(pixels.shape[1], pixels.shape[0]):
        return _encode([pixels], request)[0].tokens


def decode(
    data: ByteString,
    *,
    style: Style = "faithful",
    device: str = "auto",
    strict: bool = True,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    octaves: int = 0,
) -> Image.Image:
    """The picture in a prow file, or in any prefix of one that holds the header: mode L, LA, RGB or RGBA.

    A prefix that ends before the first byte of alpha is opaque. The picture's `info` has the `state` of the file
    ("whole", "cut" or "damaged") and the `bytes` that it was made from. A cut file also makes a `prow.CutWarning`,
    which is ignored unless asked for.

    Args:
        data: the bytes of a file.
        style: "faithful", nearest to the original; "vivid", repainted to look sharper, with likely detail that need not
            be true (see `prow.coding.vivid`). Any file can be decoded either way.
        strict: False decodes a damaged file all the same; with check="crc32" only what is before the damage.
        device: as in `encode`. On a CPU this does without torch if ONNX Runtime is there (see `prow.backends.select`).
        max_pixels: width * height above this is refused, and so is a file that takes more than 10 s of two cores. A
            larger number than the default raises this limit in proportion (`prow.format.limits`).
        octaves: above 0 for a smaller picture in less time: each halves both sides, rounded up. It shows what the
            passes up to that level say, which is less than the whole file, made smaller, shows.

    Raises:
        FormatError: not a prow file we can read (see `prow.errors`). ModelError: its model is not installed, or
        does not have this style. InputError: an unusable argument.
    """
    tokens, facts = _open(data, strict=strict, max_pixels=max_pixels, octaves=octaves, style=style, warn=True)
    image = _detokenize(tokens, style, device, octaves)
    image.info.update(facts)
    return image


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
    batch, facts = [], []
    for index, data in enumerate(several("files", files, "files to go through, bytes each")):
        try:
            tokens, said = _open(data, strict=strict, max_pixels=max_pixels, octaves=0, style=style, warn=True)
        except ProwError as error:
            error.add_note(f"file {index} of those that came")
            raise
        batch.append(tokens)
        facts.append(said)
    found = [of_tokens(tokens) for tokens in batch]
    keys = [(model, open_coder(model, device, style).alike(one)) for model, one in zip(found, batch, strict=True)]
    images: list[Image.Image | None] = [None] * len(batch)
    for indices in _groups(keys, [(tokens.width, tokens.height) for tokens in batch], _DECODE_PIXELS):
        some = [batch[i] for i in indices]
        for i, image in zip(indices, _detokenize_alike(some, style, device), strict=True):
            image.info.update(facts[i])
            images[i] = image
    return images  # type: ignore[return-value] - every place is filled


def detokenize(tokens: Tokens, *, style: Style = "faithful", device: str = "auto", octaves: int = 0) -> Image.Image:
    """The picture that tokens stand for; arguments as in `decode`.

    Raises:
        InputError: tokens that no file can say, such as integers beyond those that a tile has (`check_tokens`).
    """
    if not isinstance(tokens, Tokens):  # before it is asked for its model
        raise InputError(f"tokens of type {type(tokens).__name__} came, wanted those that prow.tokenize makes")
    tokens = of_tokens(tokens).check(tokens)
    return _detokenize(tokens, style, device, octaves)


def _detokenize(tokens: Tokens, style: Style, device: str, octaves: int) -> Image.Image:
    """As `detokenize`, of tokens that a file said."""
    _check_octaves(octaves, tokens)
    if octaves and style == "vivid":
        raise InputError(f"octaves {octaves} came with style 'vivid', which is for full resolution alone")
    return _detokenize_alike([tokens], style, device, int(octaves))[0]


def tokens_from_array(
    array: np.ndarray,
    *,
    width: int,
    height: int,
    model: str = "default",
    letterbox: bool = False,
    strict: bool = True,
) -> Tokens:
    """Symbols, as `Tokens.to_array` makes them, as tokens of a picture of a model.

    Args:
        array: integers [n], 0 to 259, or of an ordered tokenizer 0 to 3 + its alphabet (`prow.format.sequence`).
        width, height: in px. letterbox: as in `encode`.
        strict: False for rows that were sampled: the first symbol that says nothing ends the row.

    Raises:
        InputError: symbols that say nothing, or tokens that no file can say. ModelError: no such model.
    """
    check_size(width, height)
    strict, letterbox = flag("strict", strict), flag("letterbox", letterbox)
    chosen = find(text("model", model, "the name of one (see prow.models())"))
    symbols = as_symbols(array)

    def tokens(length: int | None) -> Tokens:
        return chosen.tokens_from_array(symbols[:length], int(width), int(height), letterbox=letterbox)

    try:
        return tokens(None)
    except InputError:
        if strict:
            raise
    good, bad = 0, len(symbols)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            tokens(middle)
            good = middle
        except InputError:
            bad = middle
    return tokens(good)


def read_tokens(data: ByteString, *, strict: bool = True, max_pixels: int = DEFAULT_MAX_PIXELS) -> Tokens:
    """The integers in a prow file, or in a prefix that holds its header; arguments and errors as in `decode`."""
    return _open(data, strict=strict, max_pixels=max_pixels)[0]


# -- inside ------------------------------------------------------------------------------------------------------


def _open(
    data: ByteString,
    *,
    strict: bool,
    max_pixels: int,
    octaves: int | None = None,
    style: Style = "faithful",
    warn: bool = False,
) -> tuple[Tokens, dict[str, Any]]:
    """As `read_tokens`, and what `info` of the decoded picture says.

    Args:
        octaves, style: of a picture that will be decoded: whether that is more work than allowed. None: tokens are
            enough.
        warn: of a cut file, in the name of the caller's caller.
    """
    limits, strict = Limits(max_pixels), flag("strict", strict)
    header, payload, state = container.parse(data)
    if state == "damaged":
        sure = container.sure_bytes(data)
        if strict:
            where = "" if sure is None else f" behind its first {sure:,} bytes"
            what = "it all the same" if sure is None else "these"
            how = f"strict=False or --allow-damaged decodes {what}"
            raise DamagedError(f"the CRC is wrong: the file is damaged{where} ({how})")
        payload = payload if sure is None else payload[: max(0, sure - header.header_bytes)]
    present = header.header_bytes + len(payload)
    if warn and header.file_bytes is not None and state == "cut":
        warn_of_cut(present, header.file_bytes, stacklevel=3)
    model, stream = of_file(header, payload)
    limits.check_pixels(header.width, header.height)
    meter = Meter(limits)
    with memory_errors(header.width, header.height):
        tokens = model.read(stream, header.width, header.height, meter)
    if octaves is not None:
        _check_octaves(octaves, tokens)
        meter.add(work(model, tokens, int(octaves), style))
    return tokens, {"state": state, "bytes": present}


def _encode_to_target(pixels: np.ndarray, request: Request, target: Target) -> ByteString:
    """The shortest file that reaches a target: files of growing size until one does, then the shortest cut of that.

    Raises InputError if even all that the model can say does not.
    """
    if target.name == "ms_ssim":
        metrics.check_ms_ssim_size(pixels.shape[1], pixels.shape[0])
    values: list[float] = []
    wanted = load_rgb(pixels)  # alpha over white

    def reaches(data: ByteString) -> bool:
        tokens = read_tokens(data, max_pixels=_OWN)
        values.append(target.measure(wanted, load_rgb(_detokenize(tokens, "faithful", request.device, 0))))
        return values[-1] >= target.value

    size, data = _FIRST_TRY, b""
    while True:
        data = _pack(_encode([pixels], dataclasses.replace(request, bytes=size))[0], request.profile)
        if reaches(data):
            break
        if len(data) < size:
            best = max(values)
            shown = "infinite" if math.isinf(best) else f"{math.floor(best * 1e4) / 1e4:g}{target.unit}"
            raise InputError(
                f"{target.name} {target.value:g}{target.unit} came, model {request.check().name} reaches "
                f"{shown} at most with this picture ({len(data):,} bytes)"
            )
        size *= _GROWTH
    best_size = shortest(min(request.least, len(data)), len(data), lambda n: reaches(data[:n]))
    return container.truncate(data, best_size)


def _encode(pictures: list[np.ndarray], request: Request) -> list[rate.Stream]:
    """The streams of pictures of one shape, uint8 [H, W, C]."""
    model, (height, width) = request.check(), pictures[0].shape[:2]
    room, quality = request.room(width, height, len(model.external_id)), request.level()
    aim = Aim(room, quality, int(request.effort), bool(request.letterbox), request.parts(width, height))
    return open_coder(model, request.device).encode(pictures, aim)


def _pack(stream: rate.Stream, profile: Profile) -> ByteString:
    """A stream as a file."""
    tokens = stream.tokens
    payload = (tokens.external.id if tokens.external else b"") + stream.content
    return container.pack(payload, width=tokens.width, height=tokens.height, model_id=tokens.model_id, profile=profile)


def _warn_of_limits(data: ByteString, pixels: np.ndarray) -> None:
    """Make a ProwWarning, in the name of the caller's caller, of a file that decoders refuse by default."""
    if max(pixels.shape[0] * pixels.shape[1], len(data)) <= _NEVER_TOO_MUCH:
        return
    try:
        _open(data, strict=True, max_pixels=DEFAULT_MAX_PIXELS, octaves=0)
    except LimitError as error:
        warnings.warn(f"decoders refuse this file unless they are told to take it: {error}", ProwWarning, stacklevel=3)


def _groups(keys: Sequence[Hashable], sizes: Sequence[tuple[int, int]], most: int) -> Iterator[list[int]]:
    """Places of equal keys, as many at once as have `most` px, or one."""
    groups: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    for indices in groups.values():
        width, height = sizes[indices[0]]
        count = max(1, most // (width * height))
        yield from (indices[first : first + count] for first in range(0, len(indices), count))


def _check_octaves(octaves: int, tokens: Tokens) -> None:
    """Raise InputError if a picture has no level so far below full resolution."""
    most = of_tokens(tokens).most_octaves(tokens.width, tokens.height)
    whole("octaves", octaves, 0, most, f" for {tokens.width} x {tokens.height} px")


def _detokenize_alike(batch: list[Tokens], style: Style, device: str, octaves: int = 0) -> list[Image.Image]:
    """The pictures that tokens stand for, all of one model and alike (`Coder.alike`)."""
    from PIL import Image

    coder = open_coder(of_tokens(batch[0]), device, style)
    with memory_errors(batch[0].width, batch[0].height):
        return [Image.fromarray(pixels) for pixels in coder.decode(batch, octaves)]


__all__ = [
    "decode",
    "decode_many",
    "detokenize",
    "encode",
    "encode_many",
    "placeholder",
    "tokenize",
    "tokens_from_array",
]
