"""Training pictures on the device: decoded once, cropped there. A GPU learns faster than a CPU can decode and crop."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .data import ASPECTS, MOST, SMALL, find_sources


class ResidentBatches:
    """Endless batches of varying shapes, every other one coarse, like those of `prow.training.data.Batches` but for
    mosaics of thumbnails, which are left out.

    Args:
        longest: px of the longer side of what is kept of a photo. Others as in `Batches`.
    """

    def __init__(
        self,
        root: Path,
        pixels: int,
        sides: tuple[int, ...],
        coarse_sides: tuple[int, int],
        seed: int,
        device: torch.device,
        longest: int = 512,
    ) -> None:
        self.pixels, self.sides, self.coarse_sides = pixels, sides, coarse_sides
        self.rng, self.coarse, self.photos = random.Random(seed), True, []
        for source in find_sources(root)[0]:
            photo = source.open()
            photo.thumbnail((longest, longest))
            self.photos.append(torch.from_numpy(np.array(photo)).permute(2, 0, 1).contiguous().to(device))

    def next(self) -> tuple[Tensor, bool]:
        """The next batch, [B, 3, H, W], 0 to 255, and whether it is a coarse one."""
        self.coarse = not self.coarse
        shortest, longest = self.coarse_sides
        side = shortest * (longest / shortest) ** self.rng.random() if self.coarse else self.rng.choice(self.sides)
        across, down = self.rng.choice(ASPECTS)
        width, height = round(side * across), round(side * down)
        coded = 4 * self.pixels if self.coarse else self.pixels  # a coarse batch is coded up to half its size
        most = MOST * max(1, self.pixels // (4 * 128 * 128))
        count = min(most, max(1, coded // (width * height)))
        whole = 0.8 if self.coarse and side < SMALL / 2 else 0.5
        crops = [self._crop(self.rng.choice(self.photos), width, height, whole) for _ in range(count)]
        return torch.cat(crops), self.coarse

    def _crop(self, photo: Tensor, width: int, height: int, whole: float) -> Tensor:
        """A random crop at a random scale, a share of them nearly the whole photo: [1, 3, height, width]."""
        rng, (full_height, full_width) = self.rng, photo.shape[1:]
        cover = max(width / full_width, height / full_height)
        if cover >= 1 or rng.random() < whole:
            scale = cover * rng.uniform(1, 1.25)
        else:
            scale = math.exp(rng.uniform(math.log(cover), 0))
        box_width, box_height = (
            max(1, min(full, round(n / scale))) for full, n in ((full_width, width), (full_height, height))
        )
        x, y = rng.randint(0, full_width - box_width), rng.randint(0, full_height - box_height)
        part = photo[None, :, y : y + box_height, x : x + box_width].float()
        mode = rng.choice(("bilinear", "bicubic"))
        crop = F.interpolate(part, (height, width), mode=mode, antialias=True, align_corners=False).clamp(0, 255)
        return crop.flip(3) if rng.random() < 0.5 else crop
