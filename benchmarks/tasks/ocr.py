"""Reading lines of text with PP-OCRv6, the recognition network that the package rapidocr ships (Apache-2.0).

The network runs under onnxruntime; the package's code is not used. It is told where each line is, so what is
measured is whether letters can be told, not whether lines are found.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from PIL import Image

from prow.training.published import locate, published

PACKAGES = ("rapidocr", "onnxruntime")
MODEL = "rapidocr/models/PP-OCRv6_rec_small.onnx"
MODEL_SHA256 = "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884"
HEIGHT = 48  # px of a line as the network wants it
BLANK = ""  # the class that stands between two letters

Box = tuple[int, int, int, int]  # left, top, right, bottom in px, the latter two exclusive


@functools.cache
def load() -> tuple[Any, list[str]]:
    """-> the network (an onnxruntime session) and the letter of each of its classes.

    Raises MissingPackageError without the packages, ValueError for another model.
    """
    for package in PACKAGES:
        locate(package, "reading text")
    model = published(PACKAGES[0], "reading text", MODEL, MODEL_SHA256).read_bytes()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the benchmark has processes instead
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    letters = session.get_modelmeta().custom_metadata_map["character"].split("\n")
    return session, [BLANK, *letters, " "]


def read_line(picture: np.ndarray, box: Box) -> str:
    """-> the text within a box of a picture [H, W, 3] uint8. Raises ValueError for a box that is not inside."""
    left, top, right, bottom = box
    if not (0 <= left < right <= picture.shape[1] and 0 <= top < bottom <= picture.shape[0]):
        raise ValueError(f"line is at {box}, must be inside a picture of {picture.shape[1]} x {picture.shape[0]} px")
    session, letters = load()
    width = max(round(HEIGHT * (right - left) / (bottom - top)), 1)
    line = Image.fromarray(picture).resize((width, HEIGHT), Image.Resampling.BICUBIC, box=box)
    blue_first = np.asarray(line, np.float32)[:, :, ::-1] / 127.5 - 1
    scores = session.run(None, {"x": np.ascontiguousarray(blue_first.transpose(2, 0, 1)[None])})[0][0]  # [T, classes]
    return spelled(scores.argmax(axis=1), letters)


def spelled(classes: np.ndarray, letters: list[str]) -> str:
    """-> the text that classes [T] stand for: of equal ones in a row one counts, and blanks not at all."""
    changed = np.flatnonzero(np.diff(classes, prepend=-1))
    return "".join(letters[i] for i in classes[changed])
