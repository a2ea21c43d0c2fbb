"""What `pip install prow` gives: the wheel in an environment of its own, with nothing but what it depends on."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import venv
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
SCRIPT = """
import json, sys
import prow
picture, file = sys.argv[1:]
data = prow.encode(picture, bytes=500)
sizes = [prow.decode(data, style=style).size for style in ("faithful", "vivid")]
errors = []
for options in ({"effort": 6}, {"device": "cuda"}):
    try:
        prow.encode(picture, bytes=500, **options)
    except prow.InputError as error:
        errors.append(str(error))
loaded = sorted(name for name in sys.modules if name in ("torch", "safetensors", "rich"))
open(file, "wb").write(data)
print(json.dumps({"place": prow.__file__, "sizes": sizes, "errors": errors, "loaded": loaded}))
"""


def needed(requirements: list[str], extras: frozenset[str] = frozenset()) -> dict[str, Distribution]:
    """The installed packages that these requirements ask for, and what those ask for."""
    packages: dict[str, Distribution] = {}
    for requirement in map(Requirement, requirements):
        environments = [{"extra": extra} for extra in extras or {""}]
        if requirement.marker and not any(requirement.marker.evaluate(e) for e in environments):
            continue
        package = importlib.metadata.distribution(requirement.name)
        packages[canonicalize_name(requirement.name)] = package
        packages |= needed(package.requires or [], frozenset(requirement.extras))
    return packages


def link_package(package: Distribution, folder: Path) -> None:
    """Make an installed package importable from another folder."""
    tops = {file.parts[0] for file in package.files or [] if file.parts[0] not in ("..", "__pycache__")}
    for top in tops:
        link = folder / top
        if not link.exists():
            link.symlink_to(Path(str(package.locate_file(top))))


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment that holds the built wheel and what its metadata asks for."""
    folder = tmp_path_factory.mktemp("install")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", symlinks=True)
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    (metadata,) = site.glob("prow-*.dist-info")
    for package in needed(Distribution.at(metadata).requires or []).values():
        link_package(package, site)
    return folder / "env" / "bin" / "python"


def run(python: Path, *arguments: object, cwd: Path) -> str:
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PROW", "CUDA"))}
    command = [str(python), *map(str, arguments)]
    result = subprocess.run(command, cwd=cwd, env=plain, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_wheel_encodes_and_decodes_without_torch(python: Path, draw, tmp_path: Path) -> None:
    from PIL import Image

    picture, file = tmp_path / "picture.png", tmp_path / "picture.prow"
    Image.fromarray(draw(90, 60)).save(picture)
    told = json.loads(run(python, "-c", SCRIPT, picture, file, cwd=tmp_path))
    assert ROOT not in Path(told["place"]).parents
    assert told["sizes"] == [[90, 60]] * 2 and told["loaded"] == []
    assert len(told["errors"]) == 2
    for message in told["errors"]:
        assert "pip install 'prow[torch]'" in message and "\n" not in message
    with pytest.raises(AssertionError, match="No module named 'torch'"):
        run(python, "-c", "import torch", cwd=tmp_path)


def test_the_wheel_says_that_it_has_types_and_its_version(python: Path, tmp_path: Path) -> None:
    code = "import prow, pathlib; print(pathlib.Path(prow.__file__).with_name('py.typed').is_file(), prow.__version__)"
    wanted = f"True {run(python, '-m', 'prow', '--version', cwd=tmp_path).split()[-1]}\n"
    assert run(python, "-c", code, cwd=tmp_path) == wanted


def test_the_smoke_test_of_a_release(python: Path, tmp_path: Path) -> None:
    assert "vectors" in run(python, "-I", ROOT / "tests" / "smoke.py", cwd=tmp_path)


def test_the_command_line_of_the_wheel_works_without_torch(python: Path, draw, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(draw(90, 60)).save(tmp_path / "a.png")
    command = (python, "-m", "prow_cli.main")
    run(*command, "encode", "a.png", "a.prow", "--bytes", "400", cwd=tmp_path)
    run(*command, "decode", "a.prow", "b.png", "--style", "vivid", cwd=tmp_path)
    run(*command, "compare", "a.png", "--budgets", "300", "-o", "page.html", cwd=tmp_path)
    assert "prow" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (tmp_path / "a.prow").stat().st_size == 400
    assert Image.open(tmp_path / "b.png").size == (90, 60)
    assert "pip install 'prow[torch]'" in run(*command, "models", "--verbose", cwd=tmp_path)
