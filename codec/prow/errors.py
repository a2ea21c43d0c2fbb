"""Every error that prow raises on purpose.

    ProwError
      InputError        an argument or a picture that prow cannot use
        BudgetError     a byte budget below the minimum
      FormatError       bytes that are not a prow file this version can read
        HeaderError     truncated or damaged header, wrong magic, impossible field
        VersionError    a format version this reader does not know
        DamagedError    full length, but the CRC is wrong
        LimitError      more pixels, work or memory than the limit (an InputError too)
      ModelError        an unknown model, or a bad weights file

Messages name what came and what was wanted. SPEC.md section 3 says which broken rule raises which class. There
are warnings beside them: ProwWarning, and CutWarning, which nobody sees who does not ask for it.
"""

from __future__ import annotations

import warnings

__all__ = [
    "BudgetError",
    "CutWarning",
    "DamagedError",
    "FormatError",
    "HeaderError",
    "InputError",
    "LimitError",
    "ModelError",
    "ProwError",
    "ProwWarning",
    "VersionError",
    "warn_of_cut",
]


class ProwError(Exception):
    """The base of all errors of this package."""


class ProwWarning(UserWarning):
    """Something of a picture that prow cannot use and does without, such as a broken colour profile."""


class CutWarning(ProwWarning):
    """A file was cut, and what is there was decoded. Ignored unless asked for: cutting files is what they are made for.
    `warnings.simplefilter("error", prow.CutWarning)` makes it an error, which is raised before the file is decoded."""


def warn_of_cut(present: int, declared: int, stacklevel: int) -> None:
    """Make a CutWarning, which a filter has to ask for."""
    if ("ignore", None, CutWarning, None, 0) not in warnings.filters:
        warnings.simplefilter("ignore", CutWarning, append=True)  # behind all filters of the user
    message = f"the file is cut: {present:,} of {declared:,} bytes came; what is there is decoded"
    warnings.warn(CutWarning(message), stacklevel=stacklevel + 1)


class InputError(ProwError):
    """An argument or a picture that prow cannot use: unreadable image, wrong dtype or shape, bad quality."""


class BudgetError(InputError):
    """A byte budget below the minimum; the message names both."""


class FormatError(ProwError):
    """The bytes are not a prow file that this version can read."""


class HeaderError(FormatError):
    """The header is truncated or damaged, is not ours (magic), or holds a value that SPEC.md forbids."""


class VersionError(FormatError):
    """The format version is one that this reader does not know."""


class DamagedError(FormatError):
    """The file has its full length, but its CRC does not match its bytes."""


class LimitError(FormatError, InputError):
    """A file or a picture asks for more pixels, work or memory than the limit; the message names both and how to raise
    it."""


class ModelError(ProwError):
    """The model is not installed (the message says which are), or its weights file is unusable."""
