"""docs/commands.md, help, and completion."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prow_cli import docs

ROOT = Path(__file__).parents[2]


def test_the_page_is_that_of_the_commands() -> None:
    written = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert written == docs.page(), "run: python -m prow_cli.docs > docs/commands.md"


@pytest.mark.parametrize(("name", "text"), list(docs.helps()))
def test_help_fits_a_terminal(name: str, text: str) -> None:
    assert text.startswith(f"Usage: {name}")
    assert max(map(len, text.splitlines())) <= docs.WIDTH


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell: str) -> None:
    line = {"COMP_WORDS": "prow en", "COMP_CWORD": "en" if shell == "fish" else "1"}
    env = {**os.environ, **line, "PYTHONPATH": os.pathsep.join(sys.path), "_PROW_COMPLETE": f"{shell}_complete"}
    command = [sys.executable, "-c", "from prow_cli.main import main\nmain()"]
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and "encode" in result.stdout and "decode" not in result.stdout
