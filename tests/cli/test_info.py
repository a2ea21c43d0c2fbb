"""`prow info`: text and JSON."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import SIZE, assert_fails, invoke, run


def test_text(whole: bytes) -> None:
    result = run("info photo.prow")
    assert result.stderr == ""
    for word in ("version 1", "file profile", "prow-small (id 2)", "64 x 48 px", f"{len(whole):,} bytes, whole"):
        assert word in result.stdout


def test_json(whole: bytes) -> None:
    Path("cut.prow").write_bytes(whole[:100])
    facts = json.loads(run("info cut.prow --tokens --json").stdout)
    assert (facts["state"], facts["declared_bytes"], facts["present_bytes"]) == ("cut", len(whole), 100)
    assert (facts["width"], facts["height"]) == SIZE
    assert all({"kind", "width", "height", "tiles", "step", "tokens"} == set(one) for one in facts["tokens_per_pass"])


def test_verify() -> None:
    assert run("encode photo.png sure.prow --bytes 3000 --check crc32").stderr == ""
    data = Path("sure.prow").read_bytes()
    assert "check     crc32, " in run("info sure.prow --verify").stdout
    assert "check     crc16, " in run("info photo.prow --verify").stdout
    Path("broken.prow").write_bytes(data[:1500] + bytes([data[1500] ^ 1]) + data[1501:])
    Path("cut.prow").write_bytes(data[:1500])
    assert run("encode photo.png bare.prow --bytes 100 --profile bare").stderr == ""
    for name, words in (
        ("broken.prow", "the file is damaged behind its first 1,024 bytes: a checksum is wrong"),
        ("cut.prow", "the file is cut: 1,500 of "),
        ("bare.prow", "bare data holds no checksum"),
    ):
        assert run(f"info {name}").stderr == ""
        for line in (f"info {name} --verify", f"info {name} --verify --json"):
            result = invoke(line)
            assert result.exit_code == 1 and f"prow: {name}: {words}" in result.stderr and result.stdout


def test_text_is_no_bare_picture_unless_you_say_so() -> None:
    Path("notes.txt").write_text("Hello, prow!")
    assert_fails("info notes.txt", 1, "notes.txt: byte 0 is 48", "--bare")
    assert "bare profile" in run("info notes.txt --bare").stdout


def test_extras_are_counted(whole: bytes) -> None:
    assert "5 bytes after the stream" in run("info -", stdin=whole + b"extra").stdout
    chunk = whole + b"XMP \0\0\0\3abc"
    assert "11 bytes after the stream, not needed for the picture, XMP 3\n" in run("info -", stdin=chunk).stdout
    assert json.loads(run("info - --json", stdin=chunk).stdout)["extras"] == {"XMP ": 3}
