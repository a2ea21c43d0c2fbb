"""What turns pixels into tokens and tokens into pixels: the one place where that is chosen.

`onnx` is ONNX Runtime on the CPU, which starts without torch; `torch` is torch on any device, whose kernels in
`prow_kernels` choose between torch and Triton themselves. Without a GPU and with ONNX Runtime installed it is `onnx`,
else `torch`. `PROW_BACKEND=onnx|torch|triton` overrides this. What follows gradients (encoding with an effort above 5)
and the vivid style take torch in any case.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import Literal

from .config import Config
from .errors import InputError
from .onnx_codec import graph_folder

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
        InputError: PROW_BACKEND asks for what there is not, or for what cannot run here.
    """
    name = wanted()
    if name in ("torch", "triton"):
        return "torch"
    why_not = _why_not_onnx(config, device)
    if name and why_not:
        raise InputError(f"PROW_BACKEND is 'onnx', but {why_not}")
    return "torch" if why_not or (not name and device == "auto" and gpu_in_sight()) else "onnx"


def explain(config: Config) -> dict[str, str]:
    """For each backend what it does with files of a model on this machine, or why it does nothing. Imports torch, and
    tries the kernel.

    Raises:
        InputError: as `choose`.
    """
    import torch

    from prow_kernels import triton_failure

    name, on_gpu = wanted(), torch.cuda.is_available()
    device = "the GPU" if on_gpu else "the CPU"
    found = {"onnx": "encodes and decodes, on the CPU", "torch": f"encodes with effort 6 and more, on {device}"}
    found["triton"] = f"attention, on {device}"
    if choose(config, "auto") == "torch":
        by_choice = f"PROW_BACKEND is {name!r}" if name else "a GPU is in sight, which it cannot use"
        found["onnx"] = f"nothing: {_why_not_onnx(config, 'auto') or by_choice}"
        found["torch"] = f"encodes and decodes, on {device}"
    why_not = "" if name != "torch" else "PROW_BACKEND is 'torch'"
    if importlib.util.find_spec("triton") is None:
        why_not = why_not or "it is not installed (pip install 'prow[gpu]')"
    if not on_gpu:
        why_not = why_not or "torch finds no GPU"
    if not why_not and (failure := triton_failure()):
        why_not = f"it fails, so torch takes over ({failure})"
    if why_not:
        found["triton"] = f"nothing: {why_not}"
        if name == "triton":
            found["torch"] = "nothing: PROW_BACKEND asks for triton"
    return found


def gpu_in_sight() -> bool:
    """Whether torch may find a GPU. To ask torch itself would cost its import, which `onnx` is there to save."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    return any(os.path.exists(path) for path in _DRIVERS) or shutil.which("nvidia-smi") is not None


def _why_not_onnx(config: Config, device: str) -> str:
    """Why ONNX Runtime cannot run this model; empty if it can. Does not import it."""
    if device not in ("auto", "cpu"):
        return f"that runs on the CPU, and device {device!r} was asked for"
    if importlib.util.find_spec("onnxruntime") is None:
        return "ONNX Runtime is not installed (pip install onnxruntime)"
    if not graph_folder(config).is_dir():
        return f"there are no graphs for model {config.name} (python -m prow.training.onnx_export writes them)"
    return ""
