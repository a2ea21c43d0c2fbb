"""What a file says about itself (`prow.inspect`), without torch, ONNX Runtime and Pillow."""

from __future__ import annotations

import dataclasses

from .entropy.model import Model, StreamSpec
from .entropy.reader import read
from .errors import HeaderError, ModelError
from .format import container
from .format.config import KIND_NAMES, step_size
from .format.tokens import Tokens
from .registry import load_by_id


@dataclasses.dataclass(frozen=True)
class PassInfo:
    """One pass of a file: its kind, the level's size in px, tiles, quantiser step, tokens present."""

    kind: str
    width: int
    height: int
    tiles: int
    step: float
    tokens: int


@dataclasses.dataclass(frozen=True)
class Info:
    """What `inspect` finds out about a file.

    `mode` is that of the picture as Pillow calls it (L, LA, RGB, RGBA): alpha is seen when some of it came.
    `declared_bytes` is the size of the whole file by its header (None for the bare profile), `present_bytes` what
    came. `check` is the strongest that it has: crc16, crc32 or, bare, None. `sure_bytes`, from the first one on, are
    right by that: all of a whole file but its extras, those before the damage if that is known, else None. `model`,
    `mode`, `step` and `tokens_per_pass` are None if the model is not installed, the picture is above the pixel limit,
    or (step) not even the base is there. `trailing_bytes` follow the payload; `extras` says how many bytes of content
    the chunks among them have, by tag ("EXIF", "XMP ", "ICCP").
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


def inspect(data: bytes, *, bare: bool = False) -> Info:
    """What a file says about itself, without decoding pixels and without torch.

    Args:
        bare: take bytes that may be bare data for that even if their model is not installed. Without it they are more
            likely to be text, or another format.

    Raises:
        FormatError: not a prow file. An unknown model is no error here, but for bare data.
    """
    header, payload, state = container.parse(data)
    declared = header.file_bytes
    mode, step, per_pass, name = None, None, None, None
    try:
        model = load_by_id(header.model_id)
    except ModelError:
        model = None
        if header.profile == "bare" and not bare:
            raise HeaderError(
                f"byte 0 is {data[0]:02x}: f5 wanted for a file, or the id of an installed model for bare data "
                "(bare=True, or --bare, takes it for bare data all the same)"
            ) from None
    blocks = container.sure_bytes(data)
    if model is not None and header.width * header.height <= container.DEFAULT_MAX_PIXELS:
        name = model.config.name
        tokens = read(payload, StreamSpec(header.width, header.height, model))
        mode, step = tokens.mode, None if tokens.base is None else step_size(tokens.base)
        per_pass = _passes(tokens, model)
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
    )


def _passes(tokens: Tokens, model: Model) -> tuple[PassInfo, ...]:
    infos = []
    for pass_, part in zip(StreamSpec(tokens.width, tokens.height, model).passes, tokens.passes, strict=True):
        step = step_size(pass_.step_index(tokens.base)) if tokens.base is not None else 0.0
        level, count = pass_.level, int(part.counts.sum(dtype=int))
        infos.append(PassInfo(KIND_NAMES[pass_.kind], level.width, level.height, level.tiles, step, count))
    return tuple(infos)
