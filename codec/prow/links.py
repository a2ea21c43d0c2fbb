"""A prow file in numbered packets for a link that loses some, and back (docs/links.md has the format).

Which function? `split` makes packets, `join` makes files of what arrived, `arrivals` says more about each sender.
None of them needs a model, numpy or torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable
from numbers import Integral

from .arguments import several, told
from .errors import BudgetError, DamagedError, FormatError, InputError
from .format import container

__all__ = ["HEADER_BYTES", "MAX_PARITY", "MIN_PACKET", "Arrival", "arrivals", "join", "split"]

HEADER_BYTES = 8
MIN_PACKET = 25  # bytes: the first packet then holds the whole header of the file, and a byte of what follows
MAX_PACKET = 65_535  # bytes
MAX_PARITY = 15
_MAX_NUMBERS = 1 << 12  # packets of a file, those with parity too
_KIND = 0xB  # upper half of the first byte: packets of version 1
_END = b"\x80"  # stands behind a chunk in a parity packet, before the zeros


@dataclasses.dataclass(frozen=True)
class Arrival:
    """What came of one sender.

    `sender` is the CRC-16 of its file, `count` how many packets hold that file, `present` how many of these came or
    were restored, `leading` how many before the first gap. `data` is the prow file that those make: whole, or shorter
    with a right header; None if the first packet is missing.
    """

    sender: int
    count: int
    present: int
    leading: int
    data: bytes | None


@dataclasses.dataclass(frozen=True)
class _Packet:
    parity: int
    sender: int
    number: int
    count: int
    body: bytes

    @property
    def key(self) -> tuple[int, int, int]:
        """What all packets of a sender have in common."""
        return self.sender, self.count, self.parity

    def pack(self) -> bytes:
        head = bytes([_KIND << 4 | self.parity]) + self.sender.to_bytes(2, "big")
        head += (self.number << 12 | self.count).to_bytes(3, "big")
        return head + container.crc16(head + self.body).to_bytes(2, "big") + self.body


def split(data: bytes, packet: int, parity: int = 0) -> list[bytes]:
    """A prow file as packets of at most `packet` bytes each, in the order in which they should be sent.

    Args:
        data: a file or a prefix of one, either profile.
        packet: bytes, 25 to 65,535, the 8 of the header included.
        parity: 0, or one more packet behind each `parity` packets, 2 to 15: one lost packet of these costs nothing.

    Raises:
        InputError: an impossible `packet` or `parity`, or more than 4,096 packets.
        FormatError: not a prow file, or a damaged one.
    """
    _check("packet", packet, range(MIN_PACKET, MAX_PACKET + 1), f"{MIN_PACKET} to {MAX_PACKET:,} bytes")
    _check("parity", parity, (0, *range(2, MAX_PARITY + 1)), f"0, or 2 to {MAX_PARITY}")
    packet, parity = int(packet), int(parity)
    header, payload, state = container.parse(data)
    if state == "damaged":
        raise DamagedError("damaged file: the CRC does not match, so it cannot be split")
    data = bytes(data)
    if payload:  # without what stands behind a file, and with a right header if it was cut
        data = container.truncate(data, header.header_bytes + len(payload))
    room = packet - HEADER_BYTES - (1 if parity else 0)
    chunks = [data[i : i + room] for i in range(0, len(data), room)]
    groups = [range(i, min(i + parity, len(chunks))) for i in range(0, len(chunks), parity)] if parity else []
    if len(chunks) + len(groups) > _MAX_NUMBERS or len(chunks) == _MAX_NUMBERS:
        raise InputError(
            f"{len(data):,} bytes came, too many for {_MAX_NUMBERS:,} packets of {packet:,} bytes: larger ones wanted"
        )
    sender = container.crc16(data)
    packets = []
    for number, chunk in enumerate(chunks):
        packets.append(_Packet(parity, sender, number, len(chunks), chunk).pack())
        if parity and number == groups[number // parity][-1]:
            group = number // parity
            body = _xor([chunks[i] + _END for i in groups[group]])
            packets.append(_Packet(parity, sender, len(chunks) + group, len(chunks), body).pack())
    return packets


def join(packets: Iterable[bytes]) -> list[bytes]:
    """The prow files in packets, in any order, with duplicates and from several senders: one file for each sender.

    Of each, what came up to the first gap. Damaged packets and other bytes count as lost. A sender whose first packet
    is missing has no file here. Files are in the order in which their senders were first heard.
    """
    return [arrival.data for arrival in arrivals(packets) if arrival.data is not None]


def arrivals(packets: Iterable[bytes]) -> list[Arrival]:
    """As `join`, with what came of each sender."""
    senders: dict[tuple[int, int, int], dict[int, bytes]] = {}
    for data in several("packets", packets, "packets to go through, bytes each"):
        if not isinstance(data, bytes | bytearray | memoryview):
            raise InputError(f"a packet is bytes, not {type(data).__name__}")
        packet = _parse(bytes(data))
        if packet is not None:
            senders.setdefault(packet.key, {}).setdefault(packet.number, packet.body)
    return [_arrival(*key, bodies) for key, bodies in senders.items()]


def _check(name: str, value: object, allowed: Container[int], wanted: str) -> None:
    """Raise InputError for a number that is not allowed."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) not in allowed:
        raise InputError(f"{name} {told(value)} came, wanted {wanted}")


