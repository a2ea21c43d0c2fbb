"""Every error that prow raises on purpose.

    ProwError
      InputError        an argument or a picture that prow cannot use
        BudgetError     a byte budget below the minimum
      FormatError       bytes that are not a prow file this version can read
        HeaderError     truncated or damaged header, wrong magic, impossible field
        VersionError    a format version this reader does not know
        DamagedError    full length, but the CRC is wrong
        LimitError      more pixels than the limit
      ModelError        an unknown model, or a bad weights file

Messages name what came and what was wanted. SPEC.md section 3 says which broken rule raises which class. There is one
warning beside them, ProwWarning.
"""

from __future__ import annotations

__all__ = [
    "BudgetError",
    "DamagedError",
    "FormatError",
    "HeaderError",
    "InputError",
    "LimitError",
    "ModelError",
    "ProwError",
    "ProwWarning",
    "VersionError",
]


class ProwError(Exception):
    """The base of all errors of this package."""


class ProwWarning(UserWarning):
    """Something of a picture that prow cannot use and does without, such as a broken colour profile."""


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


class LimitError(FormatError):
    """The picture has more pixels than the limit; the message names the limit and how to raise it."""


class ModelError(ProwError):
    """The model is not installed (the message says which are), or its weights file is unusable."""
