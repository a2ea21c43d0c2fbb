"""An independent reader of streams of external models: standard library only, written from SPEC.md section 7."""

from __future__ import annotations

import hashlib
from typing import Any

if __package__:
    from .model_file import TOTAL, Refused, running_sums
    from .reader import EXTERNAL, Violation, parse
    from .tokens import BIT, Ended, RangeDecoder
else:
    from model_file import TOTAL, Refused, running_sums
    from reader import EXTERNAL, Violation, parse
    from tokens import BIT, Ended, RangeDecoder


def external_id(weights_sha256: bytes, tables: list[list[int]] | None) -> bytes:
    """The 4 bytes that name a model."""
    if tables is None:
        return weights_sha256[:4]
    content = b"".join(frequency.to_bytes(4, "little") for row in tables for frequency in row)
    return hashlib.sha256(weights_sha256 + content).digest()[:4]


def flag_sums(token: int) -> list[int]:
    """Running sums of stop and continue before a token."""
    power_of_two = token == 0 or bin(token).count("1") == 1
    return running_sums([1 << 20, TOTAL - (1 << 20)] if power_of_two else [1 << 12, TOTAL - (1 << 12)])


def decode_external(
    data: bytes, tile: int, tokens: int, alphabet: int, weights_sha256: bytes, tables: list[list[int]] | None = None
) -> dict[str, Any]:
    """What a file of an external model says, given all that it depends on.

    Returns width, height, state, letterbox, and tiles: the integers of each.

    Raises Violation for R1 to R9, and Refused for R10.
    """
    fields = parse(data)
    if fields["state"] == "damaged":
        raise Violation("R9", "it does not match the bytes")
    wanted = external_id(weights_sha256, tables).hex()
    if fields["model_id"] != EXTERNAL or fields["external_id"] != wanted:
        raise Refused(f"R10 (model): {fields['model_id']} {fields['external_id']} came, {EXTERNAL} {wanted} wanted")
    rows = tables or [[TOTAL // alphabet + (value < TOTAL % alphabet) for value in range(alphabet)]]
    sums = [running_sums(row) for row in rows]
    width, height, decoder = fields["width"], fields["height"], RangeDecoder(fields["payload"][4:])
    letterbox, tiles = False, [[] for _ in range(-(-width // tile) * -(-height // tile))]
    try:
        if (width, height) != (tile, tile) and decoder.symbol(BIT):
            letterbox, tiles = True, [[]]
        active = tiles
        for token in range(tokens):
            active = [one for one in active if decoder.symbol(flag_sums(token))]
            for one in active:
                one.append(decoder.symbol(sums[token % len(sums)]))
    except Ended:
        pass
    return {"width": width, "height": height, "state": fields["state"], "letterbox": letterbox, "tiles": tiles}