def _parse(data: bytes) -> _Packet | None:
    """A packet; None for bytes that are none, or that were damaged."""
    if len(data) <= HEADER_BYTES or data[0] >> 4 != _KIND:
        return None
    head, body = bytes(data[:6]), bytes(data[HEADER_BYTES:])
    if container.crc16(head + body) != int.from_bytes(data[6:HEADER_BYTES], "big"):
        return None
    parity, fields = head[0] & 0xF, int.from_bytes(head[3:6], "big")
    number, count = fields >> 12, fields & 0xFFF
    numbers = count + (-(-count // parity) if parity else 0)
    if parity == 1 or number >= numbers:
        return None
    return _Packet(parity, int.from_bytes(head[1:3], "big"), number, count, body)


def _arrival(sender: int, count: int, parity: int, bodies: dict[int, bytes]) -> Arrival:
    for group in range(-(-count // parity) if parity else 0):
        _restore(bodies, range(group * parity, min(count, (group + 1) * parity)), count + group)
    leading = next((i for i in range(count) if i not in bodies), count)
    present = sum(number < count for number in bodies)
    data = b"".join(bodies[i] for i in range(leading))
    file = _file(data)
    if leading == count and container.crc16(data) != sender:
        file = None  # two senders of one number, mixed
    return Arrival(sender, count, present, leading, file)


def _restore(bodies: dict[int, bytes], group: range, number: int) -> None:
    """Put back the one packet of a group that is missing, if its parity packet came."""
    missing = [i for i in group if i not in bodies]
    if len(missing) == 1 and number in bodies:
        chunk, end, _ = _xor([bodies[i] + _END for i in group if i in bodies] + [bodies[number]]).rpartition(_END)
        if end:
            bodies[missing[0]] = chunk


def _file(data: bytes) -> bytes | None:
    """The prow file that a prefix of one makes; None if it is too short for that, or none."""
    try:
        header, payload, _ = container.parse(data)
        return container.truncate(data, len(data)) if payload or not header.payload_bytes else None
    except BudgetError:
        return data  # a header without a payload
    except FormatError:
        return None


def _xor(parts: list[bytes]) -> bytes:
    """Bytes of the longest part; shorter ones end in zeros."""
    number = 0
    length = max(map(len, parts))
    for part in parts:
        number ^= int.from_bytes(part.ljust(length, b"\0"), "big")
    return number.to_bytes(length, "big")
