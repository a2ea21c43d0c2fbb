"""The file container: a header of 3 to 15 bytes around one range-coded payload (SPEC.md sections 1 to 3).

Which function? `pack` writes a file, `parse` reads one, `parse_extras` what follows its payload, `truncate` cuts one to
a size, and `payload_room` says how many payload bytes fit into a budget. None of them needs a model, and none allocates
more than the bytes that it was given, whatever the header claims.

    >>> data = pack(b"tokens", width=768, height=512, model_id=2)
    >>> len(data)
    18
    >>> header, payload, state = parse(data[:15])
    >>> header.width, header.height, payload, state
    (768, 512, b'tok', 'cut')
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..arguments import one_of, whole
from ..errors import BudgetError, DamagedError, HeaderError, InputError, VersionError
from .extras import chunk, good_bytes, read_chunks

__all__ = [
    "EXTERNAL",
    "EXTERNAL_ID_BYTES",
    "MAGIC",
    "MAX_SIDE",
    "MIN_BARE_BYTES",
    "MIN_BYTES",
    "VERSION",
    "Header",
    "add_extras",
    "crc16",
    "crc8",
    "header_bytes",
    "pack",
    "parse",
    "parse_extras",
    "payload_room",
    "sure_bytes",
    "truncate",
]

Profile = Literal["file", "bare"]
State = Literal["whole", "cut", "damaged"]

MAGIC = b"\xf5\xf0"  # and a bit that is 1
VERSION = 1
MAX_SIDE = 65_535  # px
MIN_BYTES = 32  # smallest budget of an encoder, file profile
MIN_BARE_BYTES = 16  # the same, bare profile
EXTERNAL = 127  # model id of files whose payload begins with an external id, which says what the model is
EXTERNAL_ID_BYTES = 4

SMALL_HEADER_BYTES = 12
LARGE_HEADER_BYTES = 15
_SMALL_MAX_SIDE = 1 << 14
_SMALL_MAX_PAYLOAD = (1 << 16) - 1
_LARGE_MAX_PAYLOAD = (1 << 36) - 1
_SMALL_BITS, _LARGE_BITS = (14, 16), (16, 36)  # of a side, and of the length of the payload
_MAGIC_BIT, _LARGE_BIT = 0x80, 0x10  # in the third byte, around the version
_CRC_BYTES = 2
_TAIL_BYTES = 1 + _CRC_BYTES  # of the header: its own check, and the CRC
_VARINT_MAX_BYTES = 3
_MAX_MODEL = {"file": 255, "bare": 127}
_FOREIGN = {  # first bytes of files that people take for ours; only to word the error
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL": "JPEG XL",
}


@dataclass(frozen=True)
class Header:
    """What a header says; names as in SPEC.md.

    `payload_bytes` is the declared length, not the length that came. It and `crc` are None in the bare profile,
    which holds neither. `version` is 1 for bare data too, as the model id implies it.
    """

    version: int
    model_id: int
    width: int  # px
    height: int  # px
    payload_bytes: int | None
    profile: Profile
    header_bytes: int
    crc: int | None

    @property
    def file_bytes(self) -> int | None:
        """Bytes of the whole file as declared, without extras; None in the bare profile."""
        return None if self.payload_bytes is None else self.header_bytes + self.payload_bytes


def crc16(data: bytes) -> int:
    """CRC-16/CCITT-FALSE of `data`: poly 0x1021, init 0xFFFF, no reflection, no final XOR (SPEC.md section 1)."""
    return binascii.crc_hqx(data, 0xFFFF)


def crc8(data: bytes) -> int:
    """CRC-8 of `data`: poly 0x07, init 0, no reflection, no final XOR (SPEC.md section 1)."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 ^ (0x107 if crc & 0x80 else 0)
    return crc


