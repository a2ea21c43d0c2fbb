"""An independent reader of the prow container: standard library only, written from SPEC.md alone.

    python format_spec/reader.py FILE     prints the fields and the state as JSON

Exit status 1, with one line that names the violated rule of SPEC.md section 3, if the file breaks one.
"""

from __future__ import annotations

import json
import sys
import zlib
from typing import Any

MAX_SIDE = 65_535
RULES = {  # rule of SPEC.md section 3 -> what it is about
    "R1": "magic",
    "R2": "version",
    "R3": "truncated header",
    "R4": "header check",
    "R5": "model id",
    "R6": "size",
    "R7": "varint length",
    "R8": "varint form",
    "R9": "CRC",
}


class Violation(ValueError):
    """The data breaks `rule`, one of RULES."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(f"{rule} ({RULES[rule]}): {message}")
        self.rule = rule


class Bits:
    """Reads unsigned fields off bytes, most significant bit first."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self.data[self.at >> 3] >> (7 - (self.at & 7)) & 1
            self.at += 1
        return value


def parse(data: bytes) -> dict[str, Any]:
    """Fields, `state` (whole, cut or damaged), `payload` (bytes) and `extras` (a list of chunks) of a prow file.

    Raises Violation for the first broken rule among R1 to R8. A broken R9 is the state "damaged": whether to
    refuse such data is up to the caller.
    """
    if not data:
        raise Violation("R3", "0 bytes came, at least 3 wanted")
    if data[0] == 0xF5:
        return parse_file(data)
    if 1 <= data[0] <= 127:
        return parse_bare(data)
    raise Violation("R1", f"byte 0 is {data[0]:#04x}, 0xf5 or 0x01 to 0x7f wanted")


def parse_file(data: bytes) -> dict[str, Any]:
    """SPEC.md section 1."""
    if len(data) >= 2 and data[1] != 0xF0:
        raise Violation("R1", f"byte 1 is {data[1]:#04x}, 0xf0 wanted")
    if len(data) < 3:
        raise Violation("R3", f"{len(data)} bytes came, at least 12 wanted")
    bits = Bits(data)
    bits.take(16)
    last_of_magic, version, large = bits.take(1), bits.take(2), bits.take(1)
    if last_of_magic != 1:
        raise Violation("R1", f"byte 2 is {data[2]:#04x}, 0x80 to 0xff wanted")
    if version != 1:
        raise Violation("R2", f"{version} came, 1 wanted")
    header_bytes = 15 if large else 12
    if len(data) < header_bytes:
        raise Violation("R3", f"{len(data)} bytes came, {header_bytes} wanted")
    side_bits, length_bits = (16, 36) if large else (14, 16)
    width, height = bits.take(side_bits) + 1, bits.take(side_bits) + 1
    payload_bytes, model_id, check, crc = bits.take(length_bits), bits.take(8), bits.take(8), bits.take(16)
    if check != remainder(data[: header_bytes - 3], 8, 0x07, 0):
        raise Violation("R4", f"{check:#04x} came, which is not that of the bytes before it")
    if model_id == 0:
        raise Violation("R5", "0 came, 1 to 255 wanted")
    checked_side("width", width)
    checked_side("height", height)
    file, extras = data[: header_bytes + payload_bytes], data[header_bytes + payload_bytes :]
    payload, state = file[header_bytes:], "cut"
    if len(payload) == payload_bytes:
        right = remainder(data[: header_bytes - 2] + payload, 16, 0x1021, 0xFFFF) == crc and blocks_are_right(
            file, extras
        )
        state = "whole" if right else "damaged"
    return {
        "profile": "file",
        "version": version,
        "model_id": model_id,
        "width": width,
        "height": height,
        "payload_bytes": payload_bytes,
        "header_bytes": header_bytes,
        "crc": crc,
        "state": state,
        "trailing_bytes": len(data) - header_bytes - len(payload),
        "extras": chunks(extras),
        "payload": payload,
    }


def chunks(extras: bytes) -> list[dict[str, Any]]:
    """Tag, offset of the content in the extras, and length of it, of the whole chunks that the extras start with."""
    listed, at = [], 0
    while at + 8 <= len(extras):
        tag, length = extras[at : at + 4], Bits(extras[at + 4 : at + 8]).take(32)
        if min(tag) < 32 or max(tag) > 126 or at + 8 + length > len(extras):
            break
        listed.append({"tag": tag.decode("ascii"), "offset": at + 8, "bytes": length})
        at += 8 + length
    return listed


def blocks_are_right(file: bytes, extras: bytes) -> bool:
    """Whether no block of the file differs from its CRC-32 in the chunk CRCB; True if no such chunk fits."""
    for listed in chunks(extras):
        if listed["tag"] == "CRCB":
            content = extras[listed["offset"] :][: listed["bytes"]]
            size = int.from_bytes(content[:4], "big")
            blocks = [file[at : at + size] for at in range(0, len(file), size)] if size else []
            crcs = b"".join(zlib.crc32(block).to_bytes(4, "big") for block in blocks)
            return not size or len(content) != 4 + len(crcs) or content[4:] == crcs
    return True


def parse_bare(data: bytes) -> dict[str, Any]:
    """SPEC.md section 2."""
    width, at = read_varint(data, 1, "width")
    height, at = read_varint(data, at, "height")
    return {
        "profile": "bare",
        "version": 1,
        "model_id": data[0],
        "width": width,
        "height": height,
        "payload_bytes": None,
        "header_bytes": at,
        "crc": None,
        "state": "whole",
        "trailing_bytes": 0,
        "extras": [],
        "payload": data[at:],
    }


def read_varint(data: bytes, at: int, name: str) -> tuple[int, int]:
    """The side in px whose varint starts at byte `at`, and the offset of the byte behind it."""
    start, value, more = at, 0, True
    while more:
        if at - start == 3:
            raise Violation("R7", f"the {name} takes more than 3 bytes")
        if at == len(data):
            raise Violation("R3", f"{len(data)} bytes came, the {name} goes on")
        more = data[at] >= 128
        value = value * 128 + data[at] % 128
        at += 1
    if data[start] == 0x80:
        raise Violation("R8", f"the {name} takes {at - start} bytes, fewer wanted")
    return checked_side(name, value + 1), at


def checked_side(name: str, side: int) -> int:
    if side > MAX_SIDE:
        raise Violation("R6", f"{name} {side} came, 1 to {MAX_SIDE} wanted")
    return side


def remainder(data: bytes, size: int, polynomial: int, start: int) -> int:
    """A CRC of `size` bits, bit by bit: no reflection, no final XOR."""
    crc = start
    for byte in data:
        crc ^= byte << (size - 8)
        for _ in range(8):
            crc = crc << 1 ^ (1 << size | polynomial if crc >> (size - 1) else 0)
    return crc


def main(arguments: list[str]) -> int:
    """Print the fields of one file as JSON; 0 if it keeps all rules, 1 if not, 2 for wrong usage."""
    if len(arguments) != 1:
        print("usage: reader.py FILE", file=sys.stderr)
        return 2
    try:
        with open(arguments[0], "rb") as file:
            fields = parse(file.read())
    except (OSError, Violation) as error:
        print(f"{arguments[0]}: {error}", file=sys.stderr)
        return 1
    fields["present_bytes"] = len(fields.pop("payload"))
    print(json.dumps(fields, indent=2))
    if fields["state"] == "damaged":
        print(f"{arguments[0]}: {Violation('R9', 'it does not match the bytes')}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
