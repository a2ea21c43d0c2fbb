"""The stronger check of archives, and what is said of files that are cut or damaged."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from conftest import Draw

import prow
from prow.format import container
from prow.format.extras import BLOCK, good_bytes


@pytest.fixture
def archived(installed: None, draw: Draw) -> bytes:
    return prow.encode(draw(96, 80), bytes=4000, check="crc32")


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_blocks_cover_header_and_payload_and_no_size_counts_them(archived: bytes) -> None:
    file, chunk = archived[:4000], archived[4000:]
    assert chunk[:4] == b"CRCB" and len(chunk) == 12 + 4 * 4 and container.parse(archived)[2] == "whole"
    assert int.from_bytes(chunk[-4:], "big") == zlib.crc32(file[3 * BLOCK :])
    info = prow.inspect(archived)
    assert (info.check, info.sure_bytes, info.declared_bytes) == ("crc32", 4000, 4000)
    plain = prow.inspect(file)
    assert (plain.check, plain.sure_bytes) == ("crc16", 4000) and prow.truncate(archived, 4000) == file


@pytest.mark.parametrize("place", [12, 1023, 1024, 3999])
def test_what_is_before_the_damage_is_kept(archived: bytes, place: int) -> None:
    broken, sure = flipped(archived, place), place // BLOCK * BLOCK
    info = prow.inspect(broken)
    assert (info.state, info.sure_bytes) == ("damaged", sure)
    with pytest.raises(
        prow.DamagedError,
        match=f"damaged behind its first {sure:,} bytes .strict=False or --allow-damaged decodes these",
    ):
        prow.decode(broken)
    image = prow.decode(broken, strict=False)
    assert image.info == {"state": "damaged", "bytes": max(12, sure)}
    assert np.array_equal(image, prow.decode(archived[: max(12, sure)]))
    if sure:
        assert prow.truncate(broken, sure) == prow.truncate(archived, sure)
    with pytest.raises(prow.DamagedError, match="cannot be cut"):
        prow.truncate(broken, sure + 13)


def test_what_a_crc16_does_not_see_is_seen(archived: bytes) -> None:
    """The polynomial itself, added to the payload: the CRC-16 of the file stays as it is."""
    pattern = 0x11021 << 3
    forged = int.from_bytes(archived[2000:2004], "big") ^ pattern
    broken = archived[:2000] + forged.to_bytes(4, "big") + archived[2004:]
    assert container.parse(broken[:4000])[2] == "whole" and container.parse(broken)[2] == "damaged"
    assert prow.inspect(broken).sure_bytes == BLOCK


def test_a_chunk_that_does_not_fit_is_ignored(archived: bytes) -> None:
    file, chunk = archived[:4000], archived[4000:]
    for bad in (chunk[:8] + bytes(4) + chunk[12:], chunk[:8] + b"\xff" * 4 + chunk[12:], b"CRCB\0\0\0\0", chunk[:-1]):
        assert good_bytes(file, bad) is None and container.parse(file + bad)[2] == "whole"


def test_all_damage_is_found(archived: bytes) -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        broken = bytearray(archived)
        start = int(rng.integers(12, 3990))
        broken[start : start + 8] = rng.bytes(8)
        assert container.parse(bytes(broken))[2] == "damaged" or bytes(broken) == archived


@pytest.mark.parametrize("check", ["md5", None, 32])
def test_other_checks_are_refused(installed: None, draw: Draw, check: object) -> None:
    with pytest.raises(prow.InputError, match="check .* came, wanted one of 'crc16', 'crc32'"):
        prow.encode(draw(20, 20), bytes=100, check=check)  # type: ignore[arg-type]
    with pytest.raises(prow.InputError, match="check 'crc32' came with the bare profile"):
        prow.encode(draw(20, 20), bytes=100, check="crc32", profile="bare")


def test_a_picture_says_that_its_file_was_cut(archived: bytes) -> None:
    whole, cut = archived[:4000], archived[:700]
    with warnings.catch_warnings(record=True) as caught:
        image = prow.decode(cut)
    assert not caught and image.info == {"state": "cut", "bytes": 700}
    assert [one.info for one in prow.decode_many([whole, cut])] == [{"state": "whole", "bytes": 4000}, image.info]
    with warnings.catch_warnings():
        warnings.simplefilter("error", prow.CutWarning)
        prow.decode(whole)
        for work in (lambda: prow.decode(cut), lambda: prow.decode_many([whole, cut])):
            with pytest.raises(prow.CutWarning, match="700 of 4,000 bytes came"):
                work()
        prow.encode(np.zeros((20, 20, 3), np.uint8), psnr=20)  # which decodes prefixes inside


@pytest.mark.parametrize(("options", "seen"), [([], 0), (["-W", "default"], 1), (["-W", "error"], 1)])
def test_cut_warnings_are_ignored_unless_asked_for(options: list[str], seen: int) -> None:
    code = "from prow.errors import warn_of_cut; warn_of_cut(5, 9, 1)"
    result = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.count("CutWarning: the file is cut: 5 of 9 bytes came") == seen and (
        result.returncode == 1
    ) == ("error" in options)


def test_text_is_not_called_bare_data(installed: None) -> None:
    with pytest.raises(prow.HeaderError, match="byte 0 is 48: f5 wanted for a file, or the id of an installed model"):
        prow.inspect(b"Hello, prow!")
    info = prow.inspect(b"Hello, prow!", bare=True)
    assert (info.profile, info.model, info.model_id) == ("bare", None, 0x48) and json.dumps(info.extras) == "{}"