def header_bytes(width: int, height: int, payload_bytes: int, profile: Profile = "file") -> int:
    """Bytes of the header that `pack` writes: 12 or 15 for a file, 3 to 7 bare (there any payload length)."""
    if profile == "bare":
        return 1 + len(_varint(width - 1)) + len(_varint(height - 1))
    return SMALL_HEADER_BYTES if _fits_small(width, height, payload_bytes) else LARGE_HEADER_BYTES


def payload_room(n: int, width: int, height: int, profile: Profile = "file") -> int:
    """Largest payload, in bytes, of a file of at most `n` bytes; negative if not even the header fits."""
    if profile == "bare":
        return n - header_bytes(width, height, 0, profile)
    room = n - SMALL_HEADER_BYTES
    while room >= 0 and room + header_bytes(width, height, room) > n:
        room -= 1  # at most three steps: the large form is three bytes longer
    return min(room, _LARGE_MAX_PAYLOAD)


def pack(
    payload: bytes,
    *,
    width: int,
    height: int,
    model_id: int,
    profile: Profile = "file",
    extras: Mapping[str, bytes] | None = None,
) -> bytes:
    """Put a header before `payload`, the small form whenever the fields fit, and chunks of extras behind it.

    Args:
        extras: content of each chunk under its tag of 4 printable ASCII characters, such as "EXIF"; the file profile
            alone has room for them. Neither the length nor the CRC in the header counts them.

    Raises InputError if the size (1 to 65,535 px a side), the model id (1 to 255, bare 1 to 127), the profile,
    the payload length (below 64 GiB) or the extras cannot be written. SPEC.md sections 1 and 2.
    """
    if extras is not None and not (isinstance(extras, Mapping) and not extras):
        return add_extras(pack(payload, width=width, height=height, model_id=model_id, profile=profile), extras)
    payload = _as_bytes(payload)
    _check_fields(width, height, model_id, len(payload), profile)
    width, height, model_id = int(width), int(height), int(model_id)
    if profile == "bare":
        return bytes([model_id]) + _varint(width - 1) + _varint(height - 1) + payload
    small = _fits_small(width, height, len(payload))
    side_bits, length_bits = _SMALL_BITS if small else _LARGE_BITS
    fields = 0b1010 if small else 0b1011  # the magic's last bit, version 1, the form
    for value, bits in ((width - 1, side_bits), (height - 1, side_bits), (len(payload), length_bits), (model_id, 8)):
        fields = fields << bits | value
    head = MAGIC + fields.to_bytes((SMALL_HEADER_BYTES if small else LARGE_HEADER_BYTES) - 2 - _TAIL_BYTES, "big")
    head += bytes([crc8(head)])
    return head + crc16(head + payload).to_bytes(_CRC_BYTES, "big") + payload


def parse(data: bytes) -> tuple[Header, bytes, State]:
    """Split `data` into its header, the payload bytes that came, and the state of the whole.

    State: "cut" if fewer payload bytes came than declared, "damaged" if all came and the CRC is wrong, or one of those
    of the blocks where extras have these, else "whole"; bare data is always "whole". Extras are left out.

    Raises HeaderError or VersionError for the first rule of SPEC.md section 3 that is broken, InputError if
    `data` is not bytes-like.
    """
    data = _as_bytes(data)
    if not data:
        raise HeaderError("truncated header: 0 bytes came, at least 3 wanted")
    if data[0] != MAGIC[0]:
        return _parse_bare(data)
    header = _parse_file_header(data)
    assert header.payload_bytes is not None
    end = header.header_bytes + header.payload_bytes
    payload = data[header.header_bytes : end]
    if len(payload) < header.payload_bytes:
        return header, payload, "cut"
    crc = crc16(data[: header.header_bytes - _CRC_BYTES] + payload)
    sound = crc == header.crc and good_bytes(data[:end], data[end:]) in (None, end)
    return header, payload, "whole" if sound else "damaged"


def sure_bytes(data: bytes) -> int | None:
    """Of a damaged file, how many bytes from its first on are right by the CRCs of its blocks; None if it has none.

    Raises what `parse` raises. SPEC.md section 1, `CRCB`.
    """
    data = _as_bytes(data)
    end = parse(data)[0].file_bytes
    return None if end is None else good_bytes(data[:end], data[end:])


