"""What turns pixels into tokens and tokens into pixels: the one place where that is chosen.

`onnx` is ONNX Runtime on the CPU, which does without torch; `torch` is torch on any device, whose kernels in
`prow_kernels` choose between torch and Triton themselves. Where torch is not installed, or there is no GPU, it is
`onnx`, else `torch`. `PROW_BACKEND=onnx|torch|triton` overrides this. What follows gradients (encoding with an effort
above 5) takes torch in any case.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from functools import cache
from typing import TYPE_CHECKING, Literal

from ..arguments import told
from ..errors import InputError
from ..format.config import Config
from ..registry import ModelFile
from .base import Backend
from .onnx_backend import OnnxBackend, graph_file

if TYPE_CHECKING:
    from .torch_backend import TorchBackend

BACKENDS = ("onnx", "torch", "triton")
# Files of the drivers of NVIDIA (Linux, then under Windows' own Linux) and AMD.
_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


def wanted() -> str:
    """What PROW_BACKEND asks for, "" for nothing.

    Raises:
        InputError: there is no such backend.
    """
    name = os.environ.get("PROW_BACKEND", "")
    if name not in ("", *BACKENDS):
        raise InputError(f"PROW_BACKEND is {name!r}, wanted one of {', '.join(BACKENDS)}")
    return name


def choose(config: Config, device: str) -> Literal["onnx", "torch"]:
    """The backend that encodes and decodes files of a model on a device as in `prow.decode`.

    Raises:
        InputError: PROW_BACKEND asks for what there is not, or for what cannot run here; or nothing can.
    """
    name, without_torch = wanted(), why_not_torch()
    if name in ("torch", "triton"):
        if without_torch:
            raise InputError(f"PROW_BACKEND is {name!r}, but {without_torch}")
        return "torch"
    why_not = _why_not_onnx(config, device)
    if why_not and (name or without_torch):
        asked = "PROW_BACKEND is 'onnx', but " if name else ""
        raise InputError(asked + why_not + (f"; {without_torch}" if without_torch else ""))
    by_choice = not name and not without_torch and device == "auto" and gpu_in_sight()
    return "torch" if why_not or by_choice else "onnx"


def explain(config: Config) -> dict[str, str]:
    """For each backend what it does with files of a model on this machine, or why it does nothing. Imports torch, and
    tries the kernel.

    Raises:
        InputError: as `choose`.
    """
    chosen, without_torch = choose(config, "auto"), why_not_torch()
    if without_torch:
        nothing = f"nothing: {without_torch}"
        return {"onnx": "encodes and decodes, on the CPU", "torch": nothing, "triton": nothing}
    import torch

    name, on_gpu = wanted(), torch.cuda.is_available()
    device = "the GPU" if on_gpu else "the CPU"
    does = {"onnx": "encodes and decodes, on the CPU", "torch": f"encodes with effort 6 and more, on {device}"}
    if chosen == "torch":
        by_choice = f"PROW_BACKEND is {name!r}" if name else "a GPU is in sight, which it cannot use"
        does["onnx"] = f"nothing: {_why_not_onnx(config, 'auto') or by_choice}"
        does["torch"] = f"encodes and decodes, on {device}"
    why_not = _why_not_triton(name, on_gpu)
    does["triton"] = f"nothing: {why_not}" if why_not else f"attention, on {device}"
    if why_not and name == "triton":
        does["torch"] = "nothing: PROW_BACKEND asks for triton"
    return does


def _why_not_triton(name: str, on_gpu: bool) -> str:
    from prow_kernels import triton_failure

    if name == "torch":
        return "PROW_BACKEND is 'torch'"
    if importlib.util.find_spec("triton") is None:
        return "it is not installed (pip install 'prow[gpu]')"
    if not on_gpu:
        return "torch finds no GPU"
    failure = triton_failure()
    return f"it fails, so torch takes over ({failure})" if failure else ""


def gpu_in_sight() -> bool:
    """Whether torch may find a GPU. To ask torch itself would cost its import, which `onnx` is there to save."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    return any(os.path.exists(path) for path in _DRIVERS) or shutil.which("nvidia-smi") is not None


def _why_not_onnx(config: Config, device: str) -> str:
    """Why ONNX Runtime cannot run this model; empty if it can. Does not import it."""
    if device not in ("auto", "cpu"):
        return f"ONNX Runtime runs on the CPU, and device {device!r} was asked for"
    if importlib.util.find_spec("onnxruntime") is None:
        return "ONNX Runtime is not installed (pip install onnxruntime)"
    if not graph_file(config, "inverse").is_file():
        return f"there are no graphs for model {config.name} (python -m prow.training.onnx_export writes them)"
    return ""


def why_not_torch() -> str:
    """Why torch cannot be imported; empty if it can. Does not import it."""
    missing = importlib.util.find_spec("torch") is None
    return "torch is not installed: pip install 'prow[torch]'" if missing else ""


def open_backend(model: ModelFile, device: str, *, vivid: bool = False) -> Backend:
    """The backend of choice for a model. Raises as `choose` and `open_torch`."""
    check_device(device)
    return _onnx(model) if choose(model.config, device) == "onnx" else open_torch(model, device, vivid=vivid)


def check_device(device: object) -> None:
    """Raises InputError for what cannot be the name of a device."""
    if not isinstance(device, str) and type(device).__module__ != "torch":
        raise InputError(f"device {told(device)} came, wanted 'auto', 'cpu', 'cuda' or any torch device")


def open_torch(model: ModelFile, device: str, *, vivid: bool = False, user: str = "") -> TorchBackend:
    """A model in torch, ready for inference; networks are kept per model and device.

    Args:
        device: "auto" or any torch device. vivid: with the network of the vivid style. user: who wants it, for errors.

    Raises:
        InputError: torch is not installed, or cannot use the device.
    """
    wanted()  # so that a wrong name is an error here too
    return _torch(model, usable_device(device, user), vivid)


def usable_device(device: str, user: str = "") -> str:
    """The torch device that "auto" or a name stands for; arguments and errors as in `open_torch`."""
    if why_not := why_not_torch():
        raise InputError(f"{user} wants torch, but {why_not}" if user else why_not)
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InputError(f"device {device!r} came, torch cannot use it: {str(error).splitlines()[0]}") from None
    return device


@cache
def _onnx(model: ModelFile) -> OnnxBackend:
    return OnnxBackend(model)


@cache
def _torch(model: ModelFile, device: str, vivid: bool) -> TorchBackend:
    from .torch_backend import load_backend

    return load_backend(model, device, vivid=vivid)
