"""Pictures of text to be read: letters of four sizes on four backgrounds, drawn the same way every time.

The font is Pillow's own (Aileron), the words are those of the Universal Declaration of Human Rights.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.tasks.ocr import Box

WIDTH, HEIGHT = 512, 256  # px
MARGIN = 16  # px around the text
SIZES = (14, 20, 32, 48)  # px, of the font
MOST_LINES = 5
PITCH = 1.5  # from line to line, in sizes
INKS = {"plain": (24, 24, 28), "inverse": (250, 250, 240), "faint": (140, 140, 136), "waves": (255, 255, 255)}
TEXT = """
All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience and should
act towards one another in a spirit of brotherhood. Everyone has the right to life, liberty and security of person.
No one shall be held in slavery or servitude. No one shall be subjected to torture. Everyone has the right to
recognition everywhere as a person before the law. All are equal before the law and are entitled without any
discrimination to equal protection of the law. Everyone has the right to freedom of movement and residence. Everyone has
the right to leave any country, including his own, and to return to his country. Everyone has the right to a
nationality. Everyone has the right to own property alone as well as in association with others. Everyone has the right
to freedom of thought, conscience and religion. Everyone has the right to rest and leisure.
"""


@dataclasses.dataclass(frozen=True)
class TextPicture:
    """A picture of text. `lines` are what it says, from above, and `boxes` where: around whole lines of letters."""

    name: str
    size: int  # px, of the font
    background: str  # a name in INKS
    lines: tuple[str, ...]
    boxes: tuple[Box, ...]

    @property
    def words(self) -> int:
        """How many words there are."""
        return sum(len(line.split()) for line in self.lines)

    def draw(self) -> Image.Image:
        """-> the picture, RGB."""
        image = Image.fromarray(background(self.background))
        pen, font = ImageDraw.Draw(image), ImageFont.load_default(self.size)
        for line, box in zip(self.lines, self.boxes, strict=True):
            pen.text((MARGIN, (box[1] + box[3]) / 2), line, INKS[self.background], font, anchor="lm")
        return image


def background(name: str) -> np.ndarray:
    """-> [HEIGHT, WIDTH, 3] uint8: what is behind the text."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    if name == "waves":  # coloured waves of all lengths, dark enough for white letters
        waves = sum(np.sin(x * 0.011 * 2**i + y * 0.017 * 1.7**i + i) * 0.6**i for i in range(6))
        grey = np.clip(80 + 22 * waves, 0, 150)
        return np.stack([grey, grey * 0.9, grey * 0.6 + 30], axis=2).astype(np.uint8)
    if name == "inverse":  # from dark blue to dark red
        return np.stack([20 + 90 * x / WIDTH, 0 * x + 30, 100 - 60 * x / WIDTH], axis=2).astype(np.uint8)
    grey = {"plain": 244, "faint": 196}[name]
    return np.full((HEIGHT, WIDTH, 3), grey, np.uint8)


@functools.cache
def text_pictures() -> tuple[TextPicture, ...]:
    """-> a picture for every size and background, each with other words."""
    words = itertools.cycle(TEXT.split())
    pictures = []
    for size, name in itertools.product(SIZES, INKS):
        lines = tuple(_lines(words, size))
        boxes = tuple(_box(i, line, size) for i, line in enumerate(lines))
        pictures.append(TextPicture(f"text-{size}-{name}.png", size, name, lines, boxes))
    return tuple(pictures)


def _lines(words: Iterator[str], size: int) -> Iterator[str]:
    """-> as many lines as there is space for, each as long as it fits; takes words from `words`."""
    font = ImageFont.load_default(size)
    line = next(words)
    for _ in range(min(MOST_LINES, int((HEIGHT - 2 * MARGIN) / (PITCH * size)))):
        while font.getlength(longer := f"{line} {(word := next(words))}") <= WIDTH - 2 * MARGIN:
            line = longer
        yield line
        line = word


def _box(index: int, line: str, size: int) -> Box:
    """-> the box of a line: its own part of the height, and a little more than its letters in width."""
    top = MARGIN + round(index * PITCH * size)
    spare = size // 4
    right = MARGIN + round(ImageFont.load_default(size).getlength(line)) + spare
    return MARGIN - spare, top, min(right, WIDTH), top + round(PITCH * size)


def write(folder: Path) -> None:
    """Draw all pictures into a folder, as PNG, instead of those that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("text-*.png"):
        old.unlink()
    for picture in text_pictures():
        picture.draw().save(folder / picture.name)
