"""Pictures with captions, side by side on one sheet."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP, LINE = 6, 20  # px

Panel = tuple[str, np.ndarray | None]  # a caption, and a picture [H, W, 3] uint8 to go below it, if there is one


def sheet(rows: list[list[Panel]]) -> Image.Image:
    """-> all panels on white; a row's pictures have the size of its first one."""
    firsts = [row[0][1].shape for row in rows if row[0][1] is not None]
    height, width = max(shape[0] for shape in firsts), max(shape[1] for shape in firsts)
    caption = LINE * (1 + max(text.count("\n") for row in rows for text, _ in row)) + 4
    step_x, step_y = width + GAP, caption + height + GAP
    image = Image.new("RGB", (max(map(len, rows)) * step_x + GAP, len(rows) * step_y), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=15)
    for r, row in enumerate(rows):
        for c, (text, picture) in enumerate(row):
            x, y = GAP + c * step_x, r * step_y
            draw.multiline_text((x, y + 4), text, fill="black", font=font)
            if picture is not None:
                image.paste(Image.fromarray(picture), (x + (width - picture.shape[1]) // 2, y + caption))
    return image
