"""Files of models: those of the package are the ones of this release, and no bytes do more than raise a ModelError."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TOY, forget_models

import prow
from prow import registry
from prow import sums as written
from prow.backends.onnx_backend import OnnxBackend
from prow.errors import ModelError
from prow.format.config import Config
from prow.registry import parse_model
from prow.training import sums

SHIPPED = sorted(written.SHA256)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package's models and graphs, installed in its place."""
    for name in SHIPPED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sums.PACKAGE / name, tmp_path / name)
    monkeypatch.setattr(registry, "_PACKAGE", tmp_path)
    monkeypatch.setattr(registry, "_WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr("prow.backends.onnx_backend.graph_folder", lambda: tmp_path / "graphs")
    forget_models()
    registry._files.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    registry._files.cache_clear()
    forget_models()


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_the_list_is_that_of_the_files() -> None:
    """If this fails: python -m prow.training.sums, which writes the list for new weights."""
    assert (sums.PACKAGE / "sums.py").read_text() == sums.listed()
    assert {"weights/anchor.safetensors", "weights/prow-small.safetensors"} <= set(SHIPPED)


@pytest.mark.parametrize("name", [name for name in SHIPPED if name.startswith("weights/")])
def test_one_flipped_bit_of_a_model_is_refused(package: Path, name: str) -> None:
    path = package / name
    flip(path, random.Random(name).randrange(path.stat().st_size))
    model = Path(name).stem
    with pytest.raises(ModelError) as caught:
        registry.load(model)
    came, wanted = re.findall(r"\b[0-9a-f]{64}\b", str(caught.value))
    assert wanted == written.SHA256[name] != came and str(path) in str(caught.value)
    with pytest.raises(ModelError, match=came):
        prow.models()


def test_one_flipped_bit_of_a_graph_is_refused(package: Path) -> None:
    backend = OnnxBackend(registry.load("anchor"))
    (path,) = (package / name for name in SHIPPED if name.startswith("graphs/anchor") and "inverse" in name)
    flip(path, 9000)
    with pytest.raises(ModelError, match=r"inverse\.onnx has the SHA-256 [0-9a-f]{64}, wanted [0-9a-f]{64}"):
        backend._start("inverse")


def test_new_weights_are_used_once_their_hash_is_written_down(
    package: Path, toy_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Replace or add a model file, run the command, and it is in use."""
    shutil.copy(toy_file, package / "weights" / "toy.safetensors")
    registry._files.cache_clear()
    with pytest.raises(ModelError, match="wanted none: it is no part of this release.*python -m prow.training.sums"):
        registry.load("toy")
    shutil.copy(sums.PACKAGE / "sums.py", package)
    sums.write(package)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith('"weights/toy.safetensors": "')
    names: dict = {}
    exec((package / "sums.py").read_text(), names)
    monkeypatch.setattr(registry, "SHA256", names["SHA256"])
    assert registry.load("toy").config == TOY
    sums.write(package)
    assert "is up to date" in capsys.readouterr().out


def test_a_model_that_cannot_be_read_is_a_model_error(package: Path) -> None:
    path = package / "weights" / "anchor.safetensors"
    path.unlink()
    path.mkdir()
    with pytest.raises(ModelError, match=r"anchor\.safetensors cannot be read"):
        registry.load("anchor")


# -- files of others ------------------------------------------------------------------------------------------------


def test_damage_to_a_model_file_is_a_model_error_or_harmless(toy_file: Path) -> None:
    """Every byte of its JSON, and some of its tables."""
    content, rng = toy_file.read_bytes(), random.Random(5)
    head = 8 + int.from_bytes(content[:8], "little")
    for place in [*range(head), *rng.sample(range(head, len(content)), 200)]:
        damaged = bytearray(content)
        damaged[place] = rng.choice([0, 0x22, 0x2C, 0x30, 0x39, 0x7D, 0xFF, content[place] ^ 1])
        try:
            model = parse_model(bytes(damaged), "toy")
            model.weights("network.")
        except ModelError as error:
            assert "toy" in str(error) or "not a prow model file" in str(error)


def with_entry(content: bytes, key: str, **fields: object) -> bytes:
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header[key].update(fields)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


@pytest.mark.parametrize(
    "fields",
    [
        {"dtype": "F64"},
        {"dtype": None},
        {"data_offsets": [-8, 0]},
        {"data_offsets": [0, 10**12]},
        {"data_offsets": "ab"},
        {"data_offsets": []},
        {"shape": [10**30]},
        {"shape": [-1]},
        {"shape": "x"},
        {"shape": None},
    ],
    ids=str,
)
def test_bad_entries_of_weights_are_model_errors(toy_file: Path, fields: dict) -> None:
    content = toy_file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    name = next(key for key in json.loads(content[8 : 8 + length]) if key.startswith("network."))
    model = parse_model(with_entry(content, name, **fields), "toy")
    with pytest.raises(ModelError, match="toy is not a prow model file"):
        model.weights("network.")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tile": 8.0}, "tile '8.0' came in a config, wanted int"),
        ({"tile": True}, "tile 'True' came"),
        ({"tile": 10**30}, "wanted int up to 1,048,576"),
        ({"token_dims": [3, "5"]}, "token_dims"),
        ({"token_dims": [[3]]}, "token_dims"),
        ({"token_dims": 5}, "token_dims '5' came in a config, wanted tuple"),
        ({"name": 3}, "name '3' came in a config, wanted str"),
        ({"network": 1}, "network '1' came in a config, wanted bool"),
        ({"usual_base": None}, "usual_base 'None' came"),
        ({"model_id": "1"}, "model_id '1' came"),
        ({"colour": 1}, "colour"),
        ({"fine_dilations": []}, "dilations"),
        ({"fine_dilations": [0]}, "dilations"),
    ],
    ids=str,
)
def test_bad_configs_are_refused_by_name(fields: dict, reason: str) -> None:
    with pytest.raises((ValueError, TypeError), match=reason):
        Config.from_json(json.dumps({**json.loads(TOY.to_json()), **fields}))
    assert Config.from_json(TOY.to_json()) == TOY
