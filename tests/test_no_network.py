"""Nothing that prow does at run time asks the network, unpickles, or starts a process, and it writes its OUT alone.

Python tells an audit hook of all that, whichever package does it. Each script below runs in a process of its own.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
WATCH = """
import os, pickle, sys
FORBIDDEN = ("socket.", "urllib.", "http.", "ftplib.", "smtplib.", "ssl.", "pickle.", "subprocess.", "os.system",
             "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "shutil.")
FOLDER = os.getcwd()
seen = []
def hook(event, arguments):
    if event.startswith(FORBIDDEN):
        seen.append(f"{event} {arguments}")
    if event == "open":
        path, mode, flags = arguments
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and isinstance(path, (str, bytes)):
            place = os.path.abspath(os.fsdecode(path))
            if not f"{place}{os.sep}".startswith(f"{FOLDER}{os.sep}") and place != os.devnull:
                seen.append(f"open for writing {place}")
def unpickled(*_, **__):
    seen.append("unpickled")
    raise RuntimeError
pickle.load = pickle.loads = unpickled
sys.addaudithook(hook)
"""
LIBRARY = """
import prow
for mode in ("L", "LA", "RGB", "RGBA"):
    from PIL import Image
    picture = Image.open("a.png").convert(mode)
    data = prow.encode(picture, bytes=300, keep_metadata=True)
    prow.decode(data[:200]); prow.inspect(data); prow.truncate(data, 100)
prow.decode(data, style="vivid")
prow.encode("a.png", psnr=20)
prow.decode_many(prow.encode_many(["a.png", "a.png"], bytes=200))
prow.detokenize(prow.tokenize("a.png", bytes=200)[:9])
prow.placeholder("a.png"), prow.models()
for bad in (b"", b"\\xf5\\x70", data[:-1] + b"?", b"\\x80\\x04cos\\nsystem\\n"):
    try:
        prow.decode(bad)
    except prow.ProwError:
        pass
"""
TORCH = """
import prow
prow.decode(prow.encode("a.png", bytes=200, effort=6))
"""
COMMANDS = """
from prow_cli.start import main
lines = '''encode a.png a.prow --bytes 300
encode in out --bytes 300 --recursive --report r.csv
decode a.prow b.png --style vivid
decode out back --recursive
info a.prow
truncate a.prow t.prow --bytes 100
split a.prow --packet 100 -o packets
join packets -o j.prow
placeholder a.png
progress a.prow -o p.webp
compare a.png -o c.html --budgets 200
encode --bytes 300 -- --$(id).png n.prow
models --verbose
encode a.png a.prow --bytes 300
info a.png'''
codes = []
for line in lines.splitlines():
    sys.argv = ["prow", *line.split()]
    try:
        main()
    except SystemExit as done:
        codes.append(done.code or 0)
assert codes == [0] * 13 + [1, 1], codes
"""


def watched(code: str, folder: Path, **more: str) -> list[str]:
    """What a script did that it should not."""
    (folder / "in" / "deep").mkdir(parents=True)
    for name in ("a.png", "--$(id).png", "in/b.png", "in/deep/c.png"):
        Image.linear_gradient("L").convert("RGB").resize((48, 32)).save(folder / name)
    end = "\nprint('SEEN', *seen, sep='\\n')\n"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1", **more}
    command = [sys.executable, "-c", WATCH + code + end]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("SEEN\n")[1].splitlines()


def test_the_library(tmp_path: Path) -> None:
    assert watched(LIBRARY, tmp_path, PROW_BACKEND="onnx") == []


def test_every_command(tmp_path: Path) -> None:
    assert watched(COMMANDS, tmp_path, PROW_BACKEND="onnx") == []


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_torch(tmp_path: Path) -> None:
    assert watched(TORCH, tmp_path, PROW_BACKEND="torch") == []


@pytest.mark.parametrize(
    ("code", "event"),
    [
        ("import socket; socket.socket()", "socket."),
        ("import urllib.request as r\ntry: r.urlopen('http://localhost:9')\nexcept OSError: pass", "urllib."),
        ("import pickle, io; pickle.Unpickler(io.BytesIO(pickle.dumps(print))).load()", "pickle.find_class"),
        ("import pickle\ntry: pickle.loads(pickle.dumps(1))\nexcept RuntimeError: pass", "unpickled"),
        ("import subprocess; subprocess.run(['true'])", "subprocess.Popen"),
        ("import os; os.system('true')", "os.system"),
        ("open(FOLDER + '-beside', 'w').close()", "open for writing"),
    ],
)
def test_the_hook_sees(code: str, event: str, tmp_path: Path) -> None:
    seen = watched(code, tmp_path / "work")
    assert any(one.startswith(event) for one in seen), seen


def imported(path: Path) -> set[str]:
    """Packages that a module imports, anywhere in it."""
    tree = ast.walk(ast.parse(path.read_text()))
    return {
        name.split(".")[0]
        for node in tree
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }


def test_no_module_has_a_network_or_a_pickle() -> None:
    """But for --jobs, which talks to processes of its own, and weights of others that somebody has (weights alone)."""
    unwanted = {"socket", "ssl", "urllib", "http", "requests", "pickle", "shelve", "marshal", "subprocess", "ctypes"}
    found = {}
    for folder in ("codec/prow", "cli/prow_cli", "kernels/prow_kernels"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if there := imported(path) & unwanted:
                found[path.relative_to(ROOT).as_posix()] = there
    assert found == {
        "cli/prow_cli/workers.py": {"pickle", "subprocess"},
        "codec/prow/published/one_d_piece.py": {"pickle"},  # the name of an error
    }
