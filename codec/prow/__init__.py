"""prow: a variable-rate neural image codec. Any prefix of a prow file is a prow file.

    >>> import prow
    >>> data = prow.encode("photo.jpg", bytes=1000)     # doctest: +SKIP
    >>> prow.decode(data[:700]).save("photo.png")       # doctest: +SKIP

Which function? `encode` and `decode` for files, `encode_many` and `decode_many` for many of them; `truncate` to cut one
to a size and `inspect` to look into one, both without torch; `tokenize` and `detokenize` for the integers in between;
`models` for what is installed.
"""

from .api import Info, PassInfo, decode, decode_many, detokenize, encode, encode_many, inspect, tokenize, truncate
from .errors import (
    BudgetError,
    DamagedError,
    FormatError,
    HeaderError,
    InputError,
    LimitError,
    ModelError,
    ProwError,
    VersionError,
)
from .registry import ModelInfo, models

__all__ = [
    "BudgetError",
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
    "VersionError",
    "decode",
    "decode_many",
    "detokenize",
    "encode",
    "encode_many",
    "inspect",
    "models",
    "tokenize",
    "truncate",
]
