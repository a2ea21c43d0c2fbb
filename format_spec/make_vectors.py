"""The golden vectors and SPEC.md's worked example, as `python -m format_spec.freeze --refreeze` writes them.

golden/ holds files and golden.json the tokens that a reader MUST find in them. They rest on the tables of the models
in the package, of which golden.json has the sums. Most tokens are random integers, so no network takes part.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import prow
from format_spec import VECTORS
from format_spec import tokens as independent
from format_spec.model_file import parse_model
from prow import registry
from prow.entropy.model import Model, StreamSpec
from prow.entropy.reader import read
from prow.entropy.tables import MAX_MAGNITUDE
from prow.entropy.trim import trim
from prow.entropy.writer import write
from prow.format.config import REFINE, STEPS
from prow.format.container import Profile, pack, parse
from prow.format.tokens import PassTokens, Tokens, empty_tokens
from prow.registry import ModelFile

SPEC = Path(__file__).resolve().parent / "SPEC.md"
INDEX = VECTORS / "golden.json"
GOLDEN = VECTORS / "golden"
COMMAND = "python -m format_spec.freeze --refreeze"
SHAPING = ("model_id", "channels", "tile", "token_dims", "usual_base", "octave_step", "refine_shifts")
BEGIN, END = f"<!-- example: written by `{COMMAND}` -->", "<!-- end of example -->"


def random_tokens(
    width: int,
    height: int,
    base: int,
    model: Model,
    rng: np.random.Generator,
    *,
    density: float = 0.3,
    largest: int = 3,
    mean_tokens: float = 2.0,
    refine: bool = False,
    skipped: Collection[int] = (),
    grey: bool = False,
    alpha: bool = False,
) -> Tokens:
    """Tokens of a picture drawn at random.

    Args:
        density: share of non-zero integers. largest: their magnitude is up to this, log-uniformly.
        mean_tokens: of a tile, geometrically. refine: whether the refining passes have tokens.
        skipped: indices of passes without any. grey: a picture of channel 0 alone. alpha: with an alpha plane.
    """
    parts, config = [], model.config
    if alpha:
        kept = {"density": density, "largest": largest, "mean_tokens": mean_tokens, "refine": refine}
        colour, plane = (random_tokens(width, height, base, model, rng, grey=g, **kept) for g in (grey, True))
        return dataclasses.replace(colour, alpha=plane.passes)
    for index, pass_ in enumerate(StreamSpec(width, height, model).passes):
        if index in skipped or (pass_.kind == REFINE and not refine):
            parts.append(empty_tokens(pass_.level, config))
            continue
        layout, tiles = model.layout(pass_, grey=grey), pass_.level.tiles
        counts = np.minimum(rng.geometric(1 / (1 + mean_tokens), tiles) - 1, layout.last)
        shape = (tiles, config.coefficients)
        magnitude = np.floor(np.exp(rng.uniform(0, np.log(largest + 1), shape))).clip(max=largest)
        values = magnitude * rng.choice([-1, 1], shape) * (rng.random(shape) < density)
        values *= layout.sent(counts)
        parts.append(PassTokens(counts.astype(np.int16), values.astype(np.int16)))
    return Tokens(width, height, config.model_id, base, tuple(parts), grey=grey, token_dims=config.token_dims)


def digest(values: Sequence[Sequence[Sequence[int]]], coefficients: int) -> str:
    """SHA-256 of ranked integers [pass][tile][rank]: big-endian int16, each tile filled with zeros to K."""
    total = hashlib.sha256()
    for tiles in values:
        for ranked in tiles:
            row = np.zeros(coefficients, ">i2")
            row[: len(ranked)] = ranked
            total.update(row.tobytes())
    return total.hexdigest()


def describe(tokens: Tokens) -> dict[str, Any]:
    """What golden.json says of tokens: base, planes, and counts and values of each pass, those of alpha behind."""
    parts = (*tokens.passes, *tokens.shown_alpha)
    trimmed = [[np.trim_zeros(v, "b").tolist() for v in part.values] for part in parts]
    planes = {"grey": tokens.grey, "alpha": bool(tokens.shown_alpha)}
    return {"base": tokens.base, **planes, "counts": [p.counts.tolist() for p in parts], "values": trimmed}


def describe_row(told: dict[str, Any]) -> dict[str, Any]:
    """The same of what format_spec/tokens.py says."""
    rows = [*told["passes"], *(told["alpha"] or [])]
    planes = {"grey": told["grey"], "alpha": told["alpha"] is not None}
    columns = {name: [row[name] for row in rows] for name in ("counts", "values")}
    return {"base": told["base"], **planes, **columns}


def vectors(model: ModelFile) -> dict[str, bytes]:
    """All files of a model, by name."""
    config, rng = model.config, np.random.default_rng(5)
    usual = config.usual_base

    def stream(width: int, height: int, base: int, **choices: Any) -> bytes:
        tokens = random_tokens(width, height, base, model, rng, **choices)
        return trim(write(tokens, model), tokens, model)

    def file(width: int, height: int, payload: bytes, profile: Profile = "file") -> bytes:
        return pack(payload, width=width, height=height, model_id=config.model_id, profile=profile)

    def long_form(width: int, height: int, base: int) -> bytes:
        """A stream whose base has a short symbol, but comes as a long one."""
        tokens = random_tokens(width, height, base, model, rng)
        far = dataclasses.replace(config, usual_base=4 if base > STEPS // 2 else 59)
        other = Model(far, model.tables)
        return trim(write(tokens, other), tokens, other)

    middle = file(100, 75, stream(100, 75, usual - 2))
    return {
        "1x1": file(1, 1, stream(1, 1, 20, density=0.9, mean_tokens=5)),
        "1x40": file(1, 40, stream(1, 40, 63)),
        "17x23": file(17, 23, stream(17, 23, 0)),
        "64x64_bare": file(64, 64, stream(64, 64, usual + 9), "bare"),
        "100x75": middle,
        "100x75_cut": middle[: len(middle) * 3 // 5],
        "100x75_extras": middle + b"extras",
        "100x75_left_out": file(100, 75, stream(100, 75, usual + 3, skipped=(1, 2))),
        "300x200_empty": file(300, 200, b""),
        "30x22_base_far": file(30, 22, stream(30, 22, 55)),
        "21x15_base_long": file(21, 15, long_form(21, 15, usual + 1)),
        "9x9_base_half": file(9, 9, b"\xfe"),
        "24x16_large_integers": file(24, 16, stream(24, 16, 12, largest=MAX_MAGNITUDE, mean_tokens=2)),
        "16385x1_large_form": file(16_385, 1, stream(16_385, 1, usual + 4, mean_tokens=0.2)),
        "40x30_refine_bare": file(40, 30, stream(40, 30, usual + 1, refine=True), "bare"),
        "20x17_refine_left_out": file(20, 17, stream(20, 17, usual - 5, refine=True, skipped=(0, 3, 4))),
        "33x20_zero_integers": file(33, 20, stream(33, 20, usual - 3, density=0)),
        "65x48_noise": file(65, 48, rng.bytes(120)),
        "48x48_ff": file(48, 48, b"\xff" * 40),
        "70x50_grey": file(70, 50, stream(70, 50, usual - 1, grey=True)),
        "70x50_alpha": file(70, 50, stream(70, 50, usual, alpha=True)),
        "50x70_grey_alpha_bare": file(50, 70, stream(50, 70, usual + 2, grey=True, alpha=True), "bare"),
        "96x64_picture": prow.encode(picture(96, 64), bytes=300, model=config.name),
        "50x33_picture_bare": prow.encode(picture(50, 33), bytes=60, model=config.name, profile="bare"),
    }


def picture(width: int, height: int) -> np.ndarray:
    """A disc on a gradient: uint8 [H, W, 3]."""
    y, x = np.mgrid[:height, :width]
    disc = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (height / 3) ** 2
    planes = np.stack([x * 255 // width, y * 255 // height, np.where(disc, 220, 60)], axis=2)
    return planes.astype(np.uint8)


def row_of(name: str, data: bytes, model: ModelFile) -> dict[str, Any]:
    """The entry of golden.json. Both readers have to agree on it."""
    told = independent.decode_tokens(data, model.content)
    theirs = describe_row(told)
    values = theirs.pop("values")
    header, payload, _ = parse(data)
    ours = read(payload, StreamSpec(header.width, header.height, model))
    if describe(ours) != {**theirs, "values": values}:
        raise SystemExit(f"{name}: the two readers disagree, nothing was written")
    return {
        "file": f"{model.config.name}_{name}.prow",
        "model": model.config.name,
        "state": told["state"],
        "canonical": trim(write(ours, model), ours, model) == payload,
        **theirs,
        "values_sha256": digest(values, model.config.coefficients),
        "values": values,
    }


# -- the worked example of SPEC.md ------------------------------------------------------------------------------


class Tracing(independent.RangeDecoder):
    """Writes down every symbol that it tries, for a table of decoding by hand."""

    def __init__(self, payload: bytes) -> None:
        super().__init__(payload)
        self.rows: list[str] = []

    def symbol(self, sums: Sequence[int]) -> int:
        width, scale = self.range, self.range >> 24
        quotients = [offset // scale for offset in self.offsets]
        cells = [f"{width:x}", " ".join(f"{offset:x}" for offset in self.offsets), " ".join(map(str, quotients))]
        try:
            symbol = super().symbol(sums)
        except independent.Ended:
            self.rows.append(" | ".join([*cells, "differ: the end", "", ""]))
            raise
        self.rows.append(" | ".join([*cells, str(symbol), str(sums[symbol]), str(sums[symbol + 1] - sums[symbol])]))
        return symbol


def example(model: ModelFile) -> str:
    """A picture of 1 x 1 px whose three coefficients all come in the first pass, decoded step by step."""
    config, spec = model.config, StreamSpec(1, 1, model)
    tokens, layout = spec.empty(0), model.layout(spec.passes[0])
    first = tokens.passes[0]
    first.values[0, layout.exists[0]], first.counts[0] = (400, 25, -6), layout.last[0]
    payload = trim(write(tokens, model), tokens, model)
    data = pack(payload, width=1, height=1, model_id=config.model_id)
    decoder = Tracing(payload)
    found = independent.decode_stream(decoder, 1, 1, parse_model(model.content))
    rows = "\n".join(f"| {number} | {row} |" for number, row in enumerate(decoder.rows, 1))
    count, *others = [row["counts"][0] for row in found["passes"]]
    assert not any(others)
    number, sent = len(spec.passes), found["passes"][0]["values"][0]
    integers = ", ".join(f"{value} at rank {rank}" for rank, value in enumerate(sent) if value)
    return f"""{BEGIN}

