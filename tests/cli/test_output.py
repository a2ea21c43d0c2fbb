"""Where results go: no half-written file is left, no old one lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prow_cli import place

from .conftest import INPUTS, assert_fails, invoke, names, process, run


@pytest.mark.parametrize(
    "line",
    ["encode photo.png old.png --bytes 300", "decode photo.prow old.png", "truncate photo.prow old.png --bytes 100"],
)
def test_an_existing_file_is_kept_unless_forced(line: str) -> None:
    old = Path("old.png")
    old.write_bytes(b"old")
    assert_fails(line, 1, "old.png exists already", "--force")
    assert old.read_bytes() == b"old"
    run(f"{line} --force")
    assert len(old.read_bytes()) > 3
    assert names() == {*INPUTS, "old.png"}


def test_a_failure_on_the_way_leaves_the_old_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    Path("old.prow").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", no_space)
    assert_fails("truncate photo.prow old.prow --bytes 100 --force", 1, "old.prow: No space left on device")
    assert Path("old.prow").read_bytes() == b"old"
    assert names() == {*INPUTS, "old.prow"}


def test_an_interrupt_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **options: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", interrupt)
    assert invoke("truncate photo.prow a.prow --bytes 100").exit_code == 130
    assert names() == INPUTS


def test_places_where_no_file_can_be() -> None:
    assert_fails("truncate photo.prow . --bytes 100 --force", 1, "is a folder")
    assert_fails("truncate photo.prow no/a.prow --bytes 100", 1, "does not exist")


def test_devices_are_written_to_and_links_stay() -> None:
    run(f"truncate photo.prow {os.devnull} --bytes 100 --force")
    assert not Path(os.devnull).is_file()
    Path("old.prow").write_bytes(b"old")
    Path("link.prow").symlink_to("old.prow")
    run("truncate photo.prow link.prow --bytes 100 --force")
    assert Path("link.prow").is_symlink()
    assert len(Path("old.prow").read_bytes()) > 3


def test_permissions_are_those_of_any_new_file_or_of_the_old_one() -> None:
    plain, new = Path("plain"), Path("new.prow")
    plain.write_bytes(b"")
    run("truncate photo.prow new.prow --bytes 100")
    assert new.stat().st_mode == plain.stat().st_mode
    new.chmod(0o640)
    run("truncate photo.prow new.prow --bytes 90 --force")
    assert new.stat().st_mode & 0o777 == 0o640


def test_a_file_has_no_name_until_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (seen.append(names()), fsync(number)))
    run("truncate photo.prow a.prow --bytes 100")
    run("truncate photo.prow a.prow --bytes 90 --force")
    assert seen == ([INPUTS, INPUTS | {"a.prow"}] if place._nameless(Path()) else seen)
    assert len(Path("a.prow").read_bytes()) <= 90


def test_file_systems_without_nameless_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_nameless", lambda folder: None)
    run("truncate photo.prow a.prow --bytes 100")
    Path("a.prow").chmod(0o640)
    run("truncate photo.prow a.prow --bytes 90 --force")
    assert len(Path("a.prow").read_bytes()) <= 90 and Path("a.prow").stat().st_mode & 0o777 == 0o640
    assert names() == INPUTS | {"a.prow"}


def test_what_a_kill_left_is_removed_later() -> None:
    old, new = Path(".prow-0123456789abcdef.tmp"), Path(".prow-fedcba9876543210.tmp")
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    place._sweep.cache_clear()
    run("truncate photo.prow photo.prow --bytes 100 --force")
    assert names() == INPUTS | {new.name}


def test_a_file_that_came_in_between_is_kept() -> None:
    Path("a.prow").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        place.put(Path("a.prow"), b"new", replace=False)
    assert Path("a.prow").read_bytes() == b"old"


def test_an_interrupt_waits_for_the_end_of_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    before = """
import os, signal
link = os.link
def link_and_interrupt(*places, **options):
    signal.raise_signal(signal.SIGINT)
    link(*places, **options)
os.link = link_and_interrupt
"""
    result = process("truncate photo.prow a.prow --bytes 100", before=before)
    assert (result.returncode, result.stderr) == (130, b"prow: interrupted\n")
    assert names() == INPUTS | {"a.prow"}
