"""What is frozen stays as it is: files and sums of vectors/1.0/, and the models with the ids that are given out.

Both readers find every integer in the vectors: test_vectors.py and test_external.py. The hostile ones break the rule
that is recorded: test_reader.py, test_container.py and test_vectors.py.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from format_spec import VECTORS, freeze, make_vectors
from prow import registry

MODELS = json.loads((VECTORS / "golden.json").read_text())["models"]


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the frozen folder, in its place."""
    folder = shutil.copytree(VECTORS, tmp_path / "1.0")
    monkeypatch.setattr(freeze, "VECTORS", folder)
    return folder


def test_everything_is_as_it_was_frozen() -> None:
    assert freeze.faults(VECTORS) == [], f"a published model never changes; before that run `{make_vectors.COMMAND}`"
    assert all(f"| {facts['id']} | `{name}` |" in make_vectors.SPEC.read_text() for name, facts in MODELS.items())


def test_a_file_that_is_other_missing_or_new_is_named(copied: Path) -> None:
    file = copied / "golden" / "anchor_100x75.prow"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    (copied / "hostile" / "png.bin").unlink()
    (copied / "external" / "new.prow").touch()
    names = ("external/new.prow", "golden/anchor_100x75.prow", "hostile/png.bin")
    assert freeze.faults(copied) == [f"{name} is not as recorded" for name in names]


def test_another_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    anchor = registry.load("anchor")
    monkeypatch.setattr(registry, "load", lambda name: anchor)
    assert freeze.faults(VECTORS) == ["model prow-small is another one"]


def test_the_sum_of_tables_leaves_out_networks_alone(toy_file: Path) -> None:
    content = toy_file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    for name in header.keys() - {"__metadata__"}:
        at = 8 + length + header[name]["data_offsets"][0]
        changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        same = make_vectors.tables_digest(changed) == make_vectors.tables_digest(content)
        assert same == name.startswith("network."), name
    for key in make_vectors.SHAPING:
        config = json.loads(header["__metadata__"]["prow"])
        text = json.dumps({**header, "__metadata__": {"prow": json.dumps({**config, key: 7})}}).encode()
        changed = len(text).to_bytes(8, "little") + text + content[8 + length :]
        assert make_vectors.tables_digest(changed) != make_vectors.tables_digest(content), key


def test_nothing_is_frozen_anew_without_the_option_or_after_a_release(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = freeze.files_in(copied)
    assert freeze.main([]) == 0 and "are as they were frozen" in capsys.readouterr().out
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(copied.parent.parent))
    with pytest.raises(SystemExit, match="git has to say whether a release is published: fatal: not a git"):
        freeze.main(["--refreeze"])
    named = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for arguments in (("init", "-q"), (*named, "commit", "-q", "--allow-empty", "-m", "a"), ("tag", "v0.1.0")):
        subprocess.run(["git", "-C", str(copied.parent), *arguments], check=True)
    with pytest.raises(SystemExit, match="v0.1.0 is published, so the format is frozen: wanted a new id for a new mod"):
        freeze.main(["--refreeze"])
    assert freeze.files_in(copied) == before


def test_freezing_anew_writes_all_of_it(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "SPEC.md"
    shutil.copy(make_vectors.SPEC, spec)
    monkeypatch.setattr(make_vectors, "SPEC", spec)
    monkeypatch.setattr(freeze, "published", lambda: "")
    (copied / "hostile" / "png.bin").unlink()
    (copied / "golden" / "old.prow").touch()
    assert freeze.main(["--refreeze"]) == 0
    assert freeze.files_in(copied).keys() == freeze.files_in(VECTORS).keys()
