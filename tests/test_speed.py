"""The benchmark of speed on a tiny picture: what is measured, with what, and what is refused. Never the times."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import prow
from benchmarks.codecs.classical import FORMATS
from benchmarks.speed import jobs as speed_jobs
from benchmarks.speed import sections, tables
from benchmarks.speed.__main__ import main, parse_args
from benchmarks.speed.jobs import Job
from prow.backends import select

OPTIONS = ("--model", "anchor", "--backends", "onnx", "--repeats", "2", "--threads", "1", "--sizes", "0.002,0.005")
CODECS = ("prow", "webp", "avif")
TAKEN = {"seconds": [0.5, 0.25], "cpu_seconds": [0.75, 0.25], "peak_mib": 20.5}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything at 96 x 64 px."""
    small_ones = {"WIDTH": 96, "HEIGHT": 64, "BUDGET": 200, "SIZES_BUDGET": 300, "EFFORTS": (1,)}
    for name, value in small_ones.items():
        monkeypatch.setattr(sections, name, value)


@pytest.fixture
def picture(draw, tmp_path: Path) -> Path:
    """A drawn picture in a folder of its own."""
    (tmp_path / "in").mkdir()
    Image.fromarray(draw(120, 64)).save(tmp_path / "in" / "drawn.png")
    return tmp_path / "in" / "drawn.png"


