"""The file of a model for browsers: all of it follows from the model file."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

from prow import registry, web
from prow.backends.onnx_backend import graph_file

LARGEST = 3_000_000  # bytes of decoder and model: what a page loads, but for ONNX Runtime


def tensors_of(content: bytes) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    content = gzip.decompress(content)
    length = int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    names = {"I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "F32": "<f4"}
    metadata, found = header.pop("__metadata__"), {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        found[name] = np.frombuffer(body[start:end], names[entry["dtype"]]).reshape(entry["shape"])
    return metadata, found


@pytest.mark.parametrize("name", ["anchor", "prow-small"])
def test_it_holds_the_model(name: str) -> None:
    model = registry.load(name)
    content = web.web_model(model)
    assert content == web.web_model(model)
    metadata, tensors = tensors_of(content)
    assert metadata["sha256"] == hashlib.sha256(model.content).hexdigest()
    config = json.loads(metadata["prow"])
    assert config == {**json.loads(model.config.to_json()), "reach": model.config.reach}
    for field in dataclasses.fields(model.tables):
        assert np.array_equal(tensors[f"tables.{field.name}"], getattr(model.tables, field.name))
    for key, weights in model.weights("network.").items():
        if weights.ndim == 1:
            assert np.array_equal(tensors[key], weights)
            continue
        folded = tensors[key][0] + 256 * tensors[key][1].astype(int)
        scale = tensors[f"{key}.scale"].reshape(-1, *[1] * (weights.ndim - 1))
        came = np.where(folded & 1, -(folded + 1) // 2, folded // 2) * scale
        assert np.abs(came - weights).max() <= scale.max() * 0.51
        assert np.all(np.abs(came - weights) <= scale * 0.51)


def test_graphs_are_those_of_the_package_without_weights() -> None:
    model = registry.load("prow-small")
    _, tensors = tensors_of(web.web_model(model))
    graphs = {key.partition(".")[2]: array for key, array in tensors.items() if key.startswith("graphs.")}
    assert set(graphs) == {"decoder", "coarse_filter", "fine_filter", "light_filter"}
    for name, array in graphs.items():
        wanted = onnx.load_from_string(graph_file(model.config, name).read_bytes())
        kept = [one for one in wanted.graph.initializer if not one.name.startswith(f"network.{name}.")]
        del wanted.graph.initializer[:]
        wanted.graph.initializer.extend(kept)
        assert onnx.load_from_string(array.tobytes()) == wanted


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "folder" / "anchor.prowmodel"
    web.main(["--model", "anchor", "-o", str(path)])
    content = path.read_bytes()
    assert content == web.web_model(registry.load("anchor"))
    assert hashlib.sha256(content).hexdigest() in capsys.readouterr().out


def test_what_a_page_loads_is_small(built: Path) -> None:
    script = gzip.compress((built / "dist" / "prow-decode.js").read_bytes(), 9)
    assert len(script) + len(web.web_model(registry.load("prow-small"))) < LARGEST


def test_broken_model_files_are_model_errors(node: str) -> None:
    """Cut, not gzipped, with another SHA-256, or with tables that break a rule of the specification."""
    content = web.web_model(registry.load("anchor"))
    raw = gzip.decompress(content)
    bank = raw.index(b"tables.bank")
    cases = {
        "empty": b"",
        "not gzipped": raw,
        "cut": content[:-100],
        "wrong dtype": gzip.compress(raw[:bank] + raw[bank:].replace(b'"I32"', b'"I16"', 1)),
        "a sum that is wrong": gzip.compress(_with_first_frequency(raw)),
        "a long header": gzip.compress(b"\xff" * 8 + raw[8:]),
    }
    right, wrong = f"sha256 {hashlib.sha256(content).hexdigest().upper()}", f"sha256 {'0' * 64}"
    given = {**cases, right: content, wrong: content}
    sent = json.dumps({name: base64.b64encode(data).decode() for name, data in given.items()})
    script = Path(__file__).with_name("load.mjs")
    result = subprocess.run([node, script], input=sent, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found.pop(right) == "fine" and "SHA-256" in found[wrong]
    for name, said in found.items():
        assert re.match("ModelError: .", said), (name, said)


def _with_first_frequency(raw: bytes) -> bytes:
    """A safetensors file whose first table's first number is one more."""
    length = int.from_bytes(raw[:8], "little")
    start = 8 + length + json.loads(raw[8 : 8 + length])["tables.bank"]["data_offsets"][0]
    number = int.from_bytes(raw[start : start + 4], "little") + 1
    return raw[:start] + number.to_bytes(4, "little") + raw[start + 4 :]
