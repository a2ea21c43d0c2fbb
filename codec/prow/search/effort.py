"""How long an encoder looks for better tokens of the same size."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Effort:
    """
    Attributes:
        probes: how many bases are tried at most for the first bytes (`prow.search.rate.PROBE`).
        tries: how many around the best of these for all bytes.
        rounds: of gradient search (`prow.search.gradient_search`), which takes torch.
    """

    probes: int
    tries: int
    rounds: int = 0


UNSEARCHED = Effort(1, 1)  # the usual base
EFFORTS = {
    1: UNSEARCHED,
    2: Effort(2, 1),
    3: Effort(3, 1),
    4: Effort(4, 1),
    5: Effort(4, 1),
    6: Effort(6, 3, 3),
    7: Effort(8, 5, 6),
    8: Effort(8, 8, 12),
    9: Effort(8, 12, 40),
}
