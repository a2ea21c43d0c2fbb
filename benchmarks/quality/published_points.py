"""What others report for the 24 Kodak pictures, for marks in the plot: no code of theirs was run here.

Sources: VTM and Minnen 2018, CompressAI's `results/image/kodak`; Cool-Chic 5.0, `results/v5.0/image-kodak.tsv` of its
repository; StableCodec, `results/results.txt` of its own; AEIC (ME), the results of its own. Most learned codecs
leave headers out of their rates.
"""

from __future__ import annotations

import dataclasses

# `results["corpus"]["sha256"]` of the 24 pictures.
CORPUS = "31206199e09059093a57c4204d17c14be3f9561a0eb6b9df0063f811ccdb37fd"
PIXELS = 768 * 512


@dataclasses.dataclass(frozen=True)
class Reported:
    """A point on a curve: bits per pixel, PSNR in dB, MS-SSIM."""

    bpp: float
    psnr: float
    ms_ssim: float | None = None

    @property
    def bytes(self) -> float:
        """Mean bytes a picture."""
        return self.bpp * PIXELS / 8


POINTS = {
    "VTM": (Reported(0.048, 26.14, 0.861), Reported(0.113, 28.49, 0.918)),
    "Minnen 2018": (Reported(0.072, 26.80),),
    "Cool-Chic 5.0": (Reported(0.0839, 27.44),),
    "StableCodec": (Reported(0.0108, 21.31, 0.712), Reported(0.0203, 22.30, 0.774), Reported(0.034, 23.01, 0.812)),
    "AEIC-ME": (Reported(0.0101, 21.07, 0.703), Reported(0.026, 22.77, 0.802), Reported(0.0376, 23.30, 0.832)),
}
MARKS = {"VTM": "s", "Minnen 2018": "^", "Cool-Chic 5.0": "D", "StableCodec": "x", "AEIC-ME": "+"}
