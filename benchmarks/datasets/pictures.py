"""Pictures that are drawn, since those of a benchmark of speed and of loss need no meaning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def drawn(width: int, height: int, seed: int) -> np.ndarray:
    """-> smooth colours, discs and a little noise: uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    pixels = rng.uniform(20, 120, 3) + rng.uniform(20, 120, 3) * (x / width + y / height)[..., None] / 2
    for _ in range(6):
        cx, cy = rng.uniform(0, width), rng.uniform(0, height)
        radius = rng.uniform(0.05, 0.25) * min(width, height)
        pixels[(x - cx) ** 2 + (y - cy) ** 2 < radius**2] = rng.uniform(0, 255, 3)
    return (pixels + rng.normal(0, 3, pixels.shape)).clip(0, 255).astype(np.uint8)


def write_folder(folder: Path, count: int, width: int, height: int, *, broken: int = 0) -> None:
    """Write JPEG files, `broken` of them cut in the middle, spread evenly."""
    folder.mkdir(parents=True)
    bad = {round((i + 0.5) * count / broken) for i in range(broken)}
    for i in range(count):
        path = folder / f"{i // 500:03}" / f"{i:06}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(drawn(width, height, i)).save(path, quality=90)
        if i in bad:
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 3])
