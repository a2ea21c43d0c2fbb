"""What may follow a payload: chunks with a tag and a length, one of which guards the file block by block (SPEC.md
section 1)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

from ..arguments import told
from ..errors import InputError

__all__ = ["BLOCK", "BLOCKS_TAG", "block_crcs", "chunk", "good_bytes", "read_chunks"]

BLOCKS_TAG = "CRCB"
BLOCK = 1024  # bytes of a block that a writer guards with one CRC
_HEAD_BYTES = 8  # tag and length of a chunk
_MAX_CHUNK = (1 << 32) - 1


def chunk(tag: str, content: bytes) -> bytes:
    """One chunk. Raises InputError for a tag or a length that none can have."""
    name = tag.encode("utf-8", "replace") if isinstance(tag, str) else b""
    if not _is_tag(name) or not tag.isascii():
        raise InputError(f"an extra with the tag {told(tag)} came, 4 printable ASCII characters wanted")
    if not isinstance(content, bytes | bytearray | memoryview):
        raise InputError(f"an extra of type {type(content).__name__} came ({tag}), bytes wanted")
    content = bytes(content)
    if len(content) > _MAX_CHUNK:
        raise InputError(f"an extra of {len(content):,} bytes came ({tag}), at most {_MAX_CHUNK:,} wanted")
    return name + len(content).to_bytes(4, "big") + content


def read_chunks(extras: bytes) -> dict[str, bytes]:
    """Content under its tag, as far as there are whole chunks. Of equal tags the first counts."""
    chunks: dict[str, bytes] = {}
    at = 0
    while at + _HEAD_BYTES <= len(extras):
        tag, end = extras[at : at + 4], at + _HEAD_BYTES + int.from_bytes(extras[at + 4 : at + 8], "big")
        if not _is_tag(tag) or end > len(extras):
            break
        chunks.setdefault(tag.decode("ascii"), extras[at + _HEAD_BYTES : end])
        at = end
    return chunks


def block_crcs(file: bytes) -> Mapping[str, bytes]:
    """The chunk that guards a file (header and payload), as `extras` of `container.add_extras`."""
    return {BLOCKS_TAG: BLOCK.to_bytes(4, "big") + _crcs(file, BLOCK)}


def good_bytes(file: bytes, extras: bytes) -> int | None:
    """How many bytes of a file (header and payload), from its first on, are right by the chunk that guards it: all of
    them, or those before the first block that is not. None if there is no such chunk that fits."""
    content = read_chunks(extras).get(BLOCKS_TAG, b"")
    size = int.from_bytes(content[:4], "big")
    if size == 0 or len(content) != 4 + 4 * -(-len(file) // size):
        return None
    wanted, came = content[4:], _crcs(file, size)
    wrong = next((i for i in range(0, len(came), 4) if came[i : i + 4] != wanted[i : i + 4]), None)
    return len(file) if wrong is None else wrong // 4 * size


def _crcs(file: bytes, size: int) -> bytes:
    """CRC-32 of each block."""
    return b"".join(zlib.crc32(file[at : at + size]).to_bytes(4, "big") for at in range(0, len(file), size))


def _is_tag(tag: bytes) -> bool:
    return len(tag) == 4 and all(0x20 <= byte <= 0x7E for byte in tag)
