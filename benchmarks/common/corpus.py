"""The pictures that are measured with."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from prow.image import load_rgb

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm")


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image of the corpus. `sha256` is that of its pixels, so that a copy elsewhere counts as the same."""

    path: Path
    width: int
    height: int
    sha256: str


def find_pictures(folder: Path, limit: int | None = None) -> list[Picture]:
    """-> the images in a folder, by name. Raises SystemExit if there are none."""
    paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES)[:limit]
    if not paths:
        raise SystemExit(f"no images in {folder}: wanted files ending in {', '.join(SUFFIXES)}")
    pictures = []
    for path in paths:
        pixels = load_rgb(path)
        pictures.append(Picture(path, pixels.shape[1], pixels.shape[0], pixels_sha256(pixels)))
    return pictures


def pixels_sha256(pixels: np.ndarray) -> str:
    """-> what a picture [H, W, 3] uint8 is known by."""
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def describe(corpus: str, pictures: list[Picture]) -> dict[str, Any]:
    """-> name, number and SHA-256 of the pictures of a corpus."""
    digest = hashlib.sha256("".join(f"{p.path.name} {p.sha256}\n" for p in pictures).encode()).hexdigest()
    return {"name": corpus, "images": len(pictures), "sha256": digest}


def read_original(path: Path | None) -> tuple[str, np.ndarray]:
    """-> name and pixels [H, W, 3] of one picture: by default a photo in scikit-image. Raises InputError."""
    if path is not None:
        return path.name, load_rgb(path)
    from skimage import data as photos

    return "coffee", photos.coffee()  # part of scikit-image, so nothing is downloaded
