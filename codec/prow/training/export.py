"""A trained model as one safetensors file: weights in half precision, integer tables, config as metadata."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from ..entropy.tables import Tables
from ..networks.tokenizer import Tokenizer


def table_tensors(tables: Tables) -> dict[str, torch.Tensor]:
    """The tables under the names that a model file gives them (SPEC section 6)."""
    arrays = {f.name: getattr(tables, f.name) for f in dataclasses.fields(tables)}
    return {f"tables.{name}": torch.from_numpy(np.array(a, order="C")) for name, a in arrays.items()}


def export(network: Tokenizer, tables: Tables, folder: Path) -> Path:
    """Write NAME.safetensors into a folder, whole or not at all, and return its path."""
    tensors = {f"network.{k}": v.detach().cpu().half().contiguous() for k, v in network.state_dict().items()}
    tensors.update(table_tensors(tables))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{network.config.name}.safetensors"
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, metadata={"prow": network.config.to_json()})
    os.replace(temporary, path)
    return path