def add_extras(data: bytes, extras: Mapping[str, bytes]) -> bytes:
    """A file with chunks of extras behind it; arguments as in `pack`.

    Raises InputError for a tag or a length that no chunk can have, and for data that has no place for extras: of the
    bare profile, or cut.
    """
    if not isinstance(extras, Mapping):
        raise InputError(f"extras of type {type(extras).__name__} came, bytes under their tags wanted")
    header, _, state = parse(data)
    if header.profile == "bare":
        raise InputError("extras came for the bare profile, which has no place for them; the file profile wanted")
    if state == "cut":
        raise InputError("extras came for a cut file, whose payload they would be taken for; a whole one wanted")
    return data + b"".join(chunk(tag, content) for tag, content in extras.items())


def parse_extras(data: bytes) -> dict[str, bytes]:
    """The chunks that follow the payload of `data`: content under its tag. Of equal tags the first counts.

    Reads as far as there are whole chunks: foreign bytes, or the half of a chunk, end the list and are no error. A cut
    file and bare data have none. Raises what `parse` raises. SPEC.md section 1.
    """
    data = _as_bytes(data)
    header, _, _ = parse(data)
    return {} if header.file_bytes is None else read_chunks(data[header.file_bytes :])


def truncate(data: bytes, n: int) -> bytes:
    """Cut `data` to at most `n` bytes, with a header that is right for what is left. Needs no model.

    A whole file of at most `n` bytes comes back as it is. Otherwise extras go first, then the tail of the
    payload. A cut file comes back whole: its header tells the length that it really has. Bare data is just cut.

    Raises BudgetError if `n` leaves no payload byte, DamagedError if the CRC of `data` is wrong (unless the CRCs of its
    blocks say that the first `n` bytes are right), and all that `parse` raises. SPEC.md section 3.
    """
    n = whole("bytes", n, 0)
    data = _as_bytes(data)
    header, payload, state = parse(data)
    if state == "damaged" and n > (sure := sure_bytes(data) or 0):
        hint = f" to more than {sure:,} bytes" if sure else ""
        raise DamagedError(f"damaged file: the CRC does not match, so it cannot be cut{hint}")
    minimum = header_bytes(header.width, header.height, 1, header.profile) + 1
    minimum += EXTERNAL_ID_BYTES if header.model_id == EXTERNAL else 0
    if n < minimum:
        raise BudgetError(f"budget too small: {n} bytes came, at least {minimum} wanted for this picture")
    if header.profile == "bare":
        return data[:n]
    if state == "whole" and len(data) <= n:
        return data
    room = payload_room(n, header.width, header.height)
    return pack(payload[:room], width=header.width, height=header.height, model_id=header.model_id)


def _parse_file_header(data: bytes) -> Header:
    """Header of the file profile, either form; checks in the order of SPEC.md section 3."""
    if data[1:2] not in (b"", MAGIC[1:]) or (len(data) > 2 and not data[2] & _MAGIC_BIT):
        raise _wrong_magic(data)
    if len(data) < 3:
        raise HeaderError(f"truncated header: {_count(data)} came, at least {SMALL_HEADER_BYTES} wanted")
    version = data[2] >> 5 & 3
    if version != VERSION:
        raise VersionError(f"unknown format version: {version} came, {VERSION} wanted; a newer prow may read it")
    large = bool(data[2] & _LARGE_BIT)
    size = LARGE_HEADER_BYTES if large else SMALL_HEADER_BYTES
    if len(data) < size:
        raise HeaderError(f"truncated header: {_count(data)} came, {size} wanted")
    head, check = data[: size - _TAIL_BYTES], data[size - _TAIL_BYTES]
    if crc8(head) != check:
        raise HeaderError(f"damaged header: header check {check:02x} came, {crc8(head):02x} wanted for these bytes")
    fields, model_id = int.from_bytes(head[2:-1], "big"), head[-1]
    if model_id == 0:
        raise HeaderError("invalid model id: 0 came, 1 to 255 wanted")
    side_bits, length_bits = _LARGE_BITS if large else _SMALL_BITS
    side_mask = (1 << side_bits) - 1
    return Header(
        version=version,
        model_id=model_id,
        width=_check_side("width", (fields >> (side_bits + length_bits) & side_mask) + 1),
        height=_check_side("height", (fields >> length_bits & side_mask) + 1),
        payload_bytes=fields & ((1 << length_bits) - 1),
        profile="file",
        header_bytes=size,
        crc=int.from_bytes(data[size - _CRC_BYTES : size], "big"),
    )


