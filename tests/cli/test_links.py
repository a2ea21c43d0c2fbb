"""`prow split` and `prow join`, and `prow encode --fit`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

import prow
from prow_cli.sizes import FITS

from .conftest import INPUTS, assert_fails, invoke, names, run


def packets() -> list[Path]:
    return sorted(Path("packets").iterdir())


def test_there_and_back(whole: bytes) -> None:
    assert run("split photo.prow --packet 100 -o packets").output == ""
    assert [one.name for one in packets()] == [f"{i}.packet" for i in range(5)]
    assert all(one.stat().st_size <= 100 for one in packets())
    assert run("join packets -o came.prow").output == ""
    assert Path("came.prow").read_bytes() == whole


def test_a_gap_and_a_damaged_packet(whole: bytes) -> None:
    run("split photo.prow --packet 100 -o packets")
    damaged = packets()[3]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    stderr = run("join packets -o came.prow").stderr
    assert "1 of 5 dropped" in stderr and "4 of 5 packets came, 3 before the first gap; 276 bytes" in stderr
    assert Path("came.prow").read_bytes() == prow.truncate(whole[:276], 276)
    run("decode came.prow came.png")
    assert Image.open("came.png").size == (64, 48)


def test_parity_makes_one_loss_of_each_group_good(whole: bytes) -> None:
    run("split photo.prow --packet 64 --parity 3 -o packets")
    for lost in (1, 4):
        packets()[lost].unlink()
    run("join packets -o came.prow")
    assert Path("came.prow").read_bytes() == whole


def test_through_pipes_with_noise(whole: bytes) -> None:
    lines = run("split photo.prow --packet 100 -o -").stdout_bytes
    assert lines.count(b"\n") == 5
    result = run("join - -o -", stdin=b"hello\n" + lines + lines)
    assert result.stdout_bytes == whole
    assert result.stderr == "prow: 1 of 11 dropped: damaged, or no packets\n"


def test_several_senders(whole: bytes) -> None:
    Path("small.prow").write_bytes(prow.truncate(whole, 150))
    lines = (
        run("split photo.prow --packet 100 -o -").stdout_bytes + run("split small.prow --packet 90 -o -").stdout_bytes
    )
    assert_fails("join - -o -", 1, "2 senders", stdin=lines)
    run("join - -o came.prow", stdin=lines)
    came = [name for name in names() if name.startswith("came-")]
    assert {Path(name).read_bytes() for name in came} == {whole, Path("small.prow").read_bytes()}


def test_without_the_first_packet_there_is_no_picture() -> None:
    run("split photo.prow --packet 100 -o packets")
    os.unlink("packets/0.packet")
    with pytest.raises(AssertionError, match="first one is missing"):
        run("join packets -o came.prow")
    assert "came.prow" not in names()


def test_what_is_refused() -> None:
    assert_fails("split photo.prow --packet 20 -o packets", 1, "20", "25")
    assert_fails("split photo.png --packet 100 -o packets", 1, "photo.png", "PNG")
    assert_fails("split photo.prow --packet 100 -o photo.png", 1, "photo.png is a file")
    assert_fails("join photo.prow -o photo.prow", 1, "exists already")
    assert names() == INPUTS
    run("split photo.prow --packet 100 -o packets")
    assert_fails("split photo.prow --packet 200 -o packets", 1, "packets is not empty")


def test_an_interrupt_leaves_no_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    link, left = os.link, [True, True]

    def interrupted(*places: str, **options: int) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        link(*places, **options)

    monkeypatch.setattr(os, "link", interrupted)
    assert invoke("split photo.prow --packet 100 -o packets").exit_code == 130
    assert packets() == []


@pytest.mark.parametrize("fit", list(FITS))
def test_a_file_fits_into_one_message(fit: str) -> None:
    run(f"encode photo.png a.prow --fit {fit} --model anchor")
    size = Path("a.prow").stat().st_size
    assert 0.97 * FITS[fit] <= size <= FITS[fit]
    page = (Path(__file__).parents[2] / "docs" / "links.md").read_text(encoding="utf-8")
    assert f"| `{fit}` | {FITS[fit]:,} |" in page


def test_fit_is_a_size() -> None:
    assert_fails("encode photo.png a.prow --fit sms --bytes 100", 2, "exactly one of")
    assert_fails("encode photo.png a.prow --fit fax", 2, "fax")
