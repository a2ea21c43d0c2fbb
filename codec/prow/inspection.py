"""What a file says about itself (`prow.inspect`), without torch, ONNX Runtime and Pillow."""

from __future__ import annotations

import dataclasses

from .entropy.model import Model, StreamSpec
from .entropy.reader import read
from .errors import ModelError
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
    came. `model`, `mode`, `step` and `tokens_per_pass` are None if the model is not installed, the picture is above the
    pixel limit, or (step) not even the base is there. `trailing_bytes` follow the payload; `extras` says how many bytes
    of content the chunks among them have, by tag ("EXIF", "XMP ", "ICCP").
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
    trailing_bytes: int
    extras: dict[str, int]
    step: float | None
    tokens_per_pass: tuple[PassInfo, ...] | None


def inspect(data: bytes) -> Info:
    """What a file says about itself, without decoding pixels and without torch.

    Raises:
        FormatError: not a prow file. An unknown model is no error here.
    """
    header, payload, state = container.parse(data)
    declared = header.file_bytes
    mode, step, per_pass, name = None, None, None, None
    try:
        model = load_by_id(header.model_id)
    except ModelError:
        model = None
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
