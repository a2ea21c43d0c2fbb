"""Which backend does what: ONNX Runtime or torch, and that torch stays out where it is not needed."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
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
from prow import registry
from prow.backends import select
from prow.backends.onnx_backend import OnnxBackend
from prow.backends.torch_backend import TorchBackend
from prow.coding.codec import Codec
from prow.errors import InputError
from prow.options import STYLES
from prow_cli.main import main

INSTALL = "pip install 'prow[torch]'"
NOT_INSTALLED = f"torch is not installed: {INSTALL}"


@pytest.fixture(autouse=True)
def no_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROW_BACKEND", raising=False)


def hide(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Let packages look as if they were not installed."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in packages else find_spec(name))


def environment(**variables: str) -> dict[str, str]:
    """That of a process of its own."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", **variables}


# -- torch stays out ---------------------------------------------------------------------------------------------

NO_TORCH_LOADED = """
import sys
from pathlib import Path
loaded = lambda *names: [n for n in names if n in sys.modules]
import prow, prow.backends.select
prow.backends.select.gpu_in_sight = lambda: False
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
    command = [sys.executable, "-c", NO_TORCH_LOADED, photo, out, file]
    subprocess.run(command, env=environment(), check=True, timeout=120)
    monkeypatch.setenv("PROW_BACKEND", "torch")
    assert len(file.read_bytes()) == 200
    with Image.open(out) as picture:
        assert np.abs(np.asarray(picture, int) - np.asarray(prow.decode(file.read_bytes()), int)).max() <= 1


# -- the choice --------------------------------------------------------------------------------------------------


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
        monkeypatch.setattr(select, "gpu_in_sight", lambda gpu=gpu: gpu)
        assert select.choose(config, device) == chosen
    monkeypatch.setenv("PROW_BACKEND", "")
    assert select.choose(toy, "cpu") == "torch"
    hide(monkeypatch, "onnxruntime")
    assert select.choose(config, "cpu") == "torch"


def test_the_backend_that_was_chosen_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = registry.load("prow-small")
    for name, kind in (("onnx", OnnxBackend), ("torch", TorchBackend)):
        monkeypatch.setenv("PROW_BACKEND", name)
        opened = select.open_backend(model, "cpu")
        assert isinstance(opened, kind) and opened.model is model
        assert select.open_backend(model, "cpu") is opened


def test_impossible_wishes_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    config = registry.load("prow-small").config
    monkeypatch.setenv("PROW_BACKEND", "cuda")
    for call in (lambda: select.choose(config, "cpu"), lambda: prow.encode(draw_picture(8, 8), bytes=64)):
        with pytest.raises(InputError, match="PROW_BACKEND is 'cuda', wanted one of onnx, torch, triton"):
            call()
    monkeypatch.setenv("PROW_BACKEND", "onnx")
    with pytest.raises(InputError, match="runs on the CPU, and device 'cuda' was asked for"):
        select.choose(config, "cuda")
    with pytest.raises(InputError, match="no graphs for model prow-small"):
        select.choose(dataclasses.replace(config, width=90), "cpu")
    hide(monkeypatch, "onnxruntime")
    with pytest.raises(InputError, match="PROW_BACKEND is 'onnx', but ONNX Runtime is not installed"):
        select.choose(config, "cpu")


@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_what_takes_torch_whatever_is_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients, of the efforts above 5; else torch has nothing to do beside ONNX Runtime."""
    monkeypatch.setenv("PROW_BACKEND", name)
    used, open_torch = [], select.open_torch
    monkeypatch.setattr(select, "open_torch", lambda *a, **options: (used.append(a), open_torch(*a, **options))[1])
    pixels = draw_picture(24, 24)
    for effort in (1, 5, 6):
        data = prow.encode(pixels, bytes=60, effort=effort)
        assert bool(used) == (name == "torch" or effort == 6)
        used.clear()
    for style in STYLES:
        prow.decode(data, style=style)
        assert bool(used) == (name == "torch")
        used.clear()
    prow.encode(pixels, quality=20, effort=9)  # on which efforts have no effect
    assert bool(used) == (name == "torch")


