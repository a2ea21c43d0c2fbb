"""Which backend does what: ONNX Runtime or torch, and that torch stays out where it is not needed."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import draw_picture
from PIL import Image

import prow
import prow_kernels
from prow import api, backend, registry
from prow.errors import InputError
from prow_cli.main import main

torch_codec = api._torch_codec


@pytest.fixture(autouse=True)
def no_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROW_BACKEND", raising=False)


WITHOUT_TORCH = """
import sys
from pathlib import Path
loaded = lambda *names: [n for n in names if n in sys.modules]
import prow, prow.backend
prow.backend.gpu_in_sight = lambda: False
assert not loaded("torch", "onnxruntime"), "too early"
data = prow.encode(sys.argv[1], bytes=200)
assert prow.inspect(data).state == "whole"
prow.decode(data).save(sys.argv[2])
Path(sys.argv[3]).write_bytes(data)
assert loaded("onnxruntime") and not loaded("torch", "onnx", "onnxscript"), "torch came in"
"""


def test_encodes_and_decodes_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo, out, file = tmp_path / "photo.png", tmp_path / "a.png", tmp_path / "a.prow"
    Image.fromarray(draw_picture(40, 33)).save(photo)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, photo, out, file], env=env, check=True, timeout=120)
    monkeypatch.setenv("PROW_BACKEND", "torch")
    assert len(file.read_bytes()) == 200
    with Image.open(out) as picture:
        assert np.abs(np.asarray(picture, int) - np.asarray(prow.decode(file.read_bytes()), int)).max() <= 1


def test_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    config, toy = registry.load("prow-small").config, dataclasses.replace(registry.load("prow-small").config, width=90)
    for wish, gpu, device, chosen in (
        ("", False, "auto", "onnx"),
        ("", True, "auto", "torch"),
        ("", True, "cpu", "onnx"),
        ("", False, "cuda", "torch"),
        ("torch", False, "cpu", "torch"),
        ("triton", False, "auto", "torch"),
        ("onnx", True, "auto", "onnx"),
    ):
        monkeypatch.setenv("PROW_BACKEND", wish)
        monkeypatch.setattr(backend, "gpu_in_sight", lambda gpu=gpu: gpu)
        assert backend.choose(config, device) == chosen
    monkeypatch.setenv("PROW_BACKEND", "")
    assert backend.choose(toy, "cpu") == "torch"
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else real(name))
    assert backend.choose(config, "cpu") == "torch"


def test_impossible_wishes_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    config = registry.load("prow-small").config
    monkeypatch.setenv("PROW_BACKEND", "cuda")
    for call in (lambda: backend.choose(config, "cpu"), lambda: prow.encode(draw_picture(8, 8), bytes=64)):
        with pytest.raises(InputError, match="PROW_BACKEND is 'cuda', wanted one of onnx, torch, triton"):
            call()
    monkeypatch.setenv("PROW_BACKEND", "onnx")
    with pytest.raises(InputError, match="runs on the CPU, and device 'cuda' was asked for"):
        backend.choose(config, "cuda")
    with pytest.raises(InputError, match="no graphs for model prow-small"):
        backend.choose(dataclasses.replace(config, width=90), "cpu")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="ONNX Runtime is not installed"):
        backend.choose(config, "cpu")


@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_what_takes_torch_whatever_is_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients, of the efforts above 5, and the vivid style; else torch has nothing to do beside ONNX Runtime."""
    monkeypatch.setenv("PROW_BACKEND", name)
    used = []
    monkeypatch.setattr(api, "_torch_codec", lambda *a: (used.append(a), torch_codec(*a))[1])
    pixels = draw_picture(24, 24)
    for effort in (1, 5, 6):
        data = prow.encode(pixels, bytes=60, effort=effort)
        assert bool(used) == (name == "torch" or effort == 6)
        used.clear()
    prow.decode(data)
    assert bool(used) == (name == "torch")
    prow.decode(data, style="vivid")
    assert used


def test_models_says_which_backend_does_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "gpu_in_sight", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("PROW_BACKEND", raising=False)
    config = registry.load("prow-small").config
    cpu = {
        "onnx": "encodes and decodes, on the CPU",
        "torch": "encodes with effort 6 and more, on the CPU",
        "triton": "nothing: torch finds no GPU",
    }
    assert backend.explain(config) == cpu
    lines = CliRunner().invoke(main, ["models", "--verbose"]).output.splitlines()
    assert lines[-3:] == [f"backend {name:<8} {what}" for name, what in cpu.items()]
    monkeypatch.setenv("PROW_BACKEND", "torch")
    assert backend.explain(config) == {
        "onnx": "nothing: PROW_BACKEND is 'torch'",
        "torch": "encodes and decodes, on the CPU",
        "triton": "nothing: PROW_BACKEND is 'torch'",
    }
    monkeypatch.setenv("PROW_BACKEND", "triton")
    assert backend.explain(config)["torch"] == "nothing: PROW_BACKEND asks for triton"
    monkeypatch.delenv("PROW_BACKEND")
    monkeypatch.setattr(backend, "gpu_in_sight", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(prow_kernels, "triton_failure", lambda: "RuntimeError: no")
    assert backend.explain(config)["triton"] == "nothing: it fails, so torch takes over (RuntimeError: no)"
    monkeypatch.setattr(prow_kernels, "triton_failure", lambda: "")
    assert backend.explain(config) == {
        "onnx": "nothing: a GPU is in sight, which it cannot use",
        "torch": "encodes and decodes, on the GPU",
        "triton": "attention, on the GPU",
    }
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: None)
    found = backend.explain(config)
    assert found["onnx"] == "nothing: ONNX Runtime is not installed (pip install onnxruntime)"
    assert found["triton"] == "nothing: it is not installed (pip install 'prow[gpu]')"


def test_gpu_in_sight(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(backend.shutil, "which", lambda name: None)
    monkeypatch.setattr(backend, "_DRIVERS", (str(tmp_path / "none"),))
    assert not backend.gpu_in_sight()
    monkeypatch.setattr(backend, "_DRIVERS", (str(tmp_path / "none"), str(tmp_path)))
    assert backend.gpu_in_sight()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not backend.gpu_in_sight()
