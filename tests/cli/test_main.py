"""What all commands share: pipes, exit codes, what is imported, help."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

import prow
from prow_cli.main import main

from .conftest import INPUTS, assert_fails, invoke, names, process, run

ROOT = Path(__file__).parents[2]
BASIC = ("encode", "decode", "info", "truncate", "models")  # stand in the README
COMMANDS = (*BASIC, "split", "join", "compare", "page", "progress", "placeholder", "dataset")
SAY_IMPORTS = """
import atexit, sys
heavy = "PIL", "numpy", "onnxruntime", "torch"
atexit.register(lambda: print("imported:", *(name for name in heavy if name in sys.modules), file=sys.stderr))
"""


def test_through_pipes() -> None:
    encoded = process("encode - - --bytes 300", Path("photo.png").read_bytes())
    assert (encoded.returncode, encoded.stderr) == (0, b"")
    assert 291 <= len(encoded.stdout) <= 300
    shorter = process("truncate - - --bytes 200", encoded.stdout)
    assert 194 <= len(shorter.stdout) <= 200
    decoded = process("decode - -", shorter.stdout[:150])
    remark = f"prow: standard input is cut: 150 of {len(shorter.stdout)} bytes; decoded what is there\n"
    assert (decoded.returncode, decoded.stderr.decode()) == (0, remark)
    assert Image.open(io.BytesIO(decoded.stdout)).format == "PNG"


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    """Where data gets lost that is said; text is for people, who know that they left."""
    before = "import os; read_end, write_end = os.pipe(); os.close(read_end); os.dup2(write_end, 1)"
    result = process("decode photo.prow -", before=before)
    assert (result.returncode, result.stderr.count(b"\n")) == (1, 1)
    assert result.stderr.startswith(b"prow: standard output: its reader went away")
    result = process("info photo.prow", before=before)
    assert (result.returncode, result.stderr) == (1, b"")


@pytest.mark.parametrize(
    ("line", "closed", "code", "said"),
    [
        ("encode photo.png a.prow --bytes 300", "<&- >&- 2>&-", 0, ""),
        ("encode photo.png a.prow --bytes 300 -v", "<&- 2>&-", 0, ""),
        ("encode no.png a.prow --bytes 300", "2>&-", 1, ""),
        ("encode photo.png - --bytes 300", ">&-", 1, "standard output is closed"),
        ("decode photo.prow -", "<&- >&-", 1, "standard output is closed"),
        ("info photo.prow", ">&-", 1, "standard output is closed"),
        ("--help", ">&-", 1, "standard output is closed"),
        ("info -", "<&-", 1, "standard input is closed"),
        ("encode - a.prow --bytes 300", "<&-", 1, "standard input is closed"),
    ],
)
def test_closed_standard_streams(line: str, closed: str, code: int, said: str) -> None:
    """One line says what is closed, and no file is ever written to in the place of a stream."""
    command = f"{sys.executable} -c 'from prow_cli.start import main; main()' {line} {closed}"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(command, shell=True, env=env, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout) == (code, "")
    assert re.fullmatch(rf"prow: {said}[^\n]*\n" if said else "", result.stderr), result.stderr
    assert names() == INPUTS | ({"a.prow"} if code == 0 else set())
    if code == 0:
        assert prow.inspect(Path("a.prow").read_bytes()).state == "whole"


def test_thousands_of_threads_are_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    from prow.options import thread_count

    for asked, came in (("99999", os.cpu_count()), ("9" * 5000, os.cpu_count()), ("1", 1), ("1,4", 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert thread_count() == came
    for asked in ("", "0", "-3", "many", "²"):
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert thread_count() is None
    before = "import os; os.environ['OMP_NUM_THREADS'] = '99999'"
    assert process("encode photo.png a.prow --bytes 300", before=before).returncode == 0


@pytest.mark.parametrize("line", ["truncate photo.prow - --bytes 100", "info photo.prow"])
def test_a_stdout_that_takes_nothing_is_one_line(line: str) -> None:
    result = process(line, before="import os; os.dup2(os.open(os.devnull, os.O_RDONLY), 1)")
    assert result.returncode == 1
    assert re.fullmatch(rb"prow: [^\n]*Bad file descriptor\n", result.stderr), result.stderr


@pytest.mark.parametrize(
    ("line", "code", "modules"),
    [
        ("--version", 0, ""),
        ("encode --help", 0, ""),
        ("truncate photo.prow t.prow --bytes 100", 0, ""),
        ("info photo.prow", 0, " numpy"),
        ("models", 0, " numpy"),
        ("decode photo.prow out.xyz", 2, " PIL"),
    ],
)
def test_nothing_heavy_is_imported_without_need(line: str, code: int, modules: str) -> None:
    result = process(line, before=SAY_IMPORTS)
    assert (result.returncode, result.stderr.decode().splitlines()[-1]) == (code, f"imported:{modules}"), result.stderr


@pytest.mark.parametrize("data", [b"", b"\xf5", b"\x89PNG" * 9, b"\xf5\xf0\xff" * 9, b"\xf5\xf0\xa0\x02" + bytes(3)])
def test_bytes_that_are_no_prow_file(data: bytes) -> None:
    Path("bad.prow").write_bytes(data)
    for line in ("decode bad.prow out.png", "info bad.prow", "truncate bad.prow out.prow --bytes 100"):
        assert_fails(line, 1, "bad.prow")
    assert names() == {*INPUTS, "bad.prow"}


def test_models_lists_every_model() -> None:
    lines = run("models").stdout.splitlines()
    for one in prow.models():
        assert any(f"{one.id}  {one.name}" in line for line in lines)
    assert [line for line in lines if line.startswith("* ") and "prow-small" in line]


def test_models_for_programs() -> None:
    told = json.loads(run("models --json").stdout)
    assert told == {"models": [dataclasses.asdict(one) for one in prow.models()]}
    assert set(json.loads(run("models --json -v").stdout)["backends"]) == {"onnx", "torch", "triton"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_stands_in_a_page(command: str) -> None:
    assert run(f"{command} --help").stdout.startswith(f"Usage: prow {command}")
    assert main.commands[command].help
    assert all(param.help for param in main.commands[command].params if param.param_type_name == "option")
    page = "README.md" if command in BASIC else "docs/commands.md"
    assert f"prow {command}" in (ROOT / page).read_text(encoding="utf-8")


def test_there_are_no_other_commands() -> None:
    assert set(main.commands) == set(COMMANDS)
    assert_fails("enlarge", 2, "enlarge", "(see 'prow --help')")


def test_prow_alone_shows_its_help() -> None:
    result = invoke("")
    assert result.exit_code == 2
    assert all(command in result.stderr for command in COMMANDS)


def test_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert run("--version").stdout == f"prow {project['version']}\n"
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_python_m_prow_is_the_command() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert prow.__version__ == project["version"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-m", "prow", "--version"], capture_output=True, env=env, timeout=120)
    assert (done.returncode, done.stdout.decode()) == (0, f"prow {prow.__version__}\n")


def test_python_m_prow_without_the_command_line_says_so() -> None:
    code = "import sys; sys.modules['prow_cli'] = None; import prow.__main__ as m; m.run()"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=env, timeout=120)
    assert done.returncode == 1
    assert re.fullmatch(rb"prow: the command line needs the package prow_cli[^\n]*\n", done.stderr), done.stderr
