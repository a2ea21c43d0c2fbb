"""Kernels of prow's decoder: each op has a plain torch oracle, a fast torch path and a Triton path.

Kernels touch pixels only, never a probability: their last bits may differ from machine to machine.
Importing this package imports neither torch's compiler nor Triton.
"""

from prow_kernels.prefix_attention import (
    BackendError,
    prefix_attention,
    prefix_attention_naive,
    prefix_attention_torch,
    prefix_attention_triton,
    triton_failure,
)

__all__ = [
    "BackendError",
    "prefix_attention",
    "prefix_attention_naive",
    "prefix_attention_torch",
    "prefix_attention_triton",
    "triton_failure",
]