With model `{config.name}` whose file has the SHA-256 `{hashlib.sha256(model.content).hexdigest()}`, this
file is a picture of 1 x 1 px with a payload of {len(payload)} bytes:

```
{data[:2].hex()} {data[2:9].hex()} {data[9:10].hex()} {data[10:12].hex()} {payload.hex()}
```

Each row is one symbol, with the state before it. `range` and `offset` are in hexadecimal; of the two offsets and the
two q, the first has bytes 00 behind the payload and the second ff.

| | range | offset | q | symbol | F | f |
|---|---|---|---|---|---|---|
{rows}

Result: base {found["base"]}; the only tile has {count} tokens in the first of the {number} passes and none in the
others; its integers are {integers}.

{END}"""


def with_example(text: str, block: str) -> str:
    """SPEC.md's text with its example replaced."""
    before, rest = text.split(BEGIN)
    return before + block + rest.split(END)[1]


def tables_digest(content: bytes) -> str:
    """SHA-256 of all that tokens depend on in a model file (SPEC section 6): the config keys of SHAPING as JSON with
    sorted keys, then name and bytes of each tensor `tables.*`, by name."""
    length = int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    config = {"channels": 3, **json.loads(header["__metadata__"]["prow"])}
    total = hashlib.sha256(json.dumps({key: config[key] for key in sorted(SHAPING)}).encode())
    for name in sorted(key for key in header if key.startswith("tables.")):
        start, end = header[name]["data_offsets"]
        total.update(name.encode() + body[start:end])
    return total.hexdigest()


def frozen_facts(model: ModelFile) -> dict[str, Any]:
    """What golden.json says of a model: its id, and the sums of its file and its tables."""
    digest = hashlib.sha256(model.content).hexdigest()
    return {"id": model.model_id, "sha256": digest, "tables_sha256": tables_digest(model.content)}


def files() -> dict[str, bytes]:
    """All golden vectors and golden.json, by place in the folder."""
    models, rows, made = [registry.load(info.name) for info in prow.models()], [], {}
    for model in models:
        for title, data in vectors(model).items():
            rows.append(row_of(title, data, model))
            made[f"golden/{rows[-1]['file']}"] = data
    head = ",\n  ".join(f"{json.dumps(model.name)}: {json.dumps(frozen_facts(model))}" for model in models)
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    made["golden.json"] = f'{{"models": {{\n  {head}\n }},\n "vectors": [\n  {lines}\n]}}\n'.encode()
    return made