@pytest.fixture
def fake_runs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Runs that only write files of the right sizes; -> the jobs that came, in their order."""
    asked: list[Job] = []

    def run(jobs: list[Job], repeats: int) -> list[dict[str, Any]]:
        asked.extend(jobs)
        for job in jobs:
            if job.operation == "encode" and job.codec == "prow":
                image, effort = Image.open(job.source), job.options.get("effort", 1)
                job.out.write_bytes(prow.encode(image, **{**job.options, "effort": effort}))
            elif job.operation == "encode":
                job.out.write_bytes(FORMATS[job.codec].encode(Image.open(job.source), job.options["quality"]))
            elif job.operation == "truncate":
                job.out.write_bytes(prow.truncate(job.source.read_bytes(), job.options["bytes"]))
        return [{**TAKEN, "seconds": [s * (1 + i) for s in TAKEN["seconds"]]} for i in range(len(jobs))]

    monkeypatch.setattr(sections, "cold", lambda *args: run(*args))
    monkeypatch.setattr(sections, "warm", lambda *args: run(*args))
    return asked


def measured(picture: Path, out: Path, *more: str) -> dict[str, Any]:
    """Run the benchmark in this process; -> its results."""
    assert main(["--image", str(picture), "--out", str(out), *OPTIONS, *more]) == 0
    return json.loads(out.read_text())


def rows_of(results: dict[str, Any], section: str, **wanted: Any) -> list[dict[str, Any]]:
    """-> the rows of a section that have these values."""
    return [row for row in results["sections"][section] if wanted.items() <= row.items()]


# -- whole runs ----------------------------------------------------------------------------------------------------


def test_real_processes(picture: Path, tmp_path: Path, capsys) -> None:
    results = measured(picture, tmp_path / "new" / "speed.json", "--sections", "commands,warm", "--repeats", "1")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["speed.json"]
    for section in ("commands", "warm"):
        rows = results["sections"][section]
        small = [("info", "prow"), ("truncate", "prow")] if section == "commands" else []
        both = [(operation, codec) for operation in ("encode", "decode") for codec in CODECS]
        assert [(row["operation"], row["codec"]) for row in rows] == both + small
        for row in rows:
            assert len(row["seconds"]) == len(row["cpu_seconds"]) == 1 and min(row["seconds"]) > 0
            assert [row["best"], row["median"]] == 2 * row["seconds"]
            assert row["per_megapixel"] == pytest.approx(row["median"] / 96 / 64 * 1e6, abs=1e-3)
            assert row["per_kilobyte"] == pytest.approx(row["median"] / row["bytes"] * 1e3, abs=1e-3)
            assert (row["width"], row["height"], row["threads"], row["budget"]) == (96, 64, 1, 200)
            assert 5 < row["peak_mib"] < 1000 and "gpu_mib" not in row
            compared = row["codec"] == "prow" and row["operation"] in ("encode", "decode")
            assert ("times_webp" in row) == ("times_avif" in row) == compared
        (ours,) = rows_of(results, section, codec="prow", operation="encode")
        (webp,) = rows_of(results, section, codec="webp", operation="encode")
        assert ours["peak_mib"] > 2 * webp["peak_mib"]  # numpy and ONNX Runtime are in one of them alone
    photo = Image.fromarray(np.asarray(Image.open(picture))[:, 12:108])
    expected = len(prow.encode(photo, bytes=200, model="anchor"))
    sizes = [row["bytes"] for s in ("commands", "warm") for row in rows_of(results, s, codec="prow", budget=200)]
    assert sizes == [expected, expected, expected, 100, expected, expected]
    printed = capsys.readouterr()
    assert "encode, prow (onnx)" in printed.out and "x AVIF" in printed.out and "failed" not in printed.out
    assert "encode, 0.0061 Mpx, 200 bytes, threads: 1" in printed.err


def test_every_section_has_its_rows(picture: Path, tmp_path: Path, fake_runs: list[Job], capsys) -> None:
    options = ("--threads", "2,1", "--backends", "onnx,torch", "--budgets", "64,128,300")
    results = measured(picture, tmp_path / "a.json", *options)
    assert set(results) == {
        *("schema", "commit", "versions", "cpu", "cores", "gpu", "load_before", "environment", "model", "sha256"),
        *("image", "threads", "backends", "repeats", "sections", "aims", "seconds"),
    }
    assert (results["schema"], results["model"], results["threads"], results["repeats"]) == (1, "anchor", [1, 2], 2)
    assert {"python", "prow", "torch", "pillow", "onnxruntime", "webp", "avif"} <= set(results["versions"])
    assert results["image"]["name"] == "drawn.png" and len(results["image"]["sha256"]) == len(results["sha256"]) == 64
    assert {name: len(rows) for name, rows in results["sections"].items()} == {
        "commands": 2 * (4 + 4 + 2),  # encode and decode (with two backends), info and truncate
        "warm": 2 * (4 + 4),
        "sizes": 2 * (4 + 4),
        "budgets": 3 * (4 + 4),
        "efforts": 1,
    }
    assert [row["threads"] for row in rows_of(results, "warm", codec="webp", operation="encode")] == [1, 2]
    assert {row["threads"] for row in results["sections"]["budgets"]} == {2}
    sizes = rows_of(results, "sizes", codec="avif", operation="decode")
    assert [(row["width"], row["height"]) for row in sizes] == [(56, 37), (87, 58)]
    assert [row["budget"] for row in rows_of(results, "budgets", codec="webp", operation="encode")] == [64, 128, 300]
    assert all(
        row["bytes"] <= row["budget"] for rows in results["sections"].values() for row in rows if row["codec"] == "prow"
    )
    assert results["sections"]["efforts"][0]["psnr"] > 10
    (ours, *_) = rows_of(results, "warm", codec="prow", operation="decode")
    assert (ours["times_webp"], ours["times_avif"]) == (0.33, 0.25)  # the jobs of the fake take 1, 2, 3 ... times
    assert len({job.out for job in fake_runs if job.operation != "info"}) == len(fake_runs) - 2
    again = measured(picture, tmp_path / "b.json", *options)
    for name, rows in results["sections"].items():
        assert [(r["bytes"], r.get("quality")) for r in rows] == [
            (r["bytes"], r.get("quality")) for r in again["sections"][name]
        ]
    out = capsys.readouterr().out
    assert "encode, WebP, 128 B" in out and "decode, AVIF, 0.0021 Mpx" in out and "prow (onnx), effort 1" in out
    assert "prow decode, new process" in out


def test_efforts_are_measured_on_other_photos_too(
    picture: Path, tmp_path: Path, draw, fake_runs: list[Job], capsys
) -> None:
    (tmp_path / "photos").mkdir()
    for seed in range(2):
        Image.fromarray(draw(120, 90, seed)).save(tmp_path / "photos" / f"{seed}.png")
    results = measured(picture, tmp_path / "a.json", "--sections", "efforts", "--photos", str(tmp_path / "photos"))
    (row,) = results["sections"]["efforts"]
    assert row["photos"] == 2 and row["seconds_photos"] > 0 and 10 < row["psnr_photos"] < 60
    assert "photos, dB" in capsys.readouterr().out


def test_classical_files_fit_or_are_the_smallest(picture: Path, tmp_path: Path, fake_runs: list[Job]) -> None:
    measured(picture, tmp_path / "a.json", "--sections", "budgets", "--budgets", "32,900")
    jobs = [job for job in fake_runs if job.operation == "encode" and job.codec != "prow"]
    assert [(job.codec, job.options["quality"] == 0) for job in jobs] == [
        ("webp", True),
        ("avif", True),
        ("webp", False),
        ("avif", False),
    ]
    assert (jobs[0].options["method"], jobs[1].options["max_threads"]) == (6, 1)


# -- processes -----------------------------------------------------------------------------------------------------


def peak_mib_of(code: str) -> float:
    """-> what peak.py says of a Python process."""
    command = [sys.executable, "-I", "-S", str(speed_jobs.PEAK), sys.executable, "-I", "-S", "-c", code]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return json.loads(lines[-1])["peak_bytes"] / 2**20


def test_peak_memory_is_that_of_the_process_alone() -> None:
    ballast = np.ones(300 << 20, np.uint8)  # of this process, which children must not inherit
    small, large = peak_mib_of("print('no end of line', end='')"), peak_mib_of("b'x' * (100 << 20)")
    assert ballast[-1] and 2 < small < 60
    assert 95 < large - small < 110


def test_processes_see_their_threads_and_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROW_BACKEND", "torch")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    found = {}
    for name, operation in (("onnx", "decode"), ("", "info"), ("triton", "decode"), ("triton", "encode")):
        job = Job("prow", operation, name, 2, Path("a"), Path("b"))
        environment = job.environment()
        assert environment["OMP_NUM_THREADS"] == "2" and environment["PATH"]
        assert "PYTHONDONTWRITEBYTECODE" not in environment
        found[name, operation] = environment["PROW_BACKEND"], environment["CUDA_VISIBLE_DEVICES"]
    assert found == {
        ("onnx", "decode"): ("onnx", ""),
        ("", "info"): ("", ""),
        ("triton", "decode"): ("triton", "3"),
        ("triton", "encode"): ("", "3"),
    }


def test_jobs_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Recorder:
        def __init__(self, job: Job, command: list[str]) -> None:
            self.name = job.codec

        def __enter__(self) -> Recorder:
            return self

        def __exit__(self, *_: object) -> None:
            calls.append(f"{self.name} left")

        def result(self) -> dict[str, Any]:
            calls.append(f"{self.name} first")
            return {}

        def again(self) -> dict[str, Any]:
            calls.append(self.name)
            if self.name == "webp":
                raise speed_jobs.JobError("full")
            return {"seconds": float(len(calls)), "cpu_seconds": 0.0, "gpu_bytes": 1 << 20}

        def end(self) -> dict[str, Any]:
            return {"peak_bytes": 3 << 20}

    monkeypatch.setattr(speed_jobs, "Process", Recorder)
    jobs = [Job(name, "encode", "", 1, Path("a"), Path("b")) for name in CODECS]
    found = speed_jobs.warm(jobs, 2)
    assert calls == [
        *("prow first", "prow", "webp first", "webp", "avif first", "avif", "prow", "avif"),
        *("avif left", "webp left", "prow left"),
    ]
    assert found[0] == {"seconds": [2.0, 7.0], "cpu_seconds": [0.0, 0.0], "peak_mib": 3, "gpu_mib": 1}
    assert found[1] == {"error": "full"}


def test_a_job_that_fails_says_why_and_the_others_go_on(picture: Path, tmp_path: Path) -> None:
    bad = Job("webp", "decode", "", 1, tmp_path / "none.webp", tmp_path / "a.png")
    good = Job("webp", "encode", "", 1, picture, tmp_path / "a.webp", {"quality": 0, "method": 6})
    for run in (speed_jobs.cold, speed_jobs.warm):
        failed, done = run([bad, good], 1)
        assert set(failed) == {"error"} and "No such file" in failed["error"] and "none.webp" in failed["error"]
        assert len(done["seconds"]) == 1
    assert not (tmp_path / "a.png").exists()
    killed = ["-c", "import os; os.kill(os.getpid(), 9)"]
    for wait in (speed_jobs.Process.end, speed_jobs.Process.result):
        message = "ended with exit code -9 and said nothing"
        with speed_jobs.Process(bad, killed) as process, pytest.raises(speed_jobs.JobError, match=message):
            wait(process)


def test_failures_are_named_and_the_rest_is_kept(
    picture: Path, tmp_path: Path, fake_runs: list[Job], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    run = sections.warm
    monkeypatch.setattr(sections, "warm", lambda jobs, n: [{"error": "no memory"}, *run(jobs, n)[1:]])
    out = tmp_path / "a.json"
    assert main(["--image", str(picture), "--out", str(out), *OPTIONS, "--sections", "warm"]) == 1
    first, *others = json.loads(out.read_text())["sections"]["warm"]
    assert first["error"] == "no memory" and "median" not in first
    assert "median" in others[0] and all(row["codec"] != "prow" or "error" in row for row in others)
    assert "failed: encode, prow (onnx): no memory" in capsys.readouterr().out


# -- aims ----------------------------------------------------------------------------------------------------------


def test_aims_are_met_or_missed() -> None:
    row = {"codec": "prow", "threads": 2, "megapixels": 0.3932, "peak_mib": 1600.0}
    rows = [
        {**row, "operation": "decode", "backend": "onnx", "median": 0.9},
        {**row, "operation": "decode", "backend": "torch", "median": 7.0},
        {**row, "operation": "info", "backend": "", "median": 0.3},
        {**row, "operation": "encode", "backend": "onnx", "error": "no memory"},
        {**row, "operation": "decode", "backend": "onnx", "median": 1.5, "threads": 1},
    ]
    large = [{**rows[0], "megapixels": m, "median": 12.0} for m in (6.0, 24.0)]
    results = {"backends": ["onnx", "torch"], "sections": {"commands": rows, "sizes": large}}
    found = tables.aims(results)
    assert [(aim["words"], aim["measured"], aim["met"]) for aim in found] == [
        ("prow decode, new process", 0.9, True),
        ("prow info, new process", 0.3, False),
        ("decode 24 megapixels from 8 KB", 12.0, True),
        ("decode 24 megapixels from 8 KB", 1600.0, False),
    ]
    assert tables.aim_rows(found)[-1] == ["decode 24 megapixels from 8 KB", "1,600 MiB", "1,536 MiB", "missed"]


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sections", "warm,hot"], "unknown section 'hot': wanted some of commands, warm, sizes, budgets, efforts"),
        (["--backends", "jax"], "unknown backend 'jax': wanted some of onnx, torch, triton"),
        (["--threads", "0,2"], "--threads is '0,2': wanted numbers from 1 to 1,024"),
        (["--threads", "two"], "--threads is 'two': wanted whole numbers with commas"),
        (["--sizes", "nan"], "--sizes is 'nan': wanted numbers from 0.0001 to 89"),
        (["--sizes", "24,1000"], "--sizes is '24,1000': wanted numbers from 0.0001 to 89"),
        (["--budgets", "31"], "--budgets is '31': wanted numbers from 32"),
        (["--budgets", "1.5"], "--budgets is '1.5': wanted whole numbers"),
        (["--repeats", "0"], "--repeats is 0: must be 1 or more"),
        (["--model", "huge"], "model 'huge' came, installed are"),
        (["--out", "speed.txt"], "--out is speed.txt: wanted the name of a file that ends in .json"),
        (["--image", "none.png"], "speed: no such image: none.png"),
    ],
)
def test_bad_options(options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["--model", "anchor", *options])
    assert message in f"{stopped.value} {capsys.readouterr().err}"
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_is_not_made_up(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(select, "gpu_in_sight", lambda: False)
    assert parse_args(["--model", "anchor"]).backends == ["onnx", "torch"]
    with pytest.raises(SystemExit):
        parse_args(["--backends", "onnx,triton"])
    assert "backend 'triton' cannot run here: there is no GPU or no triton" in capsys.readouterr().err


def test_a_stopped_run_leaves_nothing(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_runs: list[Job]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setitem(sections.SECTIONS, "budgets", stop)
    with pytest.raises(KeyboardInterrupt):
        measured(picture, tmp_path / "out" / "a.json", "--sections", "warm,budgets")
    assert fake_runs and list((tmp_path / "out").iterdir()) == list((tmp_path / "temporary").iterdir()) == []
