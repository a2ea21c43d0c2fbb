"""What a file says about itself (`prow.inspect`), without torch, ONNX Runtime and Pillow."""

from __future__ import annotations

import contextlib
import dataclasses

from .errors import ModelError
from .format import container
from .format.config import step_size
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

    `mode` is that of the picture as Pillow calls it (L, LA, RGB, RGBA): alpha is seen when some of it came.
    `declared_bytes` is the size of the whole file by its header (None for the bare profile), `present_bytes` what
    came. `model`, `mode`, `step` and `tokens_per_pass` are None if the model is not installed, the picture is above the
    pixel limit, or (step) not even the base is there. `trailing_bytes` follow the payload; `extras` says how many bytes
    of content the chunks among them have, by tag ("EXIF", "XMP ", "ICCP"). `external_id` is that of a model that is not
    in the package, as 8 hexadecimal digits, or fewer if the file was cut there; else None.
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
    external_id: str | None = None


def inspect(data: bytes) -> Info:
    """What a file says about itself, without decoding pixels and without torch.

    Raises:
        FormatError: not a prow file. An unknown model is no error here.
    """
    header, payload, state = container.parse(data)
    declared = header.file_bytes
    mode, step, per_pass, name = None, None, None, None
    model, stream, external = None, b"", None
    if header.model_id == container.EXTERNAL:
        external = payload[: container.EXTERNAL_ID_BYTES].hex()
    with contextlib.suppress(ModelError):
        model, stream = of_file(header, payload)
    if model is not None and header.width * header.height <= container.DEFAULT_MAX_PIXELS:
        name = model.name
        tokens = model.read(stream, header.width, header.height)
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
        external_id=external,
    )


def _passes(tokens: Tokens, model: AnyModel) -> tuple[PassInfo, ...]:
    counts = [int(part.counts.sum(dtype=int)) for part in tokens.passes]
    return tuple(PassInfo(*facts, count) for facts, count in zip(model.passes_of(tokens), counts, strict=True))
