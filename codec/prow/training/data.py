"""Training pictures: tars or folders of photos and mosaics of thumbnails, cropped at random scales in a thread.

Every other batch is a coarse one: of small pictures of all sizes, most of them nearly whole photos, for the levels that
small files consist of.
"""

from __future__ import annotations

import dataclasses
import io
import math
import queue
import random
import tarfile
import threading
from pathlib import Path

import numpy as np
from PIL import Image

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
MOSAIC = "mosaic-"  # files of this name hold a grid of pictures of 64 x 64 px
THUMB = 64
SMALL = 256  # px on the shorter side of photos that are kept for coarse batches
MOST = 64  # pictures a batch
ASPECTS = ((1, 1), (1, 1), (1, 3 / 4), (3 / 4, 1), (1, 2 / 3), (2 / 3, 1))


@dataclasses.dataclass(frozen=True)
class Source:
    """A picture in a file, or in `size` bytes at `offset` of a tar."""

    path: Path
    name: str
    offset: int = 0
    size: int | None = None

    def open(self) -> Image.Image:
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            content = file.read() if self.size is None else file.read(self.size)
        return Image.open(io.BytesIO(content)).convert("RGB")


def list_sources(root: Path) -> tuple[list[Source], list[Source]]:
    """All photos and all mosaics of thumbnails below a folder, in tars and out of them, in order of name."""
    found: list[Source] = []
    for path in sorted(root.rglob("*")):
        if path.suffix == ".tar":
            with tarfile.open(path) as tar:
                members = [m for m in tar.getmembers() if Path(m.name).suffix.lower() in SUFFIXES]
            found += [Source(path, m.name, m.offset_data, m.size) for m in members]
        elif path.suffix.lower() in SUFFIXES:
            found.append(Source(path, path.name))
    mosaics = [s for s in found if Path(s.name).name.startswith(MOSAIC)]
    return [s for s in found if not Path(s.name).name.startswith(MOSAIC)], mosaics


def find_sources(root: Path) -> tuple[list[Source], list[Source]]:
    """The photos and the mosaics to train on: all but the last mosaic, which is held out for evaluation."""
    photos, mosaics = list_sources(root)
    if not photos:
        raise FileNotFoundError(f"no photos (tars or {', '.join(sorted(SUFFIXES))}) below {root}")
    return photos, mosaics[:-1]


def crop_photo(photo: Image.Image, width: int, height: int, rng: random.Random, *, whole: float = 0.5) -> np.ndarray:
    """A random crop at a random scale, a share of them nearly the whole photo: uint8 [height, width, 3]."""
    cover = max(width / photo.width, height / photo.height)
    if cover >= 1 or rng.random() < whole:
        scale = cover * rng.uniform(1, 1.25)
    else:
        scale = math.exp(rng.uniform(math.log(cover), 0))
    box_w, box_h = min(width / scale, photo.width), min(height / scale, photo.height)
    x, y = rng.uniform(0, photo.width - box_w), rng.uniform(0, photo.height - box_h)
    method = rng.choice((Image.Resampling.LANCZOS, Image.Resampling.BICUBIC, Image.Resampling.BOX))
    crop = photo.resize((width, height), method, box=(x, y, x + box_w, y + box_h), reducing_gap=3)
    pixels = np.asarray(crop)
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


@dataclasses.dataclass(frozen=True)
class Batch:
    """uint8 [B, H, W, 3]; a coarse batch is to be coded up to half its size."""

    pixels: np.ndarray
    coarse: bool


class Batches:
    """Endless batches of varying shapes, every other one coarse, made in a background thread.

    Args:
        pixels: about so many px of a batch are coded. sides: to draw the longer side of a picture from, px.
        coarse_sides: shortest and longest one of the pictures of a coarse batch.
    """

    def __init__(
        self, root: Path, pixels: int, sides: tuple[int, ...], coarse_sides: tuple[int, int], seed: int
    ) -> None:
        self.photos, self.mosaics = find_sources(root)
        self.pixels, self.sides, self.coarse_sides = pixels, sides, coarse_sides
        self.rng = random.Random(seed)
        self.small: dict[Source, Image.Image] = {}
        self.ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=8)
        threading.Thread(target=self._work, daemon=True).start()

    def next(self) -> Batch:
        batch = self.ready.get()
        if isinstance(batch, BaseException):
            raise batch
        return batch

    def _work(self) -> None:
        try:
            while True:
                self.ready.put(Batch(self._make(), coarse=False))
                self.ready.put(Batch(self._make_coarse(), coarse=True))
        except BaseException as error:  # handed to the training thread, which raises it
            self.ready.put(error)

    def _make(self) -> np.ndarray:
        rng = self.rng
        side = rng.choice(self.sides)
        if side == THUMB and self.mosaics and rng.random() < 0.5:
            return self._thumbs(max(1, self.pixels // THUMB**2))
        across, down = rng.choice(ASPECTS)
        width, height = round(side * across), round(side * down)
        count = max(1, self.pixels // (width * height))
        return np.stack([crop_photo(rng.choice(self.photos).open(), width, height, rng) for _ in range(count)])

    def _make_coarse(self) -> np.ndarray:
        rng = self.rng
        shortest, longest = self.coarse_sides
        side = shortest * (longest / shortest) ** rng.random()
        across, down = rng.choice(ASPECTS)
        width, height = round(side * across), round(side * down)
        count = min(MOST, max(1, round(4 * self.pixels / (width * height))))
        whole = 0.8 if side < SMALL / 2 else 0.5
        sources = [rng.choice(self.photos) for _ in range(count)]
        photos = [self._small(s) if min(width, height) <= SMALL else s.open() for s in sources]
        return np.stack([crop_photo(photo, width, height, rng, whole=whole) for photo in photos])

    def _small(self, source: Source) -> Image.Image:
        """A photo shrunk to cover SMALL px; kept, since reading one takes longer than learning from it."""
        if source not in self.small:
            photo = source.open()
            scale = min(1.0, SMALL / min(photo.size))
            size = round(photo.width * scale), round(photo.height * scale)
            self.small[source] = photo.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)
        return self.small[source]

    def _thumbs(self, count: int) -> np.ndarray:
        mosaic = np.asarray(self.rng.choice(self.mosaics).open())
        rows, cols = mosaic.shape[0] // THUMB, mosaic.shape[1] // THUMB
        grid = mosaic[: rows * THUMB, : cols * THUMB].reshape(rows, THUMB, cols, THUMB, 3).swapaxes(1, 2)
        every = grid.reshape(-1, THUMB, THUMB, 3)
        return every[self.rng.sample(range(len(every)), min(count, len(every)))]
