"""The user's folder of models: one folder each, with the weights, `model.json` and tables.

    PROW_MODELS, or the usual place for data of programs (platformdirs)
      NAME/model.json         what the model is
      NAME/weights.*          as they were imported
      NAME/tables-ID.npy      int32 [tokens, alphabet]; ID is the external id that files have with these

All that ever was in `tables-*.npy` is read, so that files made with older tables, or with none, stay readable.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelError
from .model import ExternalModel, Source

DESCRIPTION = "model.json"
SCHEMA = 1
_FIELDS = {"kind": str, "description": str, "sha256": str, "weights": str, "weights_bytes": int}
_FIELDS |= {"tile": int, "tokens": int, "alphabet": int}


def models_folder() -> Path:
    """Where imported models are; it need not exist."""
    if named := os.environ.get("PROW_MODELS"):
        return Path(named)
    import platformdirs

    return platformdirs.user_data_path("prow", appauthor=False) / "models"


def names() -> list[str]:
    """Of all imported models."""
    return sorted(path.parent.name for path in models_folder().glob(f"[!.]*/{DESCRIPTION}"))


def load_variants(name: str) -> list[ExternalModel]:
    """An imported model with each of its tables: first as it writes now.

    Raises:
        ModelError: its folder does not hold what `import_model` put there.
    """
    folder = models_folder() / name
    facts = _description(folder / DESCRIPTION)
    weights = folder / facts["weights"]
    if not weights.is_file() or weights.stat().st_size != facts["weights_bytes"]:
        raise ModelError(
            f"model {name}: {weights} is missing or has changed; import it again (prow models import --force)"
        )
    sizes = {field: facts[field] for field in ("description", "sha256", "weights_bytes", "tile", "tokens", "alphabet")}
    source = Source(kind=facts["kind"], weights=weights)
    tables = {"": None} | {path.stem[7:]: _tables(path) for path in sorted(folder.glob("tables-*.npy"))}
    current = facts.get("tables") or ""
    if current not in tables:
        raise ModelError(f"model {name}: tables-{current}.npy is missing; fit them again (prow models fit-tables)")
    order = [current, *(key for key in tables if key != current)]
    return [ExternalModel(name, source=source, tables=tables[key], **sizes) for key in order]


def _tables(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ModelError(f"{path} is no table of frequencies: {error}") from None


def _description(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_bytes())
        if facts["schema"] != SCHEMA:
            raise ModelError(f"{path} has the schema {facts['schema']}, wanted {SCHEMA}: a newer prow may read it")
        for field, kind in _FIELDS.items():
            if type(facts[field]) is not kind:
                raise TypeError(f"{field} is {facts[field]!r}")
        if len(bytes.fromhex(facts["sha256"])) != 32 or Path(facts["weights"]).name != facts["weights"]:
            raise ValueError("sha256 or weights is none")
        return facts
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is no description of a model: {type(error).__name__} {error}") from None
