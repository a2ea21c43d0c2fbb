"""The golden vectors of external models, as `python -m format_spec.freeze --refreeze` writes them.

external/ holds files and external.json the tokens that a reader MUST find in them, and all that these
depend on of each model: sizes, a SHA-256 for its weights (which there are none of), and tables. All is drawn.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from format_spec import VECTORS
from format_spec.external import decode_external
from prow.entropy.tables import TOTAL
from prow.external.model import ExternalModel, Source
from prow.format.container import pack, parse
from prow.format.tiling import tile_count

FILES, INDEX = VECTORS / "external", VECTORS / "external.json"


def models() -> list[ExternalModel]:
    """One with tables, one without, whose alphabet is no power of two, and one of usual sizes."""
    rng, names = np.random.default_rng(7), ("tables", "plain", "usual")
    shares = rng.exponential(size=(6, 10)) ** 3
    tables = 1 + np.floor(shares / shares.sum(1, keepdims=True) * (TOTAL - 10)).astype("<i4")
    tables[:, 0] += TOTAL - tables.sum(1)
    sizes = ((8, 6, 10), (8, 6, 10), (256, 256, 4096))
    digests = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    return [
        ExternalModel(name, "", digest, 0, *size, Source(), tables if name == "tables" else None)
        for name, digest, size in zip(names, digests, sizes, strict=True)
    ]


def vectors(model: ExternalModel) -> dict[str, bytes]:
    """All files of a model, by name."""
    rng, tile = np.random.default_rng(8), model.tile

    def stream(width: int, height: int, counts: list[int] | None = None, *, letterbox: bool = False) -> bytes:
        tiles = tile_count(width, height, tile, letterbox=letterbox)
        known = rng.integers(0, model.tokens + 1, tiles) if counts is None else np.array(counts)
        values = rng.integers(0, model.alphabet, (tiles, model.tokens)) * (np.arange(model.tokens) < known[:, None])
        tokens = model.tokens_of(known.astype(np.int16), values.astype(np.int32), width, height, letterbox=letterbox)
        return model.external_id + model.trimmed(tokens)

    def file(width: int, height: int, payload: bytes, **options: Any) -> bytes:
        return pack(payload, width=width, height=height, model_id=model.model_id, **options)

    one = file(tile, tile, stream(tile, tile, [model.tokens]))
    return {
        "one_tile": one,
        "one_tile_cut": one[: (len(one) - 16) * 3 // 4 + 16],
        "one_tile_few": file(tile, tile, stream(tile, tile, [2])),
        "letterbox": file(tile + 5, tile - 3, stream(tile + 5, tile - 3, letterbox=True)),
        "small": file(tile - 1, 3, stream(tile - 1, 3)),
        "tiles": file(3 * tile + 1, 2 * tile, stream(3 * tile + 1, 2 * tile)),
        "tiles_bare": file(2 * tile, tile, stream(2 * tile, tile), profile="bare"),
        "tiles_stop_at_once": file(2 * tile, 2 * tile, stream(2 * tile, 2 * tile, [0, 1, 0, 3])),
        "no_token": file(tile, 2 * tile, stream(tile, 2 * tile, [0, 0])),
        "no_layout": file(tile, 2 * tile, model.external_id),
        "noise": file(3 * tile, tile, model.external_id + rng.bytes(40)),
        "ff": file(tile, tile, model.external_id + b"\xff" * 30),
    }


def row_of(name: str, data: bytes, model: ExternalModel) -> dict[str, Any]:
    """The entry of external.json. Both readers have to agree on it."""
    tables = None if model.tables is None else model.tables.tolist()
    sizes = (model.tile, model.tokens, model.alphabet)
    told = decode_external(data, *sizes, bytes.fromhex(model.sha256), tables)
    header, payload, _ = parse(data)
    ours = model.read(payload[4:], header.width, header.height)
    part = ours.passes[0]
    tiles = [row[:count].tolist() for row, count in zip(part.values, part.counts, strict=True)]
    assert ours.external is not None
    if (told["tiles"], told["letterbox"]) != (tiles, ours.external.letterbox):
        raise SystemExit(f"{name}: the two readers disagree, nothing was written")
    return {"file": f"{model.name}_{name}.prow", "model": model.name, **told}


def index(made: list[ExternalModel], rows: list[dict[str, Any]]) -> str:
    """The text of external.json."""
    facts = {
        model.name: {
            "tile": model.tile,
            "tokens": model.tokens,
            "alphabet": model.alphabet,
            "sha256": model.sha256,
            "tables": None if model.tables is None else model.tables.tolist(),
        }
        for model in made
    }
    lines = ",\n  ".join(json.dumps(row) for row in rows)
    return f'{{"models": {json.dumps(facts)},\n "vectors": [\n  {lines}\n]}}\n'


def files() -> dict[str, bytes]:
    """All vectors and external.json, by place in the folder."""
    rows, out, made = [], {}, models()
    for model in made:
        for name, data in vectors(model).items():
            rows.append(row_of(name, data, model))
            out[f"external/{rows[-1]['file']}"] = data
    return {**out, "external.json": index(made, rows).encode()}
