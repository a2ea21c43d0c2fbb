"""Many files at once: folders, several inputs, resume, failures, processes, interrupts, the bar."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import draw_picture
from PIL import Image

import prow
from prow_cli import workers

from .conftest import INPUTS, PHOTO, assert_fails, invoke, names, run

SMALL = "--bytes 200 --model anchor"


def files(folder: str) -> set[str]:
    """Paths of all files below a folder, hidden ones too."""
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.fixture
def pictures() -> None:
    """The folder in: two pictures, one more in a folder of its own, and what is none."""
    for place, seed in (("a.png", 1), ("b.jpg", 2), ("deep/er/c.png", 3)):
        path = Path("in") / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_picture(40, 30, seed)).save(path)
    Path("in/notes.txt").write_text("no picture")
    Path("in/.hidden.png").write_text("no picture")


def command(line: str) -> list[str]:
    return [sys.executable, "-c", "from prow_cli.start import main\nif __name__ == '__main__': main()", *line.split()]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **more}


def test_a_folder_there_and_back(pictures: None) -> None:
    result = run(f"encode in out {SMALL}")
    assert re.fullmatch(r"prow: 2 of 2 files written, 400 bytes; [0-9.]+ s\n", result.stderr)
    assert files("out") == {"a.prow", "b.prow"}
    assert Path("out/a.prow").read_bytes() == prow.encode("in/a.png", bytes=200, model="anchor")
    run("decode out back")
    assert files("back") == {"a.png", "b.png"}
    assert Image.open("back/a.png").tobytes() == prow.decode(Path("out/a.prow").read_bytes()).tobytes()


def test_recursive_keeps_the_places(pictures: None) -> None:
    run(f"encode in out {SMALL} --recursive")
    assert files("out") == {"a.prow", "b.prow", "deep/er/c.prow"}
    run("decode out back --recursive --format webp")
    assert files("back") == {"a.webp", "b.webp", "deep/er/c.webp"}
    assert Image.open("back/deep/er/c.webp").format == "WEBP"


def test_several_inputs(pictures: None) -> None:
    run(f"encode photo.png in/b.jpg out {SMALL}")
    assert files("out") == {"photo.prow", "b.prow"}


def test_one_input_and_a_folder_that_is_named_so() -> None:
    run(f"encode photo.png out/ {SMALL}")
    assert files("out") == {"photo.prow"}


def test_what_is_done_is_not_done_again(pictures: None) -> None:
    run(f"encode in out {SMALL}")
    before = Path("out/a.prow").stat().st_mtime_ns
    Path("out/b.prow").unlink()
    result = run(f"encode in out {SMALL} --report r.csv")
    assert "1 of 2 files written, 200 bytes; 1 there already" in result.stderr
    assert Path("r.csv").read_text().splitlines()[1] == "in/a.png,200,,"
    assert Path("out/a.prow").stat().st_mtime_ns == before
    assert "2 of 2 files written" in run(f"encode in out {SMALL} --force").stderr
    assert Path("out/a.prow").stat().st_mtime_ns > before
    run("decode out back")
    assert "0 of 2 files written, 0 bytes; 2 there already" in run("decode out back").stderr


def test_what_is_there_but_not_right_is_kept_and_told(pictures: None) -> None:
    run(f"encode in out {SMALL}")
    cut = Path("out/a.prow").read_bytes()[:100]
    Path("out/a.prow").write_bytes(cut)
    Path("out/b.prow").write_text("my diary")
    result = invoke(f"encode in out {SMALL}")
    assert result.exit_code == 1
    assert "in/a.png: out/a.prow exists already and is cut: kept (--force replaces it)" in result.stderr
    assert "in/b.jpg: out/b.prow exists already and is no prow file of the file profile: kept" in result.stderr
    assert Path("out/a.prow").read_bytes() == cut
    run(f"encode in out {SMALL} --force")
    assert (
        "in/a.png: out/a.prow exists already and has 200 bytes, 100 are wanted"
        in invoke("encode in out --bytes 100 --model anchor").stderr
    )
    run("decode out back")
    Path("back/a.png").write_bytes(Path("back/a.png").read_bytes()[:200])
    assert "back/a.png exists already and is no whole PNG picture: kept" in invoke("decode out back").stderr


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_broken_picture_stops_no_other_one(pictures: None, jobs: int) -> None:
    Path("in/aa.png").write_text("no picture")
    line = f"encode in nobody.png out {SMALL} --jobs {jobs} --report r.csv"
    result = subprocess.run(command(line), env=environment(), capture_output=True, text=True, timeout=120)
    assert result.returncode == 1 and result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 3 and all(one.startswith("prow: ") for one in lines), lines
    assert any("in/aa.png" in one for one in lines) and any("nobody.png" in one for one in lines)
    assert "2 of 4 files written, 400 bytes; 2 failed" in lines[-1]
    assert files("out") == {"a.prow", "b.prow"}
    with open("r.csv", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"in/a.png", "in/aa.png", "in/b.jpg", "nobody.png"}
    assert rows["in/a.png"]["bytes"] == "200" and float(rows["in/a.png"]["seconds"]) > 0
    assert rows["in/a.png"]["error"] == "" and "in/aa.png" in rows["in/aa.png"]["error"]


def test_a_damaged_file_stops_no_other_one(pictures: None, whole: bytes) -> None:
    run(f"encode in out {SMALL}")
    Path("out/bad.prow").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    Path("out/cut.prow").write_bytes(whole[:200])
    result = invoke("decode out back --report r.csv")
    assert result.exit_code == 1
    assert "prow: out/bad.prow: the CRC is wrong" in result.stderr
    assert f"out/cut.prow is cut: 200 of {len(whole)} bytes" in result.stderr
    assert files("back") == {"a.png", "b.png", "cut.png"}


def test_a_process_that_dies_stops_no_other_file(pictures: None) -> None:
    """`work` ends its process, as a system without memory would."""
    Path("dies.py").write_text("""
