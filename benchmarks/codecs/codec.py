"""What a codec is here: it turns a picture and a number of bytes into whole files and what a reader of them sees.

Which of several files is best, a metric says: see `quality.measure`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import numpy as np

BEST_BY = "each metric"  # which of the files is best: every metric has its own answer


@dataclasses.dataclass(frozen=True)
class Coded:
    """A file and what a reader makes of it. `setting` says how it was made, for the records.

    Seconds are wall time. Those of a classical codec's encode are those of the one call that made this file,
    without the search for its quality; those of prow hold all it does to meet a number of bytes.
    """

    data: bytes
    image: np.ndarray  # [H, W, 3] uint8
    setting: dict[str, Any]
    encode_seconds: float
    decode_seconds: float

    def facts(self) -> dict[str, Any]:
        """-> all but data and picture, for the records. This is where a rate is taken: len(file)."""
        seconds = {name: round(getattr(self, name), 4) for name in ("encode_seconds", "decode_seconds")}
        return {"bytes": len(self.data), **self.setting, **seconds}


class Codec(Protocol):
    """What the benchmarks need. `settings` (with the versions of the libraries at work) is all that results
    depend on: where they are equal, old results are reused."""

    name: str
    settings: dict[str, Any]

    def code(self, image: np.ndarray, budget: int) -> list[Coded]:
        """Code image [H, W, 3] uint8 in at most `budget` bytes: all files to choose from; none if it cannot."""
        ...


def code_within(codec: Codec, image: np.ndarray, budget: int) -> list[Coded]:
    """-> the files of a codec; a file that is over the budget is a bug and stops the run."""
    files = codec.code(image, budget)
    for coded in files:
        if len(coded.data) > budget:
            raise AssertionError(f"{codec.name} gave {len(coded.data)} bytes for a budget of {budget}")
    return files
