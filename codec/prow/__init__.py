"""prow: a variable-rate neural image codec. Any prefix of a prow file is a prow file.

    >>> import prow
    >>> data = prow.encode("photo.jpg", bytes=1000)     # doctest: +SKIP
    >>> prow.decode(data[:700]).save("photo.png")       # doctest: +SKIP

Which function? `encode` and `decode` for files, `encode_many` and `decode_many` for many of them; `placeholder` for a
few bytes that go into HTML or JSON; `truncate` to cut a file to a size and `inspect` to look into one, both without
torch; `tokenize` and `detokenize` for the integers in between; `models` for what is installed. Each imports what it
needs when it is first asked for. `import prow.pillow` makes Pillow read and write prow files.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    BudgetError,
    CutWarning,
    DamagedError,
    FormatError,
    HeaderError,
    InputError,
    LimitError,
    ModelError,
    ProwError,
    ProwWarning,
    VersionError,
)
from .format.container import truncate

if TYPE_CHECKING:
    from .api import decode, decode_many, detokenize, encode, encode_many, placeholder, tokenize, tokens_from_array
    from .inspection import Info, PassInfo, inspect
    from .registry import ModelInfo, models

__all__ = [
    "BudgetError",
    "CutWarning",
    "DamagedError",
    "FormatError",
    "HeaderError",
    "Info",
    "InputError",
    "LimitError",
    "ModelError",
    "ModelInfo",
    "PassInfo",
    "ProwError",
    "ProwWarning",
    "VersionError",
    "decode",
    "decode_many",
    "detokenize",
    "encode",
    "encode_many",
    "inspect",
    "models",
    "placeholder",
    "tokenize",
    "tokens_from_array",
    "truncate",
]

_PLACES = {
    ".api": (
        *("decode", "decode_many", "detokenize", "encode", "encode_many"),
        *("placeholder", "tokenize", "tokens_from_array"),
    ),
    ".inspection": ("Info", "PassInfo", "inspect"),
    ".registry": ("ModelInfo", "models"),
}
_PLACE_OF = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    """What numpy and more must be imported for (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("prow")
    if name not in _PLACE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACE_OF[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
