"""Packets: what is lost, comes twice, out of order, damaged or from others, and what a file is then."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prow import links
from prow.errors import DamagedError, FormatError, InputError
from prow.format import container


def file_of(size: int, seed: int = 0, profile: container.Profile = "file") -> bytes:
    """A prow file of so many bytes, with some payload."""
    payload = random.Random(seed).randbytes(size - container.header_bytes(64, 48, size, profile))
    return container.pack(payload, width=64, height=48, model_id=2, profile=profile)


def prefix(data: bytes, size: int) -> bytes:
    """What is left of a file after a cut there."""
    return container.truncate(data[:size], size)


def first_gap(kept: set[int], count: int) -> int:
    return next((i for i in range(count) if i not in kept), count)


@pytest.mark.parametrize("profile", ["file", "bare"])
def test_every_subset_of_a_small_file(profile: container.Profile) -> None:
    data = file_of(200, profile=profile)
    packets = links.split(data, 40)
    assert len(packets) == 7 and all(len(packet) <= 40 for packet in packets)
    for kept in itertools.chain.from_iterable(itertools.combinations(range(7), n) for n in range(8)):
        leading = first_gap(set(kept), 7)
        wanted = [prefix(data, min(200, 32 * leading))] if leading else []
        assert links.join([packets[i] for i in kept]) == wanted
        for one in wanted:
            assert container.parse(one)[2] == "whole"


@pytest.mark.parametrize("profile", ["file", "bare"])
@pytest.mark.parametrize("parity", [2, 3, 15])
def test_every_subset_with_parity(parity: int, profile: container.Profile) -> None:
    data = file_of(200 - 19, profile=profile)
    packets = links.split(data, 40, parity)
    count = 6
    groups = [range(i, min(count, i + parity)) for i in range(0, count, parity)]
    assert len(packets) == count + len(groups)
    order = [n for i, group in enumerate(groups) for n in (*group, count + i)]
    for size in range(len(packets) + 1):
        for kept in itertools.combinations(range(len(packets)), size):
            numbers = {order[i] for i in kept}
            for i, group in enumerate(groups):
                if count + i in numbers and sum(n not in numbers for n in group) == 1:
                    numbers |= set(group)
            leading = first_gap(numbers, count)
            wanted = [prefix(data, min(len(data), 31 * leading))] if leading else []
            assert links.join([packets[i] for i in kept]) == wanted


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_shuffled_doubled_mixed_and_damaged(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(20, 900), min_size=1, max_size=3))
    files = [file_of(size, seed) for seed, size in enumerate(sizes)]
    packet, parity = data.draw(st.integers(25, 120)), data.draw(st.sampled_from([0, 2, 5]))
    sent = [one for file in files for one in links.split(file, packet, parity)]
    sent += data.draw(st.lists(st.sampled_from(sent), max_size=5))
    at = data.draw(st.integers(0, len(sent) - 1))
    bit = data.draw(st.integers(0, 8 * len(sent[at]) - 1))
    damaged = (int.from_bytes(sent[at], "big") ^ 1 << bit).to_bytes(len(sent[at]), "big")
    noise = [damaged, *data.draw(st.lists(st.binary(max_size=60), max_size=3))]
    joined = links.join(data.draw(st.permutations(sent + noise)))
    assert sorted(joined) == sorted(files)


@settings(max_examples=60, deadline=None)
@given(size=st.integers(20, 600), packet=st.integers(25, 200), lost=st.sets(st.integers(0, 40)))
def test_what_is_left_is_a_prefix(size: int, packet: int, lost: set[int]) -> None:
    file = file_of(size)
    came = [one for i, one in enumerate(links.split(file, packet)) if i not in lost]
    for one in links.join(came):
        assert one == prefix(file, len(one))
        assert container.parse(one)[2] == "whole"


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=100)))
def test_any_bytes_are_no_error(packets: list[bytes]) -> None:
    assert links.join(packets) == []


def test_each_sender_is_told_of() -> None:
    one, two = file_of(200, 1), file_of(100, 2)
    came = links.split(two, 40)[1:] + links.split(one, 40)[:3]
    first, second = links.arrivals(came)
    assert (first.sender, first.count, first.present, first.leading, first.data) == (
        container.crc16(two),
        4,
        3,
        0,
        None,
    )
    assert (second.count, second.present, second.leading, second.data) == (7, 3, 3, prefix(one, 96))


def test_senders_of_one_number_never_make_a_wrong_file() -> None:
    data = file_of(100)
    packets = links.split(data, 40)
    forged = links._Packet(0, container.crc16(data), 2, len(packets), bytes(32)).pack()
    assert links.join([*packets[:2], forged, packets[3]]) == []


def test_a_cut_file_and_one_with_more_behind_it() -> None:
    data = file_of(200)
    assert links.join(links.split(data[:150], 40)) == [prefix(data, 150)]
    assert links.join(links.split(data + b"more", 40)) == [data]


def test_a_large_header_fits_into_the_smallest_first_packet() -> None:
    data = container.pack(bytes(range(200)), width=20_000, height=3, model_id=2)
    (one,) = links.join(links.split(data, links.MIN_PACKET)[:1])
    assert container.parse(one)[0].width == 20_000


@pytest.mark.parametrize(
    ("packet", "parity", "word"),
    [(23, 0, "23"), (65_536, 0, "65536"), ("9", 0, "'9'"), (40, 1, "1"), (40, 16, "16"), (40, True, "True")],
)
def test_impossible_numbers(packet: int, parity: int, word: str) -> None:
    with pytest.raises(InputError, match=f"{word} came, wanted"):
        links.split(file_of(200), packet, parity)


def test_what_cannot_be_split() -> None:
    data = file_of(200)
    with pytest.raises(DamagedError):
        links.split(data[:-1] + bytes([data[-1] ^ 1]), 40)
    with pytest.raises(FormatError):
        links.split(b"\x89PNG", 40)
    with pytest.raises(InputError, match=r"4,096 packets"):
        links.split(file_of(17 * 4096), 25)
    assert len(links.split(file_of(17 * 4095), 25)) == 4095
