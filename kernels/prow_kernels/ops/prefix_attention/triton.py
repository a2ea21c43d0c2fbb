"""The Triton kernel of prefix attention. Imported by `prefix_attention_triton` alone, on its first call."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

MIN_BLOCK = 16  # the smallest side tl.dot takes


def block_sizes(patches: int, slots: int, dim: int) -> tuple[int, int, int]:
    """-> queries per program, tokens per step and padded D, all powers of two.

    Chosen so that a program takes at most 48 KiB of shared memory up to D = 256 (every GPU has that much).
    Up to 64 queries (32 for D > 64, 16 for D > 128) are one program; more are split over the grid's second axis.
    """
    block_d = max(MIN_BLOCK, triton.next_power_of_2(dim))
    most_p, most_n = max(MIN_BLOCK, min(64, 4096 // block_d)), max(MIN_BLOCK, min(32, 2048 // block_d))
    block_p = min(most_p, max(MIN_BLOCK, triton.next_power_of_2(patches)))
    block_n = min(most_n, max(MIN_BLOCK, triton.next_power_of_2(slots)))
    return block_p, block_n, block_d


@triton.jit
def _prefix_attention_kernel(
    q_ptr, k_ptr, v_ptr, counts_ptr, o_ptr,
    q_stride_b, q_stride_p, q_stride_h,
    k_stride_b, k_stride_n, k_stride_h,
    v_stride_b, v_stride_n, v_stride_h,
    o_stride_b, o_stride_p, o_stride_h,
    patches, heads, dim, slots, scale_log2,
    BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program per (tile, head) and block of queries; online softmax in base 2, everything in fp32."""
    b = (tl.program_id(0) // heads).to(tl.int64)
    h = (tl.program_id(0) % heads).to(tl.int64)
    o_p = tl.program_id(1) * BLOCK_P + tl.arange(0, BLOCK_P)
    o_n = tl.arange(0, BLOCK_N)
    o_d = tl.arange(0, BLOCK_D)
    m_d = o_d < dim
    m_pd = (o_p < patches)[:, None] & m_d[None, :]
    count = tl.minimum(tl.load(counts_ptr + b).to(tl.int32), slots)

    b_q = tl.load(q_ptr + b * q_stride_b + h * q_stride_h + o_p[:, None] * q_stride_p + o_d[None, :], m_pd, 0.0)
    b_q = b_q.to(tl.float32)  # [BLOCK_P, BLOCK_D]
    b_max = tl.full([BLOCK_P], float("-inf"), tl.float32)
    b_sum = tl.zeros([BLOCK_P], tl.float32)
    b_acc = tl.zeros([BLOCK_P, BLOCK_D], tl.float32)
    for start in range(0, count, BLOCK_N):
        m_n = start + o_n < count
        m_nd = m_n[:, None] & m_d[None, :]
        o_k = (start + o_n)[:, None] * k_stride_n + o_d[None, :]
        b_k = tl.load(k_ptr + b * k_stride_b + h * k_stride_h + o_k, m_nd, 0.0).to(tl.float32)
        o_v = (start + o_n)[:, None] * v_stride_n + o_d[None, :]
        b_v = tl.load(v_ptr + b * v_stride_b + h * v_stride_h + o_v, m_nd, 0.0).to(tl.float32)
        b_s = tl.dot(b_q, tl.trans(b_k), input_precision="ieee") * scale_log2  # [BLOCK_P, BLOCK_N]
        b_s = tl.where(m_n[None, :], b_s, float("-inf"))
        b_new_max = tl.maximum(b_max, tl.max(b_s, 1))  # finite: every block has at least one token
        b_keep = tl.exp2(b_max - b_new_max)
        b_p = tl.exp2(b_s - b_new_max[:, None])
        b_sum = b_sum * b_keep + tl.sum(b_p, 1)
        b_acc = b_acc * b_keep[:, None] + tl.dot(b_p, b_v, input_precision="ieee")
        b_max = b_new_max
    b_o = b_acc / tl.where(b_sum > 0, b_sum, 1.0)[:, None]  # no tokens: zeros
    o_o = b * o_stride_b + h * o_stride_h + o_p[:, None] * o_stride_p + o_d[None, :]
    tl.store(o_ptr + o_o, b_o.to(o_ptr.dtype.element_ty), m_pd)


def launch(q: Tensor, k: Tensor, v: Tensor, counts: Tensor) -> Tensor:
    """Run the kernel on validated, non-empty q [B, P, H, D], k, v [B, N, H, D], counts [B]; -> [B, P, H, D]."""
    batch, patches, heads, dim = q.shape
    slots = k.shape[1]
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    block_p, block_n, block_d = block_sizes(patches, slots, dim)
    strides = [s for x in (q, k, v, out) for s in x.stride()[:3]]
    kernel: Any = _prefix_attention_kernel  # its signature, as types see it, is not that of a launch
    with torch.cuda.device_of(q):
        kernel[(batch * heads, triton.cdiv(patches, block_p))](
            q, k, v, counts.contiguous(), out, *strides,
            patches, heads, dim, slots, dim**-0.5 * 1.4426950408889634,
            BLOCK_P=block_p, BLOCK_N=block_n, BLOCK_D=block_d, num_stages=1,
        )  # fmt: skip
    return out
