"""The oracle of prefix attention, and what arguments every path takes."""

from __future__ import annotations

import torch
from torch import Tensor


def prefix_attention_naive(q: Tensor, k: Tensor, v: Tensor, counts: Tensor) -> Tensor:
    """The oracle: one tile after the other, softmax in fp32 (fp64 for fp64 inputs). A sum over no tokens is zero."""
    check(q, k, v, counts)
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    tiles = []
    for b, n in enumerate(counts.tolist()):
        scores = torch.einsum("phd,nhd->hpn", q[b].to(wide), k[b, :n].to(wide)) / q.shape[-1] ** 0.5
        tiles.append(torch.einsum("hpn,nhd->phd", scores.softmax(dim=-1), v[b, :n].to(wide)).to(q.dtype))
    return torch.stack(tiles) if tiles else torch.zeros_like(q)


def check(q: Tensor, k: Tensor, v: Tensor, counts: Tensor) -> None:
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
