"""Datasets: batches in memory, sources of all kinds, broken pictures, shards that are there once, killed runs."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from cli.conftest import assert_fails, run
from conftest import draw_picture, psnr
from PIL import Image

import prow
import prow.dataset
from prow.dataset import rows

with_parquet = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")
with_daft = pytest.mark.skipif(importlib.util.find_spec("daft") is None, reason="daft is not installed")
BROKEN = b"\x89PNG\r\n\x1a\n and then nothing of use"
QUICK = {"bytes": 60, "effort": 1, "model": "anchor", "device": "cpu"}


def png(seed: int, width: int = 24, height: int = 20) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw_picture(width, height, seed)).save(buffer, "PNG")
    return buffer.getvalue()


def tables(folder: Path) -> list[dict[str, object]]:
    """All rows of all shards."""
    import pyarrow.parquet as pq

    return [row for path in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten of them in a folder and one below it, two of them broken."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    for i in range(10):
        place = folder / ("below" if i % 2 else "") / f"{i}.png"
        place.write_bytes(BROKEN if i in (3, 8) else png(i))
    return folder


# -- batches in memory --------------------------------------------------------------------------------------------


def test_a_batch_gives_what_encode_gives() -> None:
    sent = [png(1), png(2, 30, 16)]
    files = prow.dataset.encode_batch(sent, **QUICK)
    assert files == [prow.encode(Image.open(io.BytesIO(data)), **QUICK) for data in sent]
    assert prow.dataset.encode_batch([]) == []


def test_a_batch_says_which_picture_is_broken() -> None:
    with pytest.raises(prow.InputError, match="no picture") as caught:
        prow.dataset.encode_batch([png(1), BROKEN], **QUICK)
    assert caught.value.__notes__ == ["picture 1 of those that came"]


def test_rows_hold_pictures_or_errors() -> None:
    given = [png(1), BROKEN, None, prow.InputError("lost\non the way"), png(2)]
    one, *bad, two = prow.dataset.encode_rows(given, **QUICK, psnr=True)
    assert [one.data, two.data] == prow.dataset.encode_batch([given[0], given[4]], **QUICK)
    assert (one.width, one.height, one.error) == (24, 20, None)
    assert one.psnr == pytest.approx(psnr(draw_picture(24, 20, 1), prow.decode(one.data or b"")), abs=0.01)
    assert [row.data for row in bad] == [None] * 3
    assert "no picture" in str(bad[0].error) and "null" in str(bad[1].error) and bad[2].error == "lost on the way"


@pytest.mark.parametrize("bad", [{"bytes": 5}, {"effort": 0}, {"model": "nobody"}, {"device": "abacus"}])
def test_an_argument_that_is_wrong_is_no_error_of_a_picture(bad: dict) -> None:
    with pytest.raises(prow.ProwError):
        prow.dataset.encode_rows([BROKEN], **{**QUICK, **bad})


def test_few_pixels_are_in_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    together = []
    many = rows.api.encode_many
    monkeypatch.setattr(rows, "MOST_PIXELS", 2 * 24 * 20)
    monkeypatch.setattr(rows.api, "encode_many", lambda p, **o: (together.append(len(p)), many(p, **o))[1])
    prow.dataset.encode_rows([png(i) for i in range(5)], **QUICK)
    assert together == [2, 2, 1]


def test_decoded_rows_are_pictures() -> None:
    whole, second = prow.dataset.encode_batch([png(1), png(2)], **QUICK)
    damaged = whole[:-1] + bytes([whole[-1] ^ 1])
    good, bad, none, cut = prow.dataset.decode_rows([whole, damaged, b"no", second[:40]], device="cpu")
    assert np.array_equal(Image.open(io.BytesIO(good.data or b"")), prow.decode(whole))
    assert np.array_equal(Image.open(io.BytesIO(cut.data or b"")), prow.decode(second[:40]))
    assert "damaged" in str(bad.error) and none.error and none.data is None
    with pytest.raises(prow.InputError, match="'gif' came"):
        prow.dataset.decode_rows([], picture_format="gif")


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
def test_grey_and_alpha_are_kept(mode: str) -> None:
    image = Image.fromarray(draw_picture(40, 30)).convert(mode)
    if mode.endswith("A"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    content = io.BytesIO()
    image.save(content, "png")
    (row,) = prow.dataset.encode_rows([content.getvalue()], bytes=500, psnr=True, device="cpu")
    assert row.data == prow.encode(image, bytes=500, device="cpu") and row.psnr is not None and row.psnr > 10
    for picture_format, wanted in (("png", mode), ("jpeg", mode if mode == "L" else "RGB")):
        (back,) = prow.dataset.decode_rows([row.data], picture_format=picture_format, device="cpu")
        assert back.error is None and Image.open(io.BytesIO(back.data)).mode == wanted


def test_truncated_rows_are_whole_files() -> None:
    (data,) = prow.dataset.encode_batch([png(1)], **QUICK)
    small, none = prow.dataset.truncate_rows([data, b"no"], bytes=40)
    assert small.data == prow.truncate(data, 40) and (small.width, small.height) == (24, 20)
    assert none.error


# -- sources ------------------------------------------------------------------------------------------------------


def encoded(src: Path, dst: Path, **options: object) -> list[dict[str, object]]:
    """Rows of a dataset that is made on one worker."""
    prow.dataset.encode(src, dst, **{**QUICK, "concurrency": 1, "shard": 4, "batch": 3, **options})
    return tables(dst)


@with_daft
def test_a_folder(pictures: Path, tmp_path: Path) -> None:
    there = encoded(pictures, tmp_path / "out")
    names = ["0.png", "2.png", "4.png", "6.png", "8.png", *(f"below/{i}.png" for i in (1, 3, 5, 7, 9))]
    assert [row["path"] for row in there] == [row["input"] for row in there] == names
    assert [row["input"] for row in there if row["error"]] == ["8.png", "below/3.png"]
    for row in there:
        if row["error"]:
            assert row["prow"] is row["width"] is row["bytes"] is None
        else:
            assert row["prow"] == prow.encode(pictures / str(row["path"]), **QUICK)
            assert (row["width"], row["height"], row["bytes"]) == (24, 20, len(row["prow"]))


@with_daft
def test_parquet_with_bytes_paths_and_both(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "one.png").write_bytes(png(1))
    both = [{"bytes": png(1), "path": None}, {"bytes": None, "path": "one.png"}, {"bytes": None, "path": None}]
    columns = {
        "image": pa.array([png(1), png(1), None]),
        "where": ["one.png", "one.png", "none.png"],
        "both": both,
        "label": [3, 4, 5],
    }
    pq.write_table(pa.table(columns), tmp_path / "in.parquet", row_group_size=2)
    wanted = prow.encode(tmp_path / "one.png", **QUICK)
    for column in (None, "where", "both"):
        there = encoded(tmp_path / "in.parquet", tmp_path / f"out-{column}", column=column, shard=2)
        assert [row["prow"] for row in there] == [wanted, wanted, None]
        assert [row["label"] for row in there] == [3, 4, 5]
        assert [row["input"] for row in there] == ["in.parquet:0", "in.parquet:1", "in.parquet:2"]
        assert (column or "image") not in there[0] and len(set(there[0]) & {"image", "where", "both"}) == 2
    kept = encoded(tmp_path / "in.parquet", tmp_path / "kept", keep=True, drop=["both", "where"])
    assert kept[0]["image"] == png(1) and not {"both", "where"} & set(kept[0])
    with pytest.raises(prow.InputError, match="no column 'nothing': wanted one of image, where, both, label"):
        encoded(tmp_path / "in.parquet", tmp_path / "x", column="nothing")


@with_daft
def test_webdataset_tars(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for key in "abcde":
            members = {"png": png(ord(key)), "cls": b"7", "npy": b"\0\1"}
            if key == "d":
                del members["png"]
            for kind, data in members.items():
                info = tarfile.TarInfo(f"dir/{key}.{kind}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    there = encoded(tmp_path / "a.tar", tmp_path / "out", shard=2)
    assert [row["__key__"] for row in there] == [f"dir/{key}" for key in "abcde"]
    assert [row["input"] for row in there] == [f"a.tar:dir/{key}" for key in "abcde"]
    assert {(row["cls"], row["npy"]) for row in there} == {("7", b"\0\1")}
    assert [row["prow"] is None for row in there] == [False, False, False, True, False]
    assert "cls, npy came, wanted a picture" in str(there[3]["error"])


@with_daft
def test_sources_that_cannot_be_used(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (pictures / "a.tar").write_bytes(b"")
    for src, words in ((tmp_path / "none", "does not exist"), (tmp_path / "empty", "nothing to read")):
        with pytest.raises(prow.InputError, match=words):
            encoded(src, tmp_path / "out")
    with pytest.raises(prow.InputError, match="1 tars and 10 pictures came"):
        encoded(pictures, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@with_daft
def test_a_column_in_the_way_of_a_result(pictures: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": [png(1)], "width": ["wide"]}), tmp_path / "in.parquet")
    with pytest.raises(prow.InputError, match="'width'.*--drop width"):
        encoded(tmp_path / "in.parquet", tmp_path / "out")
    assert encoded(tmp_path / "in.parquet", tmp_path / "out", drop=["width"])[0]["width"] == 24


# -- shards -------------------------------------------------------------------------------------------------------


@with_daft
def test_what_is_there_is_not_made_again(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = encoded(pictures, out)
    shards = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    lost = out / "part-000001.parquet"
    lost.unlink()
    summary = prow.dataset.encode(pictures, out, **QUICK, shard=4, concurrency=1)
    assert (summary.rows, summary.errors, summary.shards, summary.made) == (10, 2, 3, 1)
    assert tables(out) == before
    assert {name for name, when in shards.items() if (out / name).stat().st_mtime_ns != when} == {lost.name}


@with_daft
def test_the_manifest_says_which_inputs_a_shard_holds(pictures: Path, tmp_path: Path) -> None:
    there = encoded(pictures, tmp_path / "out")
    header, *lines = map(json.loads, (tmp_path / "out" / "_manifest.jsonl").read_text().splitlines())
    assert (header["kind"], header["options"]["bytes"]) == ("encode", 60)
    assert [name for line in lines for name in line["files"]] == [row["input"] for row in there]
    assert [line["count"] for line in lines] == [4, 4, 2]


@with_daft
def test_a_folder_with_something_else_is_refused(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    encoded(pictures, out)
    with pytest.raises(prow.InputError, match="options .*70.* came, and .* was begun with .*60"):
        encoded(pictures, out, bytes=70)
    (pictures / "new.png").write_bytes(png(99))
    with pytest.raises(prow.InputError, match="other inputs than when"):
        encoded(pictures, out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(prow.InputError, match="holds files and no _manifest.jsonl"):
        encoded(pictures, tmp_path / "mine")


@with_daft
def test_a_shard_that_cannot_be_made_stops_no_other(pictures: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in "ab":
        pq.write_table(pa.table({"image": [png(1)] * 4}), tmp_path / f"{name}.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    footer = int.from_bytes(data[-8:-4], "little") + 8
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + bytes(len(data) - footer - 4) + data[-footer:])
    source = tmp_path / "source"
    source.mkdir()
    for name in "ab":
        (tmp_path / f"{name}.parquet").rename(source / f"{name}.parquet")
    with pytest.raises(prow.ProwError, match="1 of 2 shards were not made"):
        encoded(source, tmp_path / "out")
    assert len(tables(tmp_path / "out")) == 4
    assert prow.dataset.stats(tmp_path / "out").shards == 1
    assert not list((tmp_path / "out").glob(".*"))


@with_daft
def test_a_driver_that_is_killed_loses_and_doubles_nothing(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for i in range(60):
        (folder / f"{i:02}.png").write_bytes(BROKEN if i % 20 == 7 else png(i))
    line = f"dataset encode {folder} {out} --bytes 60 --effort 1 --model anchor --shard 2 --concurrency 1 --device cpu"
    command = [sys.executable, "-c", "from prow_cli.main import main\nmain()", *line.split()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(out.glob("part-*"))) < 5 and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(driver.pid, signal.SIGKILL)  # with its workers
    driver.wait()
    came = len(list(out.glob("part-*")))
    assert 5 <= came < 30
    said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert said.stdout == f"60 rows, 3 with an error, in 30 shards, {30 - came} of them new\n", said.stderr
    there = tables(out)
    assert [row["input"] for row in there] == [f"{i:02}.png" for i in range(60)]
    assert [i for i, row in enumerate(there) if row["error"]] == [7, 27, 47]
    assert not list(out.glob(".*"))


# -- the command --------------------------------------------------------------------------------------------------


@with_daft
def test_encode_truncate_decode_and_stats(pictures: Path, tmp_path: Path) -> None:
    quick = "--effort 1 --model anchor --device cpu --concurrency 1"
    full, small, back = tmp_path / "full", tmp_path / "small", tmp_path / "back"
    said = "10 rows, 2 with an error, in 1 shards, 1 of them new\n"
    assert run(f"dataset encode {pictures} {full} --bytes 80 --psnr {quick}").stdout == said
    assert run(f"dataset truncate {full} {small} --bytes 0.05k").stdout == said
    assert run(f"dataset decode {small} {back} --format webp --concurrency 1 --device cpu").stdout == said
    for big, cut, picture in zip(tables(full), tables(small), tables(back), strict=True):
        assert big["input"] == cut["input"] == picture["input"]
        assert big["error"] == cut["error"] == picture["error"]
        assert "psnr" in big and "psnr" not in cut and "prow" not in picture
        if not big["error"]:
            assert cut["prow"] == prow.truncate(bytes(big["prow"]), 50) and cut["bytes"] == 50
            assert Image.open(io.BytesIO(bytes(picture["image"]))).tobytes() == prow.decode(cut["prow"]).tobytes()
    assert json.loads(run(f"dataset stats {full} --json").stdout)["errors"] == 2
    lines = run(f"dataset stats {full}").stdout.splitlines()
    assert lines[:3] == ["shards    1 of 1", "rows      10, 2 with an error", "bytes     640, 80.0 a picture"]
    assert any(line.startswith("PSNR ") for line in lines) and lines[-1].startswith("error     2 times: ")


def test_wrong_usage_of_the_command(tmp_path: Path) -> None:
    assert_fails(f"dataset encode {tmp_path} out", 2, "--bytes")
    assert_fails(f"dataset encode {tmp_path} out --bytes 5", 1, "5", "32")
    assert_fails(f"dataset encode {tmp_path} out --bytes 500 --runner spark", 2, "spark")
    if importlib.util.find_spec("pyarrow") is None:
        assert_fails(f"dataset stats {tmp_path}", 1, "pip install 'prow[dataset]'")
    else:
        assert_fails(f"dataset stats {tmp_path}", 1, "holds no shards")


def test_without_daft_an_error_says_what_to_install(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "daft" else there(name))
    with pytest.raises(prow.InputError, match=r"daft is not installed: pip install 'prow\[dataset\]'"):
        prow.dataset.encode(pictures, pictures.parent / "out", **QUICK)