def _parse_bare(data: bytes) -> tuple[Header, bytes, State]:
    """Header and payload of the bare profile (SPEC.md section 2)."""
    if not 1 <= data[0] <= _MAX_MODEL["bare"]:
        raise _wrong_magic(data)
    width, at = _read_varint(data, 1, "width")
    height, at = _read_varint(data, at, "height")
    header = Header(
        version=VERSION,
        model_id=data[0],
        width=width,
        height=height,
        payload_bytes=None,
        profile="bare",
        header_bytes=at,
        crc=None,
    )
    return header, data[at:], "whole"


def _read_varint(data: bytes, at: int, name: str) -> tuple[int, int]:
    """The side in px coded at offset `at`, and the offset behind it."""
    value = 0
    for index in range(_VARINT_MAX_BYTES):
        if at + index >= len(data):
            raise HeaderError(f"truncated header: {_count(data)} came, the {name} goes on")
        byte = data[at + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            if index > 0 and data[at] == 0x80:
                raise HeaderError(f"non-canonical {name}: {index + 1} bytes came, fewer wanted")
            return _check_side(name, value + 1), at + index + 1
    raise HeaderError(f"overlong {name}: over {_VARINT_MAX_BYTES} bytes came, at most {_VARINT_MAX_BYTES} wanted")


def _varint(value: int) -> bytes:
    """`value` in groups of 7 bits, the most significant first, high bit = another follows (SPEC.md section 2)."""
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(value & 0x7F | 0x80)
    return bytes(reversed(out))


def _fits_small(width: int, height: int, payload_bytes: int) -> bool:
    return max(width, height) <= _SMALL_MAX_SIDE and payload_bytes <= _SMALL_MAX_PAYLOAD


def _check_side(name: str, side: int) -> int:
    if side > MAX_SIDE:
        raise HeaderError(f"{name} too large: {side:,} px came, at most {MAX_SIDE:,} wanted")
    return side


def _check_fields(width: int, height: int, model_id: int, payload_bytes: int, profile: str) -> None:
    """Raise InputError for a field that no header can hold."""
    one_of("profile", profile, tuple(_MAX_MODEL))
    whole("width", width, 1, MAX_SIDE, " px")
    whole("height", height, 1, MAX_SIDE, " px")
    whole("model id", model_id, 1, _MAX_MODEL[profile], f" ({profile})")
    if profile == "file" and payload_bytes > _LARGE_MAX_PAYLOAD:
        raise InputError(f"payload too large: {payload_bytes:,} bytes came, at most {_LARGE_MAX_PAYLOAD:,} wanted")


def _as_bytes(data: object) -> bytes:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InputError(f"a prow file is bytes, not {type(data).__name__}")
    return bytes(data)


def _wrong_magic(data: bytes) -> HeaderError:
    """The error for bytes that start like no prow file; names the format where it is a well-known one."""
    kind = next((f" (a {name} file)" for start, name in _FOREIGN.items() if data.startswith(start)), "")
    wanted = "f5 f0 and 80 to ff, or a bare model id 01 to 7f"
    return HeaderError(f"wrong magic: {data[:3].hex(' ')} came{kind}, {wanted} wanted")


def _count(data: bytes) -> str:
    return "1 byte" if len(data) == 1 else f"{len(data)} bytes"
