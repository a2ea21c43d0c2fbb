"""Where faces are, by OpenCV's cascade of Haar features for frontal faces (Viola and Jones, 2001)."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

from prow.training.published import published

PACKAGE = "opencv-python-headless"
CASCADE = "cv2/data/haarcascade_frontalface_alt2.xml"
CASCADE_SHA256 = "7b0c967d9abbdfbde025eb9c786947d151b6426040d07a8f9562ed8fd90724b4"
SMALLEST = 32  # px a side
SCALE, NEIGHBOURS = 1.1, 6  # between two sizes that are looked for; hits that make a face
SAME = 0.4  # intersection over union of two boxes that are one face

Box = tuple[int, int, int, int]  # x, y, width, height in px


@functools.cache
def _cascade():  # noqa: ANN202 - a class of a package that may be missing
    path = published(PACKAGE, "finding faces", CASCADE, CASCADE_SHA256)
    import cv2

    cv2.setNumThreads(1)  # the benchmark has processes instead
    return cv2.CascadeClassifier(str(path))


def find(picture: np.ndarray) -> list[Box]:
    """-> the faces in a picture [H, W, 3] uint8. Raises MissingPackageError, ValueError for another cascade."""
    grey = np.asarray(Image.fromarray(picture).convert("L"))
    found = _cascade().detectMultiScale(grey, SCALE, NEIGHBOURS, minSize=(SMALLEST, SMALLEST))
    return sorted((int(x), int(y), int(width), int(height)) for x, y, width, height in found)


def overlap(one: Box, other: Box) -> float:
    """-> intersection over union of two boxes."""
    x, y = max(one[0], other[0]), max(one[1], other[1])
    right, bottom = min(one[0] + one[2], other[0] + other[2]), min(one[1] + one[3], other[1] + other[3])
    common = max(0, right - x) * max(0, bottom - y)
    return common / (one[2] * one[3] + other[2] * other[3] - common)
