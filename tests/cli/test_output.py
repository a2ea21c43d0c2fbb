"""Where results go: no half-written file is left, no old one lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .conftest import INPUTS, assert_fails, invoke, names, run


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
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
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
