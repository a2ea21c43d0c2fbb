"""Which models there are, and how to load one: those in the package (SPEC section 6), those in the user's folder, and
those that `register_tokenizer` made (section 7)."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import struct
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

from .arguments import told, whole
from .entropy.check import check_tokens
from .entropy.model import Model, StreamSpec
from .entropy.reader import read, read_start
from .entropy.tables import Tables, check_shapes
from .errors import InputError, ModelError, ProwWarning
from .external import folder
from .external.model import ExternalModel, Source
from .format.config import KIND_NAMES, Config, step_size
from .format.container import EXTERNAL, EXTERNAL_ID_BYTES, Header
from .format.geometry import most_octaves
from .format.limits import Meter
from .format.tokens import External, Tokens
from .ordered import OrderedTokenizer, check_tokenizer
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
    vivid style, None if it has none. `external_id`: 8 hexadecimal digits, None for a model in the package."""

    id: int
    name: str
    description: str
    weights_bytes: int
    sha256: str
    is_default: bool
    vivid_sha256: str | None
    external_id: str | None = None


class AnyModel(Protocol):
    """What is known of any model without pixels; `prow.coders` adds these. Sizes are width and height in px."""

    @property
    def name(self) -> str: ...

    @property
    def model_id(self) -> int: ...

    @property
    def external_id(self) -> bytes:
        """What a payload begins with; empty for a model in the package."""
        ...

    def read(self, stream: bytes, width: int, height: int, meter: Meter | None = None) -> Tokens:
        """The tokens that the bytes of a stream determine: all of a whole one, a prefix of a cut one. Raises LimitError
        if there is a meter and the bytes ask for more work; without, it never fails."""
        ...

    def read_start(self, stream: bytes, width: int, height: int) -> tuple[int | None, bool, bool]:
        """The base (None if there is none, or it did not come), whether a picture is grey and whether it has alpha, as
        far as the bytes say; reads no more than that takes."""
        ...

    def check(self, tokens: Tokens) -> Tokens:
        """The same tokens, with Python's numbers. Raises InputError for those that no stream can say."""
        ...

    def tokens_from_array(self, array: np.ndarray, width: int, height: int, *, letterbox: bool = False) -> Tokens:
        """Symbols as `Tokens.to_array` makes them. Raises InputError."""
        ...

    def most_octaves(self, width: int, height: int) -> int:
        """How far the coarsest level is below full resolution."""
        ...

    def passes_of(self, tokens: Tokens) -> list[tuple[str, int, int, int, float | None]]:
        """Kind, width, height, tiles and quantiser step of each pass; 0 for a step without a base, None for none."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class ModelFile(Model):
    """A model with the bytes of its files, from which networks are made when they are needed.

    Attributes:
        content: of its safetensors file. vivid: of that of its vivid style, None if it has none.
    """

    content: bytes
    vivid: bytes | None = None
    external_id = b""

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def model_id(self) -> int:
        return self.config.model_id

    def read(self, stream: bytes, width: int, height: int, meter: Meter | None = None) -> Tokens:
        """As `AnyModel.read`; so are the others."""
        return read(stream, StreamSpec(width, height, self), meter=meter)

    def read_start(self, stream: bytes, width: int, height: int) -> tuple[int | None, bool, bool]:
        return read_start(stream, StreamSpec(width, height, self))

    def check(self, tokens: Tokens) -> Tokens:
        return check_tokens(tokens, self)

    def tokens_from_array(self, array: np.ndarray, width: int, height: int, *, letterbox: bool = False) -> Tokens:
        self.refuse_letterbox(letterbox)
        return check_tokens(Tokens.from_array(array, width, height, self.config), self)

    def most_octaves(self, width: int, height: int) -> int:
        return most_octaves(width, height, self.config.tile)

    def passes_of(self, tokens: Tokens) -> list[tuple[str, int, int, int, float | None]]:
        return [
            (
                KIND_NAMES[pass_.kind],
                pass_.level.width,
                pass_.level.height,
                pass_.level.tiles,
                0.0 if tokens.base is None else step_size(pass_.step_index(tokens.base)),
            )
            for pass_ in StreamSpec(tokens.width, tokens.height, self).passes
        ]

    def refuse_letterbox(self, letterbox: bool) -> None:
        """Raises InputError if a letterbox is asked for."""
        if letterbox:
            raise InputError(f"letterbox came, model {self.name} takes pictures of any size as they are")

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
    for model, *_ in _external():
        facts = (model.name, model.description, model.weights_bytes, model.sha256)
        infos.append(ModelInfo(EXTERNAL, *facts, False, None, model.external_id.hex()))
    return tuple(sorted(infos, key=lambda m: m.id))


def find(name: str) -> AnyModel:
    """An installed model by name, "default" included.

    Raises:
        ModelError: no model of this name, or its file is not a valid model file.
    """
    if name in _registered:
        return _registered[name]
    return _variants(name)[0] if name in folder.names() else load(name)


def of_file(header: Header, payload: bytes) -> tuple[AnyModel, bytes]:
    """The model that a file needs, and the stream in its payload. Raises ModelError."""
    external = payload[:EXTERNAL_ID_BYTES] if header.model_id == EXTERNAL else b""
    return _by_ids(header.model_id, external), payload[len(external) :]


def of_tokens(tokens: Tokens) -> AnyModel:
    """The model that tokens are of. Raises InputError for what names none, and ModelError."""
    external = tokens.external
    if external is not None and not (isinstance(external, External) and isinstance(external.id, bytes)):
        raise InputError(f"external {told(external)} came, wanted None or an External")
    return _by_ids(whole("model_id", tokens.model_id, 1, 255), external.id if external else b"")


@cache
def load(name: str) -> ModelFile:
    """A model in the package by name, "default" included; `find` knows the others, too.

    Raises:
        ModelError: no model of this name, or its file is not a valid model file, or not the one of this release.
    """
    if name == "default":
        return load(DEFAULT)
    if name not in _files():
        where = " in the package" if name in _registered or name in folder.names() else ""
        raise ModelError(f"model {told(name)} came, installed{where} are {_installed(packaged=bool(where))}")
    file = _files()[name]
    vivid = file.parent / "vivid" / file.name
    return parse_model(read_checked(file), name, read_checked(vivid) if vivid.is_file() else None)


@cache
def load_by_id(model_id: int) -> ModelFile:
    """A model in the package by the id in a header.

    Raises:
        ModelError: the id is not installed. Says where to look.
    """
    for name in _files():
        if load(name).config.model_id == model_id:
            return load(name)
    raise ModelError(
        f"the file needs model id {model_id}, installed are {_installed(packaged=True)}; "
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


def _installed(*, packaged: bool) -> str:
    names = [f"{load(name).config.model_id} ({name})" for name in _files()]
    return ", ".join(names if packaged else [*names, *_registered, *folder.names()]) or "none"


# -- models that are not in the package ----------------------------------------------------------------------------

_registered: dict[str, ExternalModel] = {}


@cache
def _variants(name: str) -> list[ExternalModel]:
    return folder.load_variants(name)


def _external() -> Iterator[list[ExternalModel]]:
    """Each with all of its tables; a folder that holds none is left out, with a ProwWarning."""
    yield from ([model] for model in _registered.values())
    for name in folder.names():
        try:
            yield _variants(name)
        except ModelError as error:
            warnings.warn(str(error), ProwWarning, stacklevel=3)


def _by_ids(model_id: int, external_id: bytes) -> AnyModel:
    if model_id != EXTERNAL:
        return load_by_id(model_id)
    if len(external_id) < EXTERNAL_ID_BYTES:
        raise ModelError(f"{len(external_id)} of the {EXTERNAL_ID_BYTES} bytes came that name the file's model")
    for variants in _external():
        for model in variants:
            if model.external_id == external_id:
                return model
    known = ", ".join(f"{model.external_id.hex()} ({model.name})" for model, *_ in _external()) or "none"
    raise ModelError(
        f"the file needs the external model {external_id.hex()}, there are {known}; "
        "import the weights that it was made with (prow models import NAME FILE)"
    )


def register_tokenizer(name: str, tokenizer: OrderedTokenizer, *, sha256: str, description: str = "") -> None:
    """Make a model of an ordered tokenizer, for as long as this process lives.

    `encode` and all others then take its name, and files of it are read. To read them elsewhere, register the same
    there.

    Args:
        name: small letters, digits, and `-`, `.` or `_` between them.
        tokenizer: see `prow.ordered`.
        sha256: 64 hexadecimal digits that stand for its weights: files name the model by the first 8 of them.

    Raises:
        InputError: a name, a tokenizer or a sha256 that will not do; another model that is named so in files.
    """
    check_name(name)
    check_tokenizer(tokenizer)
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
        raise InputError(f"sha256 {told(sha256)} came, wanted 64 hexadecimal digits")
    sizes = (int(tokenizer.tile), int(tokenizer.tokens), int(tokenizer.alphabet))
    model = ExternalModel(name, description, sha256, 0, *sizes, Source(tokenizer))
    check_new(model)
    _registered[name] = model
    forget()


def check_name(name: str) -> None:
    """Raises InputError for what no external model can be called."""
    if not isinstance(name, str) or not re.fullmatch("[a-z0-9]+([-._][a-z0-9]+)*", name):
        raise InputError(f"the name {told(name)} came, wanted small letters, digits, and - . _ between them")
    if name == "default" or name in _files():
        raise InputError(f"the name {name!r} came, which a model of the package has: wanted another one")


def check_new(model: ExternalModel) -> None:
    """Raises InputError if files name another external model as they would this one."""
    for variants in _external():
        for other in variants:
            if other.external_id == model.external_id and other.name != model.name:
                raise InputError(f"{model.name} came, but model {other.name} has the same external id: it is there")


def forget() -> None:
    """Look again which models there are."""
    for cached in (models, load, load_by_id, _variants):
        cached.cache_clear()


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
