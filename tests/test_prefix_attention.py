"""Prefix attention: the torch and Triton paths against the oracle, empty prefixes, gradients, errors."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from conftest import DEVICE
from torch import Tensor

from prow_kernels import (
    BackendError,
    dispatch,
    prefix_attention,
    prefix_attention_naive,
    prefix_attention_torch,
    prefix_attention_triton,
    triton_failure,
)

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no Triton for this system")

# (B, P, N, H, D, counts)
CASES = {
    "odd": (3, 17, 13, 2, 24, [5, 13, 1]),
    "empty_among_full": (4, 16, 8, 1, 16, [0, 8, 0, 3]),
    "all_empty": (2, 4, 6, 1, 8, [0, 0]),
    "all_full": (2, 16, 16, 2, 16, [16, 16]),
    "one_tile": (1, 63, 5, 1, 20, [4]),
    "one_of_each": (1, 1, 1, 1, 1, [1]),
    "two_blocks_of_tokens": (2, 5, 100, 1, 16, [65, 100]),
    "two_blocks_of_queries": (2, 70, 3, 1, 8, [2, 0]),
    "wide_heads": (2, 33, 20, 1, 130, [20, 17]),
    "no_slots": (2, 4, 0, 1, 8, [0, 0]),
    "many_tiles": (4097, 1, 3, 1, 4, [i % 4 for i in range(4097)]),
}
PATHS = [prefix_attention_naive, prefix_attention_torch, pytest.param(prefix_attention_triton, marks=needs_triton)]


def assert_close(name: str, ref: Tensor, tri: Tensor, ratio: float) -> None:
    """The root mean square of the error is at most `ratio` of that of the reference, and nothing is NaN."""
    assert ref.shape == tri.shape, f"{name}: shape {list(tri.shape)}, wanted {list(ref.shape)}"
    assert ref.dtype == tri.dtype, f"{name}: {tri.dtype}, wanted {ref.dtype}"
    assert bool(torch.isfinite(tri).all()), f"{name}: not finite"
    error = (ref.double() - tri.double()).square().sum().sqrt().item()
    size = ref.double().square().sum().sqrt().item()
    assert error <= ratio * size, f"{name}: error {error:.3g} of {size:.3g}, wanted a ratio of {ratio:g}"


def draw(case: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, patches, slots, heads, dim, counts = CASES[case]
    rng = torch.Generator().manual_seed(7)
    q, k, v = (torch.randn(batch, n, heads, dim, generator=rng).to(DEVICE, dtype) for n in (patches, slots, slots))
    return q, k, v, torch.tensor(counts, device=DEVICE)


def test_oracle_by_hand() -> None:
    q = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)
    k = torch.tensor([[2.0, 0.0], [0.0, 5.0], [9.0, 9.0]]).reshape(1, 3, 1, 2)
    v = torch.tensor([[1.0, 0.0], [0.0, 1.0], [7.0, 7.0]]).reshape(1, 3, 1, 2)
    first = torch.tensor(2.0 / 2**0.5).sigmoid()  # softmax of (2 / sqrt 2, 0)
    out = prefix_attention_naive(q, k, v, torch.tensor([2]))
    torch.testing.assert_close(out.flatten(), torch.stack([first, 1 - first]))


@pytest.mark.parametrize("case", CASES)
def test_torch_matches_oracle(case: str) -> None:
    args = draw(case)
    assert_close(case, prefix_attention_naive(*args), prefix_attention_torch(*args), 1e-6)
    args = draw(case, torch.bfloat16)
    assert_close(case + " bf16", prefix_attention_naive(*args), prefix_attention_torch(*args), 1e-2)


@needs_triton
@pytest.mark.parametrize("case", CASES)
def test_triton_matches_oracle(case: str) -> None:
    args = draw(case)
    assert_close(case, prefix_attention_naive(*args), prefix_attention_triton(*args), 1e-6)


@needs_triton
def test_triton_matches_oracle_in_half_precision() -> None:
    for dtype, ratio in ((torch.bfloat16, 5e-3), (torch.float16, 1e-3)):
        args = draw("odd", dtype)
        assert_close(f"odd {dtype}", prefix_attention_naive(*args), prefix_attention_triton(*args), ratio)


@pytest.mark.parametrize("path", PATHS[1:])
def test_strided_inputs(path) -> None:
    q, k, v, counts = draw("odd")
    wanted = prefix_attention_naive(q, k, v, counts)
    kv = torch.stack([k, v], dim=2)  # [B, N, 2, H, D], as a fused projection gives it
    q_t = q.transpose(1, 3).contiguous().transpose(1, 3)  # last stride is not 1
    assert_close(path.__name__, wanted, path(q_t, kv[:, :, 0], kv[:, :, 1], counts.int()), 1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_tokens_beyond_the_prefix_do_not_matter(path) -> None:
    q, k, v, counts = draw("empty_among_full")
    before = path(q, k, v, counts)
    beyond = torch.arange(k.shape[1]) >= counts[:, None]  # [B, N]
    after = path(q, k.masked_fill(beyond[..., None, None], 1e4), v.masked_fill(beyond[..., None, None], -1e4), counts)
    assert torch.equal(before, after)
    assert not after[0].any() and not after[2].any()


@pytest.mark.parametrize("case", ["odd", "empty_among_full", "all_empty", "all_full", "no_slots"])
def test_gradients_match_oracle(case: str) -> None:
    grads = {}
    for path in (prefix_attention_naive, prefix_attention_torch):
        q, k, v, counts = draw(case)
        leaves = [x.requires_grad_() for x in (q, k, v)]
        weights = torch.linspace(-1, 1, q.numel(), device=DEVICE).reshape(q.shape)
        loss = (path(q, k, v, counts) * weights).sum()
        grads[path] = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    for name, ref, got in zip("qkv", grads[prefix_attention_naive], grads[prefix_attention_torch], strict=True):
        assert_close(f"{case} d{name}", ref, got, 1e-5)


def test_gradient_of_an_empty_tile_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROW_BACKEND", raising=False)
    q, k, v, counts = draw("empty_among_full")
    leaves = [x.requires_grad_() for x in (q, k, v)]
    grads = torch.autograd.grad(prefix_attention(q, k, v, counts).square().sum(), leaves)
    for grad in grads:
        assert bool(torch.isfinite(grad).all())
        assert not grad[0].any() and not grad[2].any() and grad[1].any()


def test_shape_errors_name_both_shapes() -> None:
    q, k, v, counts = [x.cpu() for x in draw("odd")]
    with pytest.raises(ValueError, match=r"k has shape \[3, 13, 2, 23\], but q has \[3, 17, 2, 24\]"):
        prefix_attention(q, k[..., :23], v, counts)
    with pytest.raises(ValueError, match=r"k has shape \[3, 13, 2, 24\], but v has \[3, 12, 2, 24\]"):
        prefix_attention(q, k, v[:, :12], counts)
    with pytest.raises(ValueError, match=r"counts has shape \[2\], but q has \[3, 17, 2, 24\]: wanted \[3\]"):
        prefix_attention(q, k, v, counts[:2])
    with pytest.raises(ValueError, match=r"counts go from -1 to 14, but k has 13 token slots"):
        prefix_attention(q, k, v, torch.tensor([-1, 14, 0]))
    with pytest.raises(ValueError, match=r"q has shape \[17, 2, 24\], wanted \[B, P, H, D\]"):
        prefix_attention(q[0], k, v, counts)
    with pytest.raises(TypeError, match=r"v is torch.bfloat16, but q is torch.float32"):
        prefix_attention(q, k, v.bfloat16(), counts)
    with pytest.raises(TypeError, match=r"counts is torch.float32, wanted an integer dtype"):
        prefix_attention(q, k, v, counts.float())


@needs_triton
@pytest.mark.skipif(DEVICE != "cpu", reason="shows what CPU tensors take")
def test_backend_override(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v, counts = [x.cpu() for x in draw("odd")]
    for wanted, path in (("", "torch"), ("onnx", "torch"), ("torch", "torch"), ("triton", "triton")):
        monkeypatch.setenv("PROW_BACKEND", wanted)
        assert dispatch.choose_backend(q, k, v) == path
        assert_close(wanted, prefix_attention_naive(q, k, v, counts), prefix_attention(q, k, v, counts), 1e-6)
    prefix_attention(q.requires_grad_(), k, v, counts).sum().backward()  # by torch: an encoder's refinement does this


@needs_triton
def test_impossible_override_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v, counts = [x.cpu() for x in draw("odd")]
    monkeypatch.setenv("PROW_BACKEND", "cuda")
    with pytest.raises(BackendError, match="PROW_BACKEND is 'cuda', but the backends are 'torch' and 'triton'"):
        prefix_attention(q, k, v, counts)
    monkeypatch.setenv("PROW_BACKEND", "triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(BackendError, match="forward only, and a gradient is needed"):
        prefix_attention_triton(q.clone().requires_grad_(), k, v, counts)
    with pytest.raises(BackendError, match="q is torch.float64"):
        prefix_attention(q.double(), k.double(), v.double(), counts)
    wide = torch.zeros(1, 1, 1, 257)
    with pytest.raises(BackendError, match="heads of up to 256 values, and q has 257"):
        prefix_attention(wide, wide, wide, torch.tensor([1]))
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(BackendError, match="needs CUDA tensors, and q is on cpu"):
        prefix_attention(q, k, v, counts)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "triton" else real(name, *a))
    with pytest.raises(BackendError, match="triton is not installed"):
        prefix_attention(q, k, v, counts)


@needs_triton
def test_trying_the_kernel_says_how_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert triton_failure(DEVICE) == ""
    monkeypatch.setattr(dispatch, "prefix_attention_triton", lambda q, *_: q * 2)
    assert triton_failure(DEVICE) == "it computes something else"
    monkeypatch.setattr(dispatch, "prefix_attention_triton", lambda *_: 1 // 0)
    assert triton_failure(DEVICE).startswith("ZeroDivisionError: ")


def test_a_failing_kernel_falls_back_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    args, tries = draw("odd"), []

    def fail(*_: Tensor) -> Tensor:
        tries.append(1)
        raise RuntimeError("ptxas\n died")

    monkeypatch.setattr(dispatch, "prefix_attention_triton", fail)
    monkeypatch.setattr(dispatch, "_why_not_triton", lambda *_: "")
    monkeypatch.setattr(dispatch, "_failure", "")
    monkeypatch.setenv("PROW_BACKEND", "triton")
    with pytest.raises(BackendError, match="kernel of prefix_attention failed: RuntimeError: ptxas died"):
        prefix_attention(*args)
    monkeypatch.setenv("PROW_BACKEND", "")
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    with pytest.warns(RuntimeWarning, match="failed, torch takes over: RuntimeError: ptxas died"):
        result = prefix_attention(*args)
    assert_close("torch", prefix_attention_naive(*args), result, 1e-6)
    assert len(tries) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prefix_attention(*args)  # without a second warning
    assert len(tries) == 2
    with pytest.raises(ValueError, match="counts has shape"):
        prefix_attention(*args[:3], args[3][:1])


def test_cpu_call_imports_no_triton() -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"  # any import of triton would now fail
        "import torch, prow_kernels\n"
        "x = torch.ones(1, 2, 1, 4)\n"
        "assert prow_kernels.prefix_attention(x, x, x, torch.tensor([2])).tolist() == x.tolist()\n"
    )
    env = {**os.environ, "TRITON_INTERPRET": "0", "PROW_BACKEND": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)


COMPILE = """
import json, sys, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from prow_kernels.ops.prefix_attention import triton as op
kernel, sizes = op._prefix_attention_kernel, {}
for patches, slots, dim in ((16, 10, 32), (70, 100, 130), (64, 32, 256)):
    blocks = dict(zip(("BLOCK_P", "BLOCK_N", "BLOCK_D"), op.block_sizes(patches, slots, dim)))
    for dtype in ("fp32", "fp16", "bf16"):
        pointers = dict.fromkeys(("q_ptr", "k_ptr", "v_ptr", "o_ptr"), f"*{dtype}") | {"counts_ptr": "*i64"}
        types = {"scale_log2": "fp32"} | pointers | dict.fromkeys(blocks, "constexpr")
        signature = {name: types.get(name, "i32") for name in kernel.arg_names}
        source = ASTSource(fn=kernel, signature=signature, constexprs=blocks)
        done = triton.compile(source, target=GPUTarget("cuda", int(sys.argv[1]), 32), options={"num_stages": 1})
        sizes[f"{dtype} {dim}"] = [len(done.asm["cubin"]), done.metadata.shared]
print(json.dumps(sizes))
"""


@needs_triton
@pytest.mark.parametrize("architecture", [80, 90])
def test_kernel_compiles_without_a_gpu(architecture: int, tmp_path: Path) -> None:
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    env |= {"PYTHONPATH": os.pathsep.join(sys.path), "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COMPILE, str(architecture)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    sizes = json.loads(done.stdout)
    assert len(sizes) == 9
    assert all(size > 1000 and shared <= 48 << 10 for size, shared in sizes.values()), sizes
