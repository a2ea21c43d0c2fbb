"""requirements.txt: what a release depends on, pinned and with hashes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.utils import canonicalize_name
from test_install import needed

ROOT = Path(__file__).parents[1]


def pinned(text: str) -> dict[str, str]:
    """Version by name of all lines such as numpy==2.4.6."""
    found = re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def test_everything_that_a_release_depends_on_is_pinned_by_hashes() -> None:
    text = (ROOT / "requirements.txt").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = pinned(text)
    missing = needed(project["dependencies"]).keys() - versions.keys()
    assert not missing, "run `make requirements`"
    blocks = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(versions)
    for block in blocks:
        assert re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block), block


def test_versions_are_those_that_prow_is_tested_with() -> None:
    tested = pinned((ROOT / "constraints.txt").read_text())
    versions = pinned((ROOT / "requirements.txt").read_text())
    assert {name: version for name, version in versions.items() if version != tested.get(name, version)} == {}, (
        "run `make requirements`"
    )
