"""What a file says about itself (`prow.inspect`), without torch, ONNX Runtime and Pillow."""

from __future__ import annotations

import dataclasses

from .arguments import flag
from .errors import HeaderError, ModelError
from .format import container
from .format.config import step_size
from .format.limits import DEFAULT_MAX_PIXELS, Limits, Meter
from .format.tokens import Tokens
from .registry import AnyModel, of_file


@dataclasses.dataclass(frozen=True)
class PassInfo:
    """One pass of a file: its kind, the level's size in px, tiles, quantiser step (0 if it is not known, None if there
    is none), tokens present."""

    kind: str
    width: int
    height: int
    tiles: int
    step: float | None
    tokens: int


@dataclasses.dataclass(frozen=True)
class Info:
    """What `inspect` finds out about a file.

    `mode` is that of the picture as Pillow calls it (L, LA, RGB, RGBA). `declared_bytes` is the size of the whole file
    by its header (None for the bare profile), `present_bytes` what came. `check` is the strongest that it has: crc16,
    crc32 or, bare, None. `sure_bytes`, from the first one on, are right by that: all of a whole file but its extras,
    those before the damage if that is known, else None. `model`, `mode`, `step` and `tokens_per_pass` are None if the
    model is not installed, the picture is above the pixel limit, (step) not even the base is there, or (the last one)
    nobody asked for it. `trailing_bytes` follow the payload; `extras` says how many bytes of content the chunks among
    them have, by tag ("EXIF", "XMP ", "ICCP"). `external_id` is that of a model that is not in the package, as 8
    hexadecimal digits, or fewer if the file was cut there; else None.
    """

    version: int
    profile: str
    model: str | None
    model_id: int
    width: int
    height: int
    mode: str | None
    declared_bytes: int | None
    present_bytes: int
    state: str
    check: str | None
    sure_bytes: int | None
    trailing_bytes: int
    extras: dict[str, int]
    step: float | None
    tokens_per_pass: tuple[PassInfo, ...] | None
    external_id: str | None = None


def inspect(data: bytes, *, tokens: bool = False, bare: bool = False) -> Info:
    """What a file says about itself, without decoding pixels and without torch.

    Args:
        tokens: count those of each pass, which takes about as long as to read them all. Without it, `mode` has an alpha
            from where the file says that there is one; with it, once some of it is there, as in the decoded picture.
        bare: take bytes that may be bare data for that even if their model is not installed. Without it they are more
            likely to be text, or another format.

    Raises:
        FormatError: not a prow file. An unknown model is no error here, but for bare data. LimitError: with `tokens`,
            to read them is more work than the limit.
    """
    tokens, bare = flag("tokens", tokens), flag("bare", bare)
    header, payload, state = container.parse(data)
    declared = header.file_bytes
    mode, step, per_pass, name = None, None, None, None
    model, stream, external = None, b"", None
    if header.model_id == container.EXTERNAL:
        external = payload[: container.EXTERNAL_ID_BYTES].hex()
    try:
        model, stream = of_file(header, payload)
    except ModelError:
        if header.profile == "bare" and not bare:
            raise HeaderError(
                f"byte 0 is {data[0]:02x}: f5 wanted for a file, or the id of an installed model for bare data "
                "(bare=True, or --bare, takes it for bare data all the same)"
            ) from None
    blocks = container.sure_bytes(data)
    if model is not None and header.width * header.height <= DEFAULT_MAX_PIXELS:
        name, size = model.name, (header.width, header.height)
        if tokens:
            found = model.read(stream, *size, Meter(Limits()))
            base, mode, per_pass = found.base, found.mode, _passes(found, model)
        else:
            base, grey, alpha = model.read_start(stream, *size)
            mode = ("L" if grey else "RGB") + "A" * alpha
        step = None if base is None else step_size(base)
    return Info(
        version=header.version,
        profile=header.profile,
        model=name,
        model_id=header.model_id,
        width=header.width,
        height=header.height,
        mode=mode,
        declared_bytes=declared,
        present_bytes=len(data),
        state=state,
        check=None if header.profile == "bare" else "crc16" if blocks is None else "crc32",
        sure_bytes=declared if state == "whole" else blocks,
        trailing_bytes=max(0, len(data) - declared) if declared is not None else 0,
        extras={tag: len(content) for tag, content in container.parse_extras(data).items()},
        step=step,
        tokens_per_pass=per_pass,
        external_id=external,
    )


def _passes(tokens: Tokens, model: AnyModel) -> tuple[PassInfo, ...]:
    counts = [int(part.counts.sum(dtype=int)) for part in tokens.passes]
    return tuple(PassInfo(*facts, count) for facts, count in zip(model.passes_of(tokens), counts, strict=True))