import os
def work(source, out):
    if source == "b.png":
        os._exit(9)
    return source.encode(), []
""")
    script = """
import dies
from prow_cli import batch
names = tuple(f"{c}.png" for c in "abcdef")
tasks = batch.tasks_of(names, "out", ".x", frozenset(), recursive=False)
how = dict.fromkeys(("force", "quiet", "verbose", "as_json"), False)
batch.run(tasks, dies.work, lambda path: "", **how, jobs=2, report=None)
"""
    Path("script.py").write_text(script)
    result = subprocess.run(
        [sys.executable, "script.py"], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1, result.stderr
    assert "b.png: its process ended without an answer" in result.stderr
    assert files("out") == {f"{c}.x" for c in "acdef"}


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupt_leaves_no_litter(jobs: int) -> None:
    Path("in").mkdir()
    for seed in range(40):
        Image.fromarray(draw_picture(160, 120, seed)).save(f"in/{seed}.png")
    before = names()
    process = subprocess.Popen(
        command(f"encode in out --bytes 1k --jobs {jobs} --report r.csv"),
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until = time.monotonic() + 60
    while time.monotonic() < until and not list(Path("out").glob("*.prow")):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.split() == ["prow:", "interrupted"]
    assert names() == {*before, "out"}
    came = files("out")
    assert 0 < len(came) < 40
    for name in came:
        assert prow.inspect((Path("out") / name).read_bytes()).state == "whole"
    with pytest.raises(ProcessLookupError):  # none of them is left, once the last one has noticed
        while time.monotonic() < until:
            os.killpg(process.pid, 0)
            time.sleep(0.02)


def test_processes_share_the_threads() -> None:
    before = os.environ.get("OMP_NUM_THREADS")
    with workers.pool(2) as submit:
        share = submit(os.getenv, "OMP_NUM_THREADS").result(timeout=60)
    assert share == str(max(1, min(int(before or os.cpu_count() or 1), os.cpu_count() or 1) // 2))
    assert os.environ.get("OMP_NUM_THREADS") == before


def test_a_new_process_comes_for_one_that_died() -> None:
    with workers.pool(1) as submit:
        first = submit(os.getpid).result(timeout=60)
        assert submit(os.getpid).result(timeout=60) == first != os.getpid()
        with pytest.raises(workers.Died):
            submit(os._exit, 3).result(timeout=60)
        assert submit(os.getpid).result(timeout=60) != first


def test_processes_import_nothing_from_the_folder_that_they_run_in() -> None:
    Path("pickle.py").write_text("raise SystemExit('imported')")
    with workers.pool(1) as submit:
        assert submit(os.getcwd).result(timeout=60) == os.getcwd()


def test_what_is_refused_before_any_work(pictures: None) -> None:
    assert_fails(f"encode in photo.png {SMALL}", 1, "photo.png is a file, a folder was wanted")
    assert_fails(f"encode in/deep out {SMALL}", 1, "in/deep: no file", "--recursive")
    assert_fails(f"encode in - {SMALL}", 2, "standard input and output take one file")
    assert_fails(f"encode photo.png - out {SMALL}", 2, "standard input and output take one file")
    assert_fails(f"encode photo.png out.prow {SMALL} --recursive", 2, "--recursive came with one file")
    assert_fails(f"encode photo.png out.prow {SMALL} --report r.csv", 2, "--report came with one file")
    assert_fails(f"encode in out {SMALL} --report no/r.csv", 1, "no/r.csv")
    assert_fails("decode photo.prow in out --format xyz", 2, "--format xyz", ".webp")
    PHOTO.save("in/a.jpg")
    assert_fails(f"encode in out {SMALL}", 1, "in/a.jpg and in/a.png would both become out/a.prow")
    assert_fails(f"encode photo.prow photo.png . {SMALL} --force", 1, "photo.prow would be written over itself")
    assert_fails("encode photo.png", 2, "Missing argument 'OUT'")
    assert_fails("encode", 2, "Missing argument 'IN'")
    assert names() == {*INPUTS, "in"}


def seen_on_a_terminal(line: str, **more: str) -> str:
    """What `prow` writes to a stderr that is a terminal."""
    import pty

    leader, follower = pty.openpty()
    process = subprocess.Popen(command(line), env=environment(TERM="xterm-256color", **more), stderr=follower)
    os.close(follower)
    seen = b""
    while True:
        try:
            some = os.read(leader, 4096)
        except OSError:  # the other end is closed
            break
        if not some:
            break
        seen += some
    os.close(leader)
    assert process.wait(timeout=60) == 0, seen
    return seen.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_a_terminal_sees_a_bar_and_what_was_written(pictures: None) -> None:
    seen = seen_on_a_terminal(f"encode in out {SMALL} --force")
    assert "2/2 files" in seen and "B/s" in seen and "2 of 2 files written" in seen
    assert re.search(r"\x1b\[[0-9;]*m", seen)
    plain = seen_on_a_terminal(f"encode in out {SMALL} --force", NO_COLOR="1")
    assert "2/2 files" in plain and not re.search(r"\x1b\[(?:\d+;)*[349]\d(?:;\d+)*m", plain)
    assert seen_on_a_terminal(f"encode in out {SMALL} --force --quiet") == ""
    assert seen_on_a_terminal("encode photo.png a.prow --bytes 300 --model anchor").splitlines() == [
        "prow: a.prow: 300 bytes, 0.7812 bits per pixel"
    ]
    assert seen_on_a_terminal("encode photo.png b.prow --bytes 300 --model anchor -q") == ""


def test_scripts_hear_what_was_written_if_they_ask() -> None:
    stderr = run("encode photo.png a.prow --bytes 300 --model anchor -v").stderr
    assert re.fullmatch(r"prow: a.prow: 300 bytes, 0.7812 bits per pixel; 64 x 48 px, model \d+, [0-9.]+ s\n", stderr)
    assert re.fullmatch(r"prow: a.png: PNG, [0-9,]+ bytes\n", run("decode a.prow a.png -v").stderr)


def test_rich_is_not_imported_without_a_terminal(pictures: None) -> None:
    before = "import atexit, sys\natexit.register(lambda: print('rich' in sys.modules))\n"
    line = [sys.executable, "-c", f"{before}from prow_cli.main import main\nmain()", *f"encode in out {SMALL}".split()]
    result = subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=60)
    assert result.stdout == "False\n"
