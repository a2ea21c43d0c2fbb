"""Kernels of prow's decoder: each op has a plain torch oracle, a fast torch path and a Triton path.

Kernels touch pixels only, never a probability: their last bits may differ from machine to machine.
Importing this package imports neither torch's compiler nor Triton. An op is a function here and a folder in `ops`.
"""

from .dispatch import BackendError, prefix_attention, prefix_attention_triton, triton_failure
from .ops.prefix_attention.naive import prefix_attention_naive
from .ops.prefix_attention.torch import prefix_attention_torch

__all__ = [
    "BackendError",
    "prefix_attention",
    "prefix_attention_naive",
    "prefix_attention_torch",
    "prefix_attention_triton",
    "triton_failure",
]
