"""VVC (ITU-T H.266) by vvenc, as one frame of a video without a container."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import subprocess
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from prow.training.published import locate

LARGEST_QP = 63
SMALLEST = 16  # px a side that vvenc takes
# Full-range BT.709 both ways, 4:2:0 with 10 bits, and ffmpeg's careful arithmetic.
COLOURS = "color_matrix=bt709:{side}_range=full:flags=accurate_rnd+full_chroma_int+full_chroma_inp"
RAW = ["-f", "rawvideo", "-pix_fmt", "rgb24"]


class FfmpegError(RuntimeError):
    """ffmpeg failed; the message is its own."""


@dataclasses.dataclass(frozen=True)
class Vvc:
    """VVC files for `classical.Classical`: raw streams (.266) of one intra frame. Quality is 63 minus the QP.

    A group of one picture is said, since vvenc else writes a warning of 109 bytes to standard output, amid the stream.
    The encoder's perceptual optimisation is off, since with it PSNR is 0.05 to 0.2 dB lower.
    """

    preset: str = "medium"
    lowest: int = 0
    highest: int = LARGEST_QP - 13  # small pictures fail in vvenc at less
    steps: int = 1

    @property
    def settings(self) -> dict[str, Any]:
        """What files depend on."""
        return {"format": "VVC", "options": [{"preset": self.preset, "qpa": 0, "gopsize": 1, "pix_fmt": "yuv420p10le"}]}

    def quality(self, rung: int) -> float:
        """-> what a rung stands for."""
        return rung

    def encode(self, image: Image.Image, quality: float) -> bytes:
        """-> a raw stream of an RGB picture, grown to a size that the encoder takes. Raises FfmpegError."""
        width, height = _taken(image.size)
        grown = ((0, height - image.height), (0, width - image.width), (0, 0))
        pixels = np.pad(np.asarray(image), grown, "edge")
        source = [*RAW, "-video_size", f"{width}x{height}", "-framerate", "1", "-i", "-"]
        colours = f"scale=out_{COLOURS.format(side='out')},format=yuv420p10le"
        coder = ["-c:v", "libvvenc", "-preset", self.preset, "-qpa", "0", "-vvenc-params", "gopsize=1"]
        coder += ["-qp", str(LARGEST_QP - int(quality))]
        tags = ["-color_range", "pc", "-colorspace", "bt709"]
        return _run([*source, "-vf", colours, *tags, "-frames:v", "1", *coder, "-f", "vvc", "-"], pixels.tobytes())

    def decode(self, data: bytes, size: tuple[int, int]) -> Image.Image:
        """-> the RGB picture of a raw stream, without what it has grown by. Raises FfmpegError."""
        colours = f"scale=in_{COLOURS.format(side='in')}:sws_flags=bicubic,format=rgb24"
        pixels = _run(["-f", "vvc", "-i", "-", "-vf", colours, *RAW, "-"], data)
        return Image.frombytes("RGB", _taken(size), pixels).crop((0, 0, *size))

    def versions(self) -> dict[str, str]:
        """The package, and the ffmpeg that it holds."""
        return {"imageio-ffmpeg": importlib.metadata.version("imageio-ffmpeg"), "ffmpeg": _ffmpeg_version()}


def _taken(size: tuple[int, int]) -> tuple[int, int]:
    """-> the next larger size that vvenc takes: 4:2:0 wants even sides."""
    return max(SMALLEST, size[0] + size[0] % 2), max(SMALLEST, size[1] + size[1] % 2)


def _run(options: Sequence[str], data: bytes = b"") -> bytes:
    """-> what ffmpeg wrote to standard output. Raises FfmpegError."""
    locate("imageio-ffmpeg", "VVC")
    from imageio_ffmpeg import get_ffmpeg_exe

    command = [get_ffmpeg_exe(), "-hide_banner", "-threads", "1", *options]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    if done.returncode != 0:
        raise FfmpegError(f"ffmpeg failed: {done.stderr.decode(errors='replace')}")
    return done.stdout


@functools.cache
def _ffmpeg_version() -> str:
    return _run(["-version"]).split()[2].decode()
