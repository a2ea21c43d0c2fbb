"""The pictures in the README: what each codec makes of a photo, side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import strip
from benchmarks.common import sheet


def test_strip_shows_what_each_codec_does(tmp_path: Path) -> None:
    out = tmp_path / "strip.png"
    strip.main(["--codecs", "webp,webp-scaled,anchor", "--photos", "chelsea", "--bytes", "300", "--out", str(out)])
    width, height = Image.open(out).size
    assert (width - sheet.GAP) % 4 == 0 and height == strip.HEIGHT + 44 + sheet.GAP
    column = (width - sheet.GAP) // 4
    pictures = np.asarray(Image.open(out))[54:244]
    means = [pictures[:, i * column + 50 : i * column + 300].mean() for i in range(4)]
    assert means[1] == 255  # WebP cannot, without downscaling
    assert all(abs(means[i] - means[0]) < 6 for i in (2, 3))
    for options, words in ((["--codecs", "gif"], "codec 'gif'"), (["--photos", "nothing"], "no photo 'nothing'")):
        with pytest.raises(SystemExit, match=words):
            strip.main([*options, "--out", str(tmp_path / "other.png")])
    assert list(tmp_path.iterdir()) == [out]
