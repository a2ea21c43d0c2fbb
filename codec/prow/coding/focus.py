"""Parts of a picture that matter more than the rest.

Elsewhere a bit has a higher price, so that more of a file of the same size is left for these parts. No reader knows of
it: a stream says for each tile how much it says anyway.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ..format.geometry import Pass


@dataclasses.dataclass(frozen=True, eq=False)
class Focus:
    """
    Attributes:
        boxes: [n, 4], x, y, width and height of each part in px of the picture.
        weight: how many times dearer a bit is in tiles that touch none of them.
    """

    boxes: np.ndarray
    weight: float

    def factors(self, pass_: Pass) -> np.ndarray:
        """By what each tile of a pass multiplies the price of a bit: float32 [tiles]."""
        x, y, width, height = (pass_.level.boxes << pass_.octaves).T[:, :, None]  # [tiles, 1]
        left, top, across, down = self.boxes.T[:, None]  # [1, n]
        touched = (x < left + across) & (left < x + width) & (y < top + down) & (top < y + height)
        return np.where(touched.any(axis=1), 1, self.weight).astype(np.float32)
