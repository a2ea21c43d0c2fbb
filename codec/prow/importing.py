"""Models of others for this user: weights into the folder of models, and tables fitted to pictures.

prow.import_model("one-d-piece-l-256", "model.safetensors")
prow.fit_tables("one-d-piece-l-256", "photos")
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from . import registry
from .arguments import flag, several, told
from .backends.select import usable_device
from .coders.tiled import BATCH, open_tokenizer
from .coding.tiles import cut
from .errors import InputError, ModelError
from .external import folder
from .external.model import ExternalModel, Source, external_id
from .external.tables import fit
from .image import ImageLike, load_rgb
from .ordered import check_tokenizer, encode_tiles
from .progress import tell

_PIECE = 1 << 22  # bytes read at once


def import_model(name: str, file: str | os.PathLike[str], *, replace: bool = False) -> registry.ModelInfo:
    """Copy the weights of an ordered tokenizer into the user's folder of models (`prow.external.folder`).

    What they are is seen by their tensors, each of which is checked; `prow.published` says what is known. From then on
    `name` is a model like any other.

    Args:
        name: small letters, digits, and `-`, `.` or `_` between them.
        file: model.safetensors, or a PyTorch file, of which no code is run.
        replace: whether a model of this name may be replaced. Files that were made with it are then unreadable, unless
            the weights are the same.

    Raises:
        ModelError: weights that are unknown, incomplete or broken. InputError: a name that will not do or is taken, or
            torch is not installed.
    """
    registry.check_name(name)
    usable_device("cpu", "import_model")  # an error before all the work
    if not isinstance(file, str | os.PathLike):
        raise InputError(f"file {told(file)} came, wanted the path of weights")
    replace, place, path = flag("replace", replace), folder.models_folder() / name, Path(file)
    if place.exists() and not replace:
        raise InputError(f"there is a model {name} already ({place}): kept (replace=True or --force replaces it)")
    from .published import recognise

    found = recognise(path)
    check_tokenizer(found.tokenizer)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".import-") as temporary:
        made = Path(temporary) / "model"
        made.mkdir()
        weights = made / f"weights{path.suffix}"
        sha256 = _copied(path, weights)
        sizes = (found.tokenizer.tile, found.tokenizer.tokens, found.tokenizer.alphabet)
        facts = (name, found.description, sha256, weights.stat().st_size)
        model = ExternalModel(*facts, *sizes, Source(kind=found.kind, weights=weights))
        registry.check_new(model)
        _describe(made, model)
        if place.exists():
            if _weights_of(name) == sha256:  # then its tables stay
                for table in place.glob("tables-*.npy"):
                    shutil.copy2(table, made)
            place.rename(Path(temporary) / "old")
        made.rename(place)
    registry.forget()
    return _info(name)


def fit_tables(
    name: str, data: str | os.PathLike[str] | Iterable[ImageLike], *, device: str = "auto"
) -> tuple[registry.ModelInfo, float]:
    """Fit frequencies by position to pictures, with which an imported model writes from then on.

    Files that were made before stay readable; those made from then on need these tables, and carry another external id.

    Args:
        data: a folder of pictures, or pictures. Each is cut into tiles as `encode` would. device: as in `encode`.

    Returns:
        The model, and the bits that a token takes, measured on each token with tables that do not know it.

    Raises:
        ModelError: no imported model of this name. InputError: no pictures, or tables that would save nothing.
    """
    if name not in folder.names():
        known = ", ".join(folder.names()) or "none"
        raise ModelError(f"model {told(name)} came, imported are {known}")
    model = folder.load_variants(name)[0]
    pictures = (
        _pictures(Path(data))
        if isinstance(data, str | os.PathLike)
        else list(several("data", data, "a folder, or pictures to go through"))
    )
    frequencies, bits = fit(_counts(model, pictures, device))
    plain = float(np.log2(model.alphabet))
    if not bits < plain:
        raise InputError(
            f"tables fitted to these pictures take {bits:.2f} bits a token, and none take {plain:.2f}: wanted more of "
            "them"
        )
    identity = external_id(model.sha256, frequencies).hex()
    place = folder.models_folder() / name
    registry.check_new(dataclasses.replace(model, tables=frequencies))
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".tables-") as temporary:
        np.save(Path(temporary) / "table.npy", frequencies)
        os.replace(Path(temporary) / "table.npy", place / f"tables-{identity}.npy")
        _describe(Path(temporary), dataclasses.replace(model, tables=frequencies))
        os.replace(Path(temporary) / folder.DESCRIPTION, place / folder.DESCRIPTION)
    registry.forget()
    return _info(name), bits


def _counts(model: ExternalModel, pictures: list[ImageLike], device: str) -> np.ndarray:
    """How often each value is seen at each position, int64 [tokens, alphabet]."""
    counts, tokenizer = np.zeros((model.tokens, model.alphabet), np.int64), open_tokenizer(model, device)
    for index, picture in enumerate(pictures):
        tiles = cut(load_rgb(picture), model.tile, letterbox=False)
        for first in range(0, len(tiles), BATCH):
            for row in encode_tiles(tokenizer, tiles[first : first + BATCH]):
                counts[np.arange(model.tokens), row] += 1
        tell("fitting", index + 1, len(pictures))
    return counts


def _pictures(place: Path) -> list[ImageLike]:
    from PIL import Image

    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    found: list[ImageLike] = [path for path in sorted(place.rglob("*")) if path.suffix.lower() in suffixes]
    if not found:
        raise InputError(f"{place} came, wanted a folder of pictures")
    return found


def _copied(source: Path, target: Path) -> str:
    """SHA-256 of a file, which is copied."""
    digest, size = hashlib.sha256(), max(1, source.stat().st_size)
    with open(source, "rb") as read, open(target, "xb") as write:
        while piece := read.read(_PIECE):
            digest.update(piece)
            write.write(piece)
            tell("copying", min(write.tell(), size), size)
        write.flush()
        os.fsync(write.fileno())
    return digest.hexdigest()


def _describe(place: Path, model: ExternalModel) -> None:
    """Write what `folder.load_variants` reads."""
    facts = {
        "schema": folder.SCHEMA,
        "kind": model.source.kind,
        "description": model.description,
        "weights": model.source.weights.name,
        "weights_bytes": model.weights_bytes,
        "sha256": model.sha256,
        "tile": model.tile,
        "tokens": model.tokens,
        "alphabet": model.alphabet,
        "tables": "" if model.tables is None else model.external_id.hex(),
    }
    (place / folder.DESCRIPTION).write_text(json.dumps(facts, indent=1) + "\n")


def _weights_of(name: str) -> str:
    """SHA-256 of the weights of an imported model, "" if it is broken."""
    try:
        return folder.load_variants(name)[0].sha256
    except ModelError:
        return ""


def _info(name: str) -> registry.ModelInfo:
    return next(info for info in registry.models() if info.name == name)
