"""Image tokenizers that others published, in plain torch, for weights that you have.

`recognise` says what a file of weights is, `open_kind` makes an ordered tokenizer of it. With PROW_BF16=1 transformers
run in bfloat16: half their memory, less time where the hardware knows it, and pictures that differ a little.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, ModelError
from ..ordered import OrderedTokenizer

if TYPE_CHECKING:
    from .one_d_piece import OneDPieceTokenizer


@dataclasses.dataclass(frozen=True)
class Recognised:
    """What a file of weights is: its kind, one line about it, and the tokenizer in it."""

    kind: str
    description: str
    tokenizer: OrderedTokenizer


def recognise(path: Path) -> Recognised:
    """What a file of weights is, with each of its tensors checked.

    Raises:
        ModelError: none that is known here; says what is missing, extra or wrong.
    """
    tokenizer = _open(path, "cpu", bf16=False)
    config = tokenizer.model.config
    return Recognised(config.name, "One-D-Piece, 256 tokens of 12 bits for 256 x 256 px", tokenizer)


def open_kind(kind: str, path: Path, device: str) -> OrderedTokenizer:
    """The tokenizer of a kind that `recognise` told, on a device of torch.

    Raises:
        ModelError: the file is not of this kind (any more). InputError: PROW_BF16 is neither 0 nor 1.
    """
    asked = os.environ.get("PROW_BF16", "")
    if asked not in ("", "0", "1"):
        raise InputError(f"PROW_BF16 is {asked!r}, wanted 0 or 1")
    tokenizer = _open(path, device, bf16=asked == "1")
    if tokenizer.model.config.name != kind:
        raise ModelError(f"{path} is {tokenizer.model.config.name}, wanted {kind}")
    return tokenizer


def _open(path: Path, device: str, *, bf16: bool) -> OneDPieceTokenizer:
    from .one_d_piece import OneDPieceTokenizer, load

    return OneDPieceTokenizer(load(path, device=device, bf16=bf16))
