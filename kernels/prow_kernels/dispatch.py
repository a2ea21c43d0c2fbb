"""Which path an op takes: torch or Triton.

`prefix_attention` is the entry that models call. It takes Triton for CUDA tensors when Triton is installed and no
gradient is needed, and torch otherwise. `PROW_BACKEND=torch|triton` overrides this, but for gradients, which the kernel
does not have (an encoder that refines its tokens needs them); an override that cannot be followed is a `BackendError`.
Without an override, a kernel that fails is not tried again: a RuntimeWarning says why, once, and torch takes over.
`PROW_BACKEND=onnx` is about whole decoders, which then run without this package; where torch runs all the same, the op
chooses as without an override.
"""

from __future__ import annotations

import importlib.util
import os
import warnings

import torch
from torch import Tensor

from .ops.prefix_attention.naive import check
from .ops.prefix_attention.torch import prefix_attention_torch

TRITON_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
TRITON_MAX_DIM = 256  # wider heads do not fit into the shared memory of every GPU

_failure = ""  # how the Triton kernel failed in this process; empty if it did not


class BackendError(RuntimeError):
    """The backend that PROW_BACKEND asks for does not exist or cannot run this call."""


def prefix_attention(q: Tensor, k: Tensor, v: Tensor, counts: Tensor) -> Tensor:
    """Attend from q [B, P, H, D] to the first counts[b] tokens of k, v [B, N, H, D]; -> [B, P, H, D].

    Raises ValueError for shapes, counts or devices that do not fit, TypeError for dtypes that do not,
    and BackendError if PROW_BACKEND names a backend that is unknown or cannot run this call.
    """
    if choose_backend(q, k, v) == "triton":
        try:
            return prefix_attention_triton(q, k, v, counts)
        except Exception as error:  # of the compiler, the driver or the GPU: they share no base
            check(q, k, v, counts)  # raises again if the arguments were at fault
            _give_up(error)
    return prefix_attention_torch(q, k, v, counts)


def triton_failure(device: str = "cuda") -> str:
    """How the kernel fails on a device when it is tried there on one token; empty if it runs."""
    x, one = (torch.ones(shape, device=device, dtype=t) for shape, t in (((1, 1, 1, 16), None), (1, torch.int64)))
    try:
        right = (prefix_attention_triton(x, x, x, one) == 1).all()
        return "" if right else "it computes something else"  # to look at it is to wait for the kernel
    except Exception as error:
        return _in_words(error)


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _give_up(error: Exception) -> None:
    """Say that the kernel failed and take torch from now on; with PROW_BACKEND=triton raise BackendError."""
    global _failure
    if isinstance(error, BackendError):
        raise error
    what = _in_words(error)
    if os.environ.get("PROW_BACKEND") == "triton":
        raise BackendError(f"the Triton kernel of prefix_attention failed: {what}") from error
    _failure = what
    warnings.warn(f"the Triton kernel of prefix_attention failed, torch takes over: {what}", RuntimeWarning, 3)


def prefix_attention_triton(q: Tensor, k: Tensor, v: Tensor, counts: Tensor) -> Tensor:
    """The Triton path: forward only, reads no more than the tokens received.

    Needs CUDA tensors (or TRITON_INTERPRET=1, set before Triton is imported, for tests on the CPU).
    On a GPU, counts are not looked at beforehand: values beyond N count as N, below 0 as 0.
    """
    check(q, k, v, counts)
    if why_not := _why_not_triton(q, k, v):
        raise BackendError(f"the triton path of prefix_attention cannot run: {why_not}")
    if q.numel() == 0 or k.shape[1] == 0:
        return torch.zeros_like(q)
    from .ops.prefix_attention.triton import launch

    return launch(q, k, v, counts)


def choose_backend(q: Tensor, k: Tensor, v: Tensor) -> str:
    """-> "torch" or "triton", by PROW_BACKEND, else by what the tensors allow."""
    wanted = os.environ.get("PROW_BACKEND", "")
    if wanted == "onnx":
        wanted = ""
    if wanted not in ("", "torch", "triton"):
        raise BackendError(f"PROW_BACKEND is {wanted!r}, but the backends are 'torch' and 'triton'")
    if wanted == "torch" or (not wanted and not q.is_cuda) or _needs_gradient(q, k, v):
        return "torch"
    why_not = _why_not_triton(q, k, v) or ("" if wanted else _failure)
    if wanted and why_not:
        raise BackendError(f"PROW_BACKEND is 'triton', but prefix_attention cannot run on it: {why_not}")
    return "torch" if why_not else "triton"


def _needs_gradient(q: Tensor, k: Tensor, v: Tensor) -> bool:
    return torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))


def _why_not_triton(q: Tensor, k: Tensor, v: Tensor) -> str:
    """-> why Triton cannot run this call; empty if it can. Does not import Triton."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (pip install 'prow[gpu]')"
    if not q.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        return f"it needs CUDA tensors, and q is on {q.device} (TRITON_INTERPRET=1 runs it, slowly, on the CPU)"
    if _needs_gradient(q, k, v):
        return "it is forward only, and a gradient is needed (use torch.no_grad() or the torch path)"
    if q.dtype not in TRITON_DTYPES:
        return f"it takes float32, float16 and bfloat16, and q is {q.dtype}"
    if q.shape[-1] > TRITON_MAX_DIM:
        return f"it takes heads of up to {TRITON_MAX_DIM} values, and q has {q.shape[-1]}"
    return ""
