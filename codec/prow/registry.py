"""The models in the package: which there are, and how to load one (SPEC section 6)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from .entropy.model import Model
from .entropy.tables import Tables, check_shapes
from .errors import ModelError
from .format.config import Config
from .sums import SHA256

DEFAULT = "prow-small"
_PACKAGE = Path(__file__).parent
_WEIGHTS = _PACKAGE / "weights"
_MAX_HEADER = 1 << 20  # bytes of safetensors header that we are willing to parse
_DTYPES = {"I32": np.dtype("<i4"), "U8": np.dtype("u1"), "I8": np.dtype("i1"), "I16": np.dtype("<i2")}
_WEIGHT_DTYPES = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4")}


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """One installed model. `weights_bytes` and `sha256` are those of its file; `vivid_sha256` that of the file of its
    vivid style, None if it has none."""

    id: int
    name: str
    description: str
    weights_bytes: int
    sha256: str
    is_default: bool
    vivid_sha256: str | None


@dataclasses.dataclass(frozen=True, eq=False)
class ModelFile(Model):
    """A model with the bytes of its files, from which networks are made when they are needed.

    Attributes:
        content: of its safetensors file. vivid: of that of its vivid style, None if it has none.
    """

    content: bytes
    vivid: bytes | None = None

    def weights(self, prefix: str) -> dict[str, np.ndarray]:
        """float32 weights under their names in the file, of which all that start with `prefix`. Raises ModelError."""
        return _weights(self.content, prefix, self.config.name)

    def vivid_weights(self) -> dict[str, np.ndarray]:
        """Those of the vivid style, named vivid.something.

        Raises:
            ModelError: the model does not have this style.
        """
        return {f"vivid.{name}": array for name, array in _weights(self.vivid_content(), "", self.config.name).items()}

    def vivid_content(self) -> bytes:
        """The bytes of the file of the vivid style. Raises as `vivid_weights`."""
        if self.vivid is None:
            raise ModelError(f"style 'vivid' came, model {self.config.name} has 'faithful' alone")
        return self.vivid


@cache
def _files() -> dict[str, Path]:
    return {file.stem: file for file in sorted(_WEIGHTS.glob("*.safetensors"))}


@cache
def models() -> tuple[ModelInfo, ...]:
    """The installed models in order of id."""
    import hashlib  # 3 ms that a command for one file need not wait

    infos = []
    for name in _files():
        model = load(name)
        digest = hashlib.sha256(model.content).hexdigest()
        config, is_default, size = model.config, name == DEFAULT, len(model.content)
        vivid = hashlib.sha256(model.vivid).hexdigest() if model.vivid else None
        infos.append(ModelInfo(config.model_id, name, config.description, size, digest, is_default, vivid))
    return tuple(sorted(infos, key=lambda m: m.id))


@cache
def load(name: str) -> ModelFile:
    """An installed model by name, "default" included.

    Raises:
        ModelError: no model of this name, or its file is not a valid model file, or not the one of this release.
    """
    if name == "default":
        return load(DEFAULT)
    if name not in _files():
        raise ModelError(f"model {name!r} came, installed are {_installed()}")
    file = _files()[name]
    vivid = file.parent / "vivid" / file.name
    return parse_model(read_checked(file), name, read_checked(vivid) if vivid.is_file() else None)


@cache
def load_by_id(model_id: int) -> ModelFile:
    """An installed model by the id in a header.

    Raises:
        ModelError: the id is not installed. Says where to look.
    """
    for name in _files():
        if load(name).config.model_id == model_id:
            return load(name)
    raise ModelError(
        f"the file needs model id {model_id}, installed are {_installed()}; "
        "a newer release of prow may have it (pip install --upgrade prow), or this is no prow file"
    )


def read_checked(file: Path) -> bytes:
    """The bytes of a file; of one in the package only if its SHA-256 is that of this release.

    Raises:
        ModelError: it is another one, or the file cannot be read. Names both.
    """
    import hashlib  # likewise

    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}") from error
    if _PACKAGE in file.parents:
        came, wanted = hashlib.sha256(content).hexdigest(), SHA256.get(file.relative_to(_PACKAGE).as_posix())
        if came != wanted:
            raise ModelError(
                f"{file} has the SHA-256 {came}, wanted {wanted or 'none: it is no part of this release'}: "
                "install prow again (or, if you replaced the file: python -m prow.training.sums)"
            )
    return content


def _installed() -> str:
    return ", ".join(f"{load(name).config.model_id} ({name})" for name in _files()) or "none"


def parse_model(content: bytes, name: str, vivid: bytes | None = None) -> ModelFile:
    """A model from the bytes of its safetensors file, and of that of its vivid style. Reads the tables only.

    Raises:
        ModelError: not a model file, or tables that do not fit its config.
    """
    with _refusing(name):
        header, body = _safetensors(content)
        config = Config.from_json(header["__metadata__"]["prow"])
        fields = [f.name for f in dataclasses.fields(Tables)]
        tables = Tables(**{field: _tensor(header[f"tables.{field}"], body, _DTYPES) for field in fields})
        check_shapes(tables, config)
    return ModelFile(config, tables, content, vivid)


@contextlib.contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Whatever is wrong with the bytes of a model file is a ModelError."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, struct.error) as error:
        raise ModelError(f"{name} is not a prow model file: {type(error).__name__} {error}") from None


def _safetensors(content: bytes) -> tuple[dict, memoryview]:
    """Header and data of a safetensors file. numpy's loader of the package would copy the weights too."""
    (length,) = struct.unpack_from("<Q", content)
    if length > min(_MAX_HEADER, len(content) - 8):
        raise ValueError(f"a header of {length} bytes in a file of {len(content)}")
    header = json.loads(content[8 : 8 + length])
    if not isinstance(header, dict):
        raise ValueError(f"a header of JSON type {type(header).__name__} came, wanted an object")
    return header, memoryview(content)[8 + length :]


def _tensor(entry: dict, body: memoryview, dtypes: dict[str, np.dtype]) -> np.ndarray:
    """In the byte order of this machine; without a copy where that is the one of the file."""
    (start, end), shape = entry["data_offsets"], entry["shape"]
    if not 0 <= start <= end <= len(body) or min(shape, default=1) < 0:
        raise ValueError(f"a tensor of shape {shape} at {start} to {end} came, the file has {len(body)} bytes of them")
    array = np.frombuffer(body[start:end], dtype=dtypes[entry["dtype"]]).reshape(shape)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _weights(content: bytes, prefix: str, model: str) -> dict[str, np.ndarray]:
    with _refusing(model):
        header, body = _safetensors(content)
        entries = {name: entry for name, entry in header.items() if name.startswith(prefix) and name != "__metadata__"}
        return {name: _tensor(entry, body, _WEIGHT_DTYPES).astype(np.float32) for name, entry in entries.items()}
