"""Attention from patch queries over a ragged token prefix.

Tile b of a batch has received `counts[b]` tokens out of N slots; its P patch queries attend to these
tokens and to nothing else. A tile without tokens gets zeros. The scale is 1 / sqrt(D).

    q       [B, P, H, D]  one query per patch and head
    k, v    [B, N, H, D]  token slots; slots at and after counts[b] may hold any finite values
    counts  [B]           integers 0..N
    result  [B, P, H, D]  dtype of q

`prefix_attention` is the entry that models call. It takes Triton for CUDA tensors when Triton is
installed and no gradient is needed, and torch otherwise. `PROW_BACKEND=torch|triton` overrides this, but
for gradients, which the kernel does not have (an encoder that refines its tokens needs them); an override
that cannot be followed is a `BackendError`. Without an override, a kernel that fails is not tried again: a
RuntimeWarning says why, once, and torch takes over. `PROW_BACKEND=onnx` is about whole decoders, which
then run without this package; where torch runs all the same, the op chooses as without an override.
"""

from __future__ import annotations

import importlib.util
import os
import warnings

import torch
from torch import Tensor
from torch.nn import functional as F

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
    if _choose_backend(q, k, v) == "triton":
        try:
            return prefix_attention_triton(q, k, v, counts)
        except Exception as error:  # of the compiler, the driver or the GPU: they share no base
            _check(q, k, v, counts)  # raises again if the arguments were at fault
            _give_up(error)
    return prefix_attention_torch(q, k, v, counts)


def triton_failure(device: str = "cuda") -> str:
    """How the kernel fails on a device when it is tried there on one token; empty if it runs."""
    x, one = (torch.ones(shape, device=device, dtype=t) for shape, t in (((1, 1, 1, 16), None), (1, torch.int64)))
    try:
        found = prefix_attention_triton(x, x, x, one)
        right = bool((found == 1).all())  # waits for the kernel
    except Exception as error:
        return _in_words(error)
    return "" if right else "it computes something else"


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


def prefix_attention_naive(q: Tensor, k: Tensor, v: Tensor, counts: Tensor) -> Tensor:
    """The oracle: one tile after the other, softmax in fp32 (fp64 for fp64 inputs)."""
    _check(q, k, v, counts)
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    tiles = []
    for b, n in enumerate(counts.tolist()):
        if n == 0:
            tiles.append(torch.zeros_like(q[b]))
            continue
        scores = torch.einsum("phd,nhd->hpn", q[b].to(wide), k[b, :n].to(wide)) / q.shape[-1] ** 0.5
        tiles.append(torch.einsum("hpn,nhd->phd", scores.softmax(dim=-1), v[b, :n].to(wide)).to(q.dtype))
    return torch.stack(tiles) if tiles else torch.zeros_like(q)


def prefix_attention_torch(q: Tensor, k: Tensor, v: Tensor, counts: Tensor) -> Tensor:
    """The fast torch path: one scaled_dot_product_attention over the batch; differentiable.

    An empty prefix gives zeros and zero gradients: its tiles attend to slot 0, so that no softmax
    runs over nothing, and their result is then replaced.
    """
    _check(q, k, v, counts)
    tokens = k.shape[1]
    ragged = True
    if counts.device.type == "cpu" and counts.numel():  # on a GPU, looking at the counts would be a sync
        lowest, tokens = (int(x) for x in counts.aminmax())
        ragged = lowest < tokens
    if tokens == 0 or q.numel() == 0:
        return q * 0
    # [B, H, P or N, D]; made contiguous since that saves a quarter of the time on a CPU
    q_, k_, v_ = (x.transpose(1, 2).contiguous() for x in (q, k[:, :tokens], v[:, :tokens]))
    if not ragged:
        return F.scaled_dot_product_attention(q_, k_, v_).transpose(1, 2)
    visible = torch.arange(tokens, device=q.device) < counts.clamp(min=1)[:, None]  # [B, N]
    out = F.scaled_dot_product_attention(q_, k_, v_, attn_mask=visible[:, None, None, :])  # [B, H, P, D]
    out = out.masked_fill((counts <= 0)[:, None, None, None], 0.0)
    return out.transpose(1, 2)


def prefix_attention_triton(q: Tensor, k: Tensor, v: Tensor, counts: Tensor) -> Tensor:
    """The Triton path: forward only, reads no more than the tokens received.

    Needs CUDA tensors (or TRITON_INTERPRET=1, set before Triton is imported, for tests on the CPU).
    On a GPU, counts are not looked at beforehand: values beyond N count as N, below 0 as 0.
    """
    _check(q, k, v, counts)
    why_not = _why_not_triton(q, k, v)
    if why_not:
        raise BackendError(f"the triton path of prefix_attention cannot run: {why_not}")
    if q.numel() == 0 or k.shape[1] == 0:
        return torch.zeros_like(q)
    from prow_kernels._prefix_attention_triton import launch

    return launch(q, k, v, counts)


def _choose_backend(q: Tensor, k: Tensor, v: Tensor) -> str:
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


def _check(q: Tensor, k: Tensor, v: Tensor, counts: Tensor) -> None:
    """Validate the arguments of every path; the values of counts only where that costs no sync."""
    if q.ndim != 4 or q.shape[-1] == 0:
        raise ValueError(f"q has shape {list(q.shape)}, wanted [B, P, H, D] with D at least 1")
    batch, _, heads, dim = q.shape
    for name, x in (("k", k), ("v", v)):
        if x.ndim != 4 or (x.shape[0], x.shape[2], x.shape[3]) != (batch, heads, dim):
            raise ValueError(
                f"{name} has shape {list(x.shape)}, but q has {list(q.shape)}: wanted [{batch}, N, {heads}, {dim}]"
            )
        if x.dtype != q.dtype:
            raise TypeError(f"{name} is {x.dtype}, but q is {q.dtype}: wanted one dtype")
    if not q.dtype.is_floating_point:
        raise TypeError(f"q is {q.dtype}, wanted a floating-point dtype")
    if k.shape != v.shape:
        raise ValueError(f"k has shape {list(k.shape)}, but v has {list(v.shape)}: wanted the same")
    if counts.shape != (batch,):
        raise ValueError(f"counts has shape {list(counts.shape)}, but q has {list(q.shape)}: wanted [{batch}]")
    if counts.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        raise TypeError(f"counts is {counts.dtype}, wanted an integer dtype")
    if len({x.device for x in (q, k, v, counts)}) != 1:
        devices = ", ".join(str(x.device) for x in (q, k, v, counts))
        raise ValueError(f"q, k, v, counts are on {devices}: wanted one device")
    if counts.device.type == "cpu" and batch:
        low, high = (int(x) for x in counts.aminmax())
        if low < 0 or high > k.shape[1]:
            raise ValueError(f"counts go from {low} to {high}, but k has {k.shape[1]} token slots: wanted 0..N")
