"""`prow truncate`: a smaller file that is whole."""

from __future__ import annotations

from pathlib import Path

import prow

from .conftest import INPUTS, assert_fails, names, run


def test_gives_what_the_library_gives(whole: bytes) -> None:
    assert run("truncate photo.prow small.prow --bytes 0.1KiB").output == ""
    small = Path("small.prow").read_bytes()
    assert small == prow.truncate(whole, 102)
    assert prow.inspect(small).state == "whole"
    assert run("decode small.prow out.png").output == ""


def test_wants_a_possible_size() -> None:
    assert_fails("truncate photo.prow a.prow", 2, "--bytes")
    assert_fails("truncate photo.prow a.prow --bytes 5", 1, "5", "13")
    assert names() == INPUTS


def test_says_when_more_was_asked_for_than_there_is(whole: bytes) -> None:
    remark = f"prow: photo.prow has only {len(whole)} of the 5,000 bytes asked for\n"
    assert run("truncate photo.prow a.prow --bytes 5k").output == remark
    assert Path("a.prow").read_bytes() == whole
    assert run("truncate photo.prow b.prow --bytes 5k -q").output == ""
    assert run(f"truncate photo.prow c.prow --bytes {len(whole)}").output == ""
