"""The hostile vectors, as `python -m format_spec.freeze --refreeze` writes them.

Each file of hostile/ breaks one rule of SPEC.md section 3. hostile.json tells for each the rule, the
error class and a fragment of its message, and the stage that finds it: "parse" (the header alone) or "decode"
(needs the list of models, the pixel limit, or the CRC). Bytes are put together here by hand, with no code of ours.
"""

from __future__ import annotations

import binascii
import hashlib
import json
from typing import NamedTuple


class Hostile(NamedTuple):
    """One vector: file name without suffix, its bytes, and what a reader has to say about it."""

    name: str
    data: bytes
    rule: str
    error: str
    message: str
    stage: str = "parse"


def crc8(data: bytes) -> int:
    """Long division of polynomials: the remainder of `data` and 8 zeros by x^8 + x^2 + x + 1."""
    rest = int.from_bytes(data, "big") << 8
    while rest >= 256:
        rest ^= 0x107 << (rest.bit_length() - 9)
    return rest


def with_checks(head: bytes, payload: bytes) -> bytes:
    """`head` (all of the header before the check), a right check and CRC, `payload`."""
    head += bytes([crc8(head)])
    return head + binascii.crc_hqx(head + payload, 0xFFFF).to_bytes(2, "big") + payload


def small(start: int = 0xA, model: int = 2, payload: bytes = b"payload") -> bytes:
    """A small-form file of 768 x 512 px; `start` is the upper half of byte 2."""
    fields = ((start << 14 | 767) << 14 | 511) << 16 | len(payload)
    return with_checks(b"\xf5\xf0" + fields.to_bytes(6, "big") + bytes([model]), payload)


def large(width: int, height: int, payload: bytes = b"payload") -> bytes:
    """A large-form file of model 2."""
    fields = ((0xB << 16 | width - 1) << 16 | height - 1) << 36 | len(payload)
    return with_checks(b"\xf5\xf0" + fields.to_bytes(9, "big") + b"\2", payload)


def changed(data: bytes, place: int, value: int) -> bytes:
    """One byte replaced."""
    return data[:place] + bytes([value]) + data[place + 1 :]


def header_vectors() -> list[Hostile]:
    """Those that a parser refuses."""
    noise = hashlib.shake_256(b"prow hostile vectors").digest(256)
    wrong, cut = "wrong magic", "truncated header"
    return [
        Hostile("empty", b"", "R3", "HeaderError", cut),
        Hostile("one_byte", b"\xf5", "R3", "HeaderError", "1 byte came, at least 12 wanted"),
        Hostile("one_byte_bare", b"\x02", "R3", "HeaderError", "1 byte came, the width goes on"),
        Hostile("truncated_header", small()[:11], "R3", "HeaderError", "11 bytes came, 12 wanted"),
        Hostile("truncated_large_header", large(20000, 1)[:14], "R3", "HeaderError", "14 bytes came, 15 wanted"),
        Hostile("truncated_bare_header", bytes([2, 0x81, 1, 0x81]), "R3", "HeaderError", "the height goes on"),
        Hostile("wrong_magic", changed(small(), 1, 0x70), "R1", "HeaderError", wrong),
        Hostile("wrong_magic_bit", changed(small(), 2, small()[2] & 0x7F), "R1", "HeaderError", wrong),
        Hostile("png", bytes.fromhex("89504e470d0a1a0a0000000d49484452"), "R1", "HeaderError", "a PNG file"),
        Hostile("jpeg", bytes.fromhex("ffd8ffe000104a464946000101000001"), "R1", "HeaderError", "a JPEG file"),
        Hostile("zeros", bytes(64), "R1", "HeaderError", wrong),
        Hostile("utf8", "größe".encode()[2:], "R1", "HeaderError", wrong),
        Hostile("random", b"\xb7" + noise, "R1", "HeaderError", wrong),
        Hostile("version_0", small(start=0x8), "R2", "VersionError", "0 came, 1 wanted"),
        Hostile("version_3", small(start=0xE), "R2", "VersionError", "3 came, 1 wanted"),
        Hostile("header_check", changed(small(), 9, small()[9] ^ 1), "R4", "HeaderError", "header check"),
        Hostile("damaged_length", changed(small(), 6, 0xFF), "R4", "HeaderError", "header check"),
        Hostile("damaged_large_bit", changed(small(), 2, small()[2] ^ 0x10), "R4", "HeaderError", "header check"),
        Hostile("damaged_to_bare", changed(small(), 0, 2), "R7", "HeaderError", "overlong width"),
        Hostile("damaged_to_bare_1x1", b"\x02" + small()[1:3] + bytes(9), "R6", "HeaderError", "width too large"),
        Hostile("model_0", small(model=0), "R5", "HeaderError", "model id: 0 came"),
        Hostile("width_65536", large(65_536, 1), "R6", "HeaderError", "width too large: 65,536"),
        Hostile("height_65536", large(1, 65_536), "R6", "HeaderError", "height too large: 65,536"),
        Hostile("bare_width_65536", bytes([2, 0x83, 0xFF, 0x7F, 0, 9]), "R6", "HeaderError", "width too large: 65,536"),
        Hostile("varint_overlong", bytes([2, 0x81, 0x80, 0x80, 1, 0]), "R7", "HeaderError", "overlong width"),
        Hostile("varint_non_canonical", bytes([2, 5, 0x80, 3, 9, 9]), "R8", "HeaderError", "non-canonical height"),
    ]


def decode_vectors() -> list[Hostile]:
    """Those with a header that is in order, refused by a decoder."""
    flipped = bytearray(small())
    flipped[-1] ^= 0x01
    webp = b"RIFF\x24\x00\x00\x00WEBPVP8 "  # 'R' is the bare model id 82
    bare_absurd = bytes([2, 0x83, 0xFF, 0x7E, 0x83, 0xFF, 0x7E, 0x55])
    return [
        Hostile("damaged_crc", bytes(flipped), "R9", "DamagedError", "CRC", "decode"),
        Hostile("absurd_size", large(65_535, 65_535, b"\x55"), "R11", "LimitError", "limit", "decode"),
        Hostile("absurd_size_bare", bare_absurd, "R11", "LimitError", "limit", "decode"),
        Hostile("unknown_model_200", small(model=200), "R10", "ModelError", "200", "decode"),
        Hostile("external_unknown", small(model=127), "R10", "ModelError", "7061796c", "decode"),
        Hostile("external_id_cut", small(model=127, payload=b"pay"), "R10", "ModelError", "3 of the 4 bytes", "decode"),
        Hostile("external_id_missing", small(model=127, payload=b""), "R10", "ModelError", "0 of the 4", "decode"),
        Hostile("external_bare", bytes([127, 5, 5, 9]), "R10", "ModelError", "1 of the 4", "decode"),
        Hostile("elf", b"\x7fELF\x02\x01\x01\0\0\0", "R10", "ModelError", "46020101", "decode"),
        Hostile("text", b"Hello, prow!\n", "R10", "ModelError", "72", "decode"),
        Hostile("webp", webp, "R10", "ModelError", "82", "decode"),
    ]


def hostile_vectors() -> list[Hostile]:
    return header_vectors() + decode_vectors()


def files() -> dict[str, bytes]:
    """All vectors and hostile.json, by place in the folder."""
    vectors = hostile_vectors()
    rows = [{"file": f"{v.name}.bin", **v._asdict()} for v in vectors]
    for row in rows:
        del row["data"], row["name"]
    index = json.dumps(rows, indent=1) + "\n"
    return {**{f"hostile/{v.name}.bin": v.data for v in vectors}, "hostile.json": index.encode()}
