"""The models in the package: which there are, and how to load one (SPEC section 6). torch is for the network alone."""

from __future__ import annotations

import dataclasses
import json
import struct
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .config import Config
from .errors import ModelError
from .tables import Tables, check_shapes

if TYPE_CHECKING:
    from torch import nn

    from .onnx_codec import OnnxCodec
    from .tokenizer import Tokenizer
    from .vivid import Vivid

DEFAULT = "prow-small"
_WEIGHTS = Path(__file__).parent / "weights"
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


@dataclasses.dataclass(frozen=True)
class Model:
    """Config and tables of a model, and its file's bytes, from which the network is made when it is needed."""

    config: Config
    tables: Tables
    content: bytes

    def network(self, device: str) -> Tokenizer:
        """The network on a device, in fp32, ready for inference. Cached per model and device."""
        return _network(self.config.name, device)

    @cached_property
    def onnx(self) -> OnnxCodec:
        """The decoder without torch, on the CPU."""
        from .onnx_codec import OnnxCodec

        return OnnxCodec(self)

    def weights(self, prefix: str) -> dict[str, np.ndarray]:
        """float32 weights under their names in the file, of which all that start with `prefix`; without torch."""
        header, body = _safetensors(self.content)
        found = {name: entry for name, entry in header.items() if name.startswith(prefix)}
        return {name: _tensor(entry, body, _WEIGHT_DTYPES).astype(np.float32) for name, entry in found.items()}


@cache
def _files() -> dict[str, Path]:
    return {file.stem: file for file in sorted(_WEIGHTS.glob("*.safetensors"))}


@cache
def models() -> tuple[ModelInfo, ...]:
    """The installed models in order of id."""
    import hashlib  # 3 ms that a command for one file need not wait

    found = []
    for name in _files():
        model = load(name)
        digest = hashlib.sha256(model.content).hexdigest()
        config, is_default, size = model.config, name == DEFAULT, len(model.content)
        vivid = hashlib.sha256(_vivid_file(name).read_bytes()).hexdigest() if _vivid_file(name).is_file() else None
        found.append(ModelInfo(config.model_id, name, config.description, size, digest, is_default, vivid))
    return tuple(sorted(found, key=lambda m: m.id))


@cache
def load(name: str) -> Model:
    """An installed model by name, "default" included.

    Raises:
        ModelError: no model of this name, or its file is not a valid model file.
    """
    if name == "default":
        return load(DEFAULT)
    if name not in _files():
        raise ModelError(f"model {name!r} came, installed are {_installed()}")
    return parse_model(_files()[name].read_bytes(), name)


@cache
def load_by_id(model_id: int) -> Model:
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


def _installed() -> str:
    return ", ".join(f"{load(name).config.model_id} ({name})" for name in _files()) or "none"


def parse_model(content: bytes, name: str) -> Model:
    """A model from the bytes of its safetensors file. Reads the tables only.

    Raises:
        ModelError: not a model file, or tables that do not fit its config.
    """
    try:
        header, body = _safetensors(content)
        config = Config.from_json(header["__metadata__"]["prow"])
        fields = [f.name for f in dataclasses.fields(Tables)]
        tables = Tables(**{field: _tensor(header[f"tables.{field}"], body, _DTYPES) for field in fields})
        check_shapes(tables, config)
    except (KeyError, TypeError, ValueError, AttributeError, struct.error) as error:
        raise ModelError(f"{name} is not a prow model file: {type(error).__name__} {error}") from None
    return Model(config, tables, content)


def _safetensors(content: bytes) -> tuple[dict, memoryview]:
    """Header and data of a safetensors file. numpy's loader of the package would copy the weights too."""
    (length,) = struct.unpack_from("<Q", content)
    if length > min(_MAX_HEADER, len(content) - 8):
        raise ValueError(f"a header of {length} bytes in a file of {len(content)}")
    return json.loads(content[8 : 8 + length]), memoryview(content)[8 + length :]


def _tensor(entry: dict, body: memoryview, dtypes: dict[str, np.dtype]) -> np.ndarray:
    start, end = entry["data_offsets"]
    return np.frombuffer(body[start:end], dtype=dtypes[entry["dtype"]]).reshape(entry["shape"])


@cache
def _network(name: str, device: str) -> Tokenizer:
    from .tokenizer import Tokenizer

    model = load(name)
    network = Tokenizer(model.config)
    load_weights(network, model.content, name)
    return network.to(device).eval().requires_grad_(False)


def _vivid_file(name: str) -> Path:
    return _WEIGHTS / "vivid" / f"{name}.safetensors"


@cache
def vivid_network(name: str, device: str) -> Vivid:
    """The network of an installed model's vivid style, in fp32, ready for inference. Cached per model and device.

    Raises:
        ModelError: the model does not have this style, or its weights do not fit.
    """
    from .vivid import Vivid

    file = _vivid_file(name)
    if not file.is_file():
        raise ModelError(f"style 'vivid' came, model {name} has 'faithful' alone")
    network = Vivid()
    load_weights(network, file.read_bytes(), f"{name} (vivid)", prefix="")
    return network.to(device).eval().requires_grad_(False)


def load_weights(network: nn.Module, content: bytes, name: str, prefix: str = "network.") -> None:
    """Fill a network from the bytes of a model file, whose weights have names with a prefix.

    Raises:
        ModelError: the file's weights do not fit the network.
    """
    from safetensors.torch import load as load_tensors

    tensors = load_tensors(content)
    weights = {k.removeprefix(prefix): v.float() for k, v in tensors.items() if k.startswith(prefix)}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(f"the weights of {name} do not fit its config: {error}") from None