def test_models_says_which_backend_does_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "gpu_in_sight", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("PROW_BACKEND", raising=False)
    config = registry.load("prow-small").config
    cpu = {
        "onnx": "encodes and decodes, on the CPU",
        "torch": "encodes with effort 6 and more, on the CPU",
        "triton": "nothing: torch finds no GPU",
    }
    assert select.explain(config) == cpu
    lines = CliRunner().invoke(main, ["models", "--verbose"]).output.splitlines()
    assert lines[-3:] == [f"backend {name:<8} {what}" for name, what in cpu.items()]
    monkeypatch.setenv("PROW_BACKEND", "torch")
    assert select.explain(config) == {
        "onnx": "nothing: PROW_BACKEND is 'torch'",
        "torch": "encodes and decodes, on the CPU",
        "triton": "nothing: PROW_BACKEND is 'torch'",
    }
    monkeypatch.setenv("PROW_BACKEND", "triton")
    assert select.explain(config)["torch"] == "nothing: PROW_BACKEND asks for triton"
    monkeypatch.delenv("PROW_BACKEND")
    monkeypatch.setattr(select, "gpu_in_sight", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(prow_kernels, "triton_failure", lambda: "RuntimeError: no")
    assert select.explain(config)["triton"] == "nothing: it fails, so torch takes over (RuntimeError: no)"
    monkeypatch.setattr(prow_kernels, "triton_failure", lambda: "")
    assert select.explain(config) == {
        "onnx": "nothing: a GPU is in sight, which it cannot use",
        "torch": "encodes and decodes, on the GPU",
        "triton": "attention, on the GPU",
    }
    hide(monkeypatch, "onnxruntime", "triton")
    found = select.explain(config)
    assert found["onnx"] == "nothing: ONNX Runtime is not installed (pip install onnxruntime)"
    assert found["triton"] == "nothing: it is not installed (pip install 'prow[gpu]')"


def test_gpu_in_sight(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(select.shutil, "which", lambda name: None)
    monkeypatch.setattr(select, "_DRIVERS", (str(tmp_path / "none"),))
    assert not select.gpu_in_sight()
    monkeypatch.setattr(select, "_DRIVERS", (str(tmp_path / "none"), str(tmp_path)))
    assert select.gpu_in_sight()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not select.gpu_in_sight()


# -- torch is not installed --------------------------------------------------------------------------------------

NOT_THERE = """
import json, os, sys
from importlib.machinery import PathFinder
from pathlib import Path


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "safetensors", "triton"):
            return None
        return PathFinder.find_spec(name, path, target)


sys.meta_path = [Finder if finder is PathFinder else finder for finder in sys.meta_path]
photo, folder = sys.argv[1], Path(sys.argv[2])
import prow
from click.testing import CliRunner
from prow import registry
from prow.backends import select
from prow_cli.main import main

data = prow.encode(photo, bytes=300)
(folder / "a.prow").write_bytes(data)
for style in ("faithful", "vivid"):
    prow.decode(data, style=style).save(folder / f"{style}.png")
    assert prow.decode_many([data, data[:50]], style=style)[0] == prow.decode(data, style=style)
assert len(prow.encode_many([photo, photo], bpp=1, effort=1)) == 2
assert prow.detokenize(prow.tokenize(photo, bytes=300)).tobytes() == prow.decode(data).tobytes()
assert prow.encode(photo, quality=30, effort=9)
assert prow.decode(prow.encode(photo, bytes=100, model="anchor", device="cpu"), device="cpu").size
explained = [select.explain(registry.load(name).config) for name in ("prow-small", "anchor")]
lines = CliRunner().invoke(main, ["models", "--verbose"]).output.splitlines()
os.environ["PROW_BACKEND"] = "onnx"
explained.append(select.explain(registry.load("default").config))
del os.environ["PROW_BACKEND"]

errors = {}
for name, wish, work in (
    ("effort", "", lambda: prow.encode(photo, bytes=300, effort=6)),
    ("many", "", lambda: prow.encode_many([photo], bytes=300, effort=9)),
    ("tokenize", "", lambda: prow.tokenize(photo, bytes=300, effort=7)),
    ("cuda", "", lambda: prow.encode(photo, bytes=300, device="cuda")),
    ("decode cuda", "", lambda: prow.decode(data, device="cuda")),
    ("decode many cuda", "", lambda: prow.decode_many([data], device="cuda:1")),
    ("both", "", lambda: prow.encode(photo, bytes=300, effort=6, device="cuda")),
    ("torch", "torch", lambda: prow.encode(photo, bytes=300)),
    ("decode torch", "torch", lambda: prow.decode(data)),
    ("vivid torch", "torch", lambda: prow.decode(data, style="vivid")),
    ("triton", "triton", lambda: prow.decode(data)),
    ("effort onnx", "onnx", lambda: prow.encode(photo, bytes=300, effort=6)),
    ("explain", "torch", lambda: select.explain(registry.load("default").config)),
):
    os.environ["PROW_BACKEND"] = wish
    try:
        work()
    except prow.InputError as error:
        errors[name] = [type(error).__name__, str(error)]
    else:
        errors[name] = None
print(json.dumps({"explained": explained, "lines": lines, "errors": errors}))
"""


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What a process found that has no torch, and the folder where its pictures are."""
    folder = tmp_path_factory.mktemp("without")
    Image.fromarray(draw_picture(70, 49)).save(folder / "photo.png")
    command = [sys.executable, "-c", NOT_THERE, folder / "photo.png", folder]
    env = environment(PROW_BACKEND="")
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "folder": folder}


def test_without_torch_files_are_the_same(without_torch: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = without_torch["folder"]
    data = (folder / "a.prow").read_bytes()
    assert len(data) == 300
    monkeypatch.setenv("PROW_BACKEND", "torch")
    for style in STYLES:
        with Image.open(folder / f"{style}.png") as picture:
            wanted = np.asarray(prow.decode(data, style=style), int)
            assert np.abs(np.asarray(picture, int) - wanted).max() <= (1 if style == "faithful" else 2)


def test_without_torch_errors_say_how_to_get_it(without_torch: dict) -> None:
    errors = without_torch["errors"]
    assert all(errors.values())
    for kind, message in errors.values():
        assert kind == "InputError"
        assert INSTALL in message and "\n" not in message and message.count(INSTALL) == 1
    messages = {name: message for name, (_, message) in errors.items()}
    for name, effort in (("effort", 6), ("many", 9), ("tokenize", 7), ("effort onnx", 6)):
        assert messages[name] == f"effort {effort} wants torch, but {NOT_INSTALLED}"
    for name, device in (("cuda", "cuda"), ("decode cuda", "cuda"), ("decode many cuda", "cuda:1"), ("both", "cuda")):
        why = f"ONNX Runtime runs on the CPU, and device '{device}' was asked for"
        assert messages[name] == f"{why}; {NOT_INSTALLED}"
    for name in ("torch", "decode torch", "vivid torch", "explain"):
        assert messages[name] == f"PROW_BACKEND is 'torch', but {NOT_INSTALLED}"
    assert messages["triton"] == f"PROW_BACKEND is 'triton', but {NOT_INSTALLED}"


def test_without_torch_it_is_said_what_does_what(without_torch: dict) -> None:
    wanted = {
        "onnx": "encodes and decodes, on the CPU",
        "torch": f"nothing: {NOT_INSTALLED}",
        "triton": f"nothing: {NOT_INSTALLED}",
    }
    assert without_torch["explained"] == [wanted] * 3
    assert without_torch["lines"][-3:] == [f"backend {name:<8} {what}" for name, what in wanted.items()]


def test_choice_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "torch")
    config = registry.load("prow-small").config
    other = dataclasses.replace(config, width=90)
    for gpu in (False, True):  # a GPU in sight is of no use then
        monkeypatch.setattr(select, "gpu_in_sight", lambda gpu=gpu: gpu)
        assert select.choose(config, "auto") == select.choose(config, "cpu") == "onnx"
    for work in (lambda: select.choose(other, "auto"), lambda: select.explain(other)):
        with pytest.raises(InputError, match="no graphs for model prow-small") as caught:
            work()
        assert str(caught.value).endswith(NOT_INSTALLED)
    hide(monkeypatch, "onnxruntime")
    with pytest.raises(InputError, match="ONNX Runtime is not installed") as caught:
        select.choose(config, "auto")
    assert str(caught.value).endswith(NOT_INSTALLED)


def test_without_torch_nothing_is_encoded_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes torch in the end is refused in the beginning."""
    hide(monkeypatch, "torch")

    def work(*given: object, **options: object) -> None:
        raise AssertionError("work was done")

    monkeypatch.setattr(Codec, "encode_many", work)
    with pytest.raises(InputError, match="effort 8 wants torch"):
        prow.encode(draw_picture(20, 20), bytes=60, effort=8)
