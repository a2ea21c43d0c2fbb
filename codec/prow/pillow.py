"""prow files in Pillow: `import prow.pillow`, and `Image.open` and `Image.save` know them.

    >>> import prow.pillow
    >>> from PIL import Image
    >>> Image.open("photo.prow").save("photo.png")             # doctest: +SKIP
    >>> Image.open("photo.jpg").save("photo.prow", bytes=2000)  # doctest: +SKIP

Files of the file profile are known by their magic f5 f0; bare data has none, so `prow.decode` reads that. To open reads
the header and what follows the payload; the picture is decoded when its pixels are first asked for. A cut file loads as
far as it goes, a damaged one does not. What cannot be read raises OSError, as everywhere in Pillow
(`Image.open`: PIL.UnidentifiedImageError), with prow's own error as its cause. Saving raises prow's errors.
"""

from __future__ import annotations

import os
from typing import IO, Any

from PIL import Image, ImageFile

from .api import decode, encode
from .errors import DamagedError, FormatError, ModelError, ProwError
from .format import container
from .format.extras import read_chunks
from .registry import AnyModel, of_file

__all__ = ["ProwImageFile"]

FORMAT = "PROW"
_HEAD = 512  # bytes of a file, in which it says of which mode it is
_SAVE_OPTIONS = (
    "bytes",
    "bpp",
    "quality",
    "psnr",
    "ms_ssim",
    "effort",
    "model",
    "profile",
    "device",
    "letterbox",
    "keep_metadata",
    "check",
)
_INFO_KEYS = {"EXIF": "exif", "XMP ": "xmp", "ICCP": "original_icc_profile"}


class ProwImageFile(ImageFile.ImageFile):
    """A prow file that Pillow has opened. `info` holds:

    version, model   of the file; the model's name, or None if it is not installed
    bytes            that are there, header included and extras not
    state            "whole" or "cut" by the length; that a whole file is not damaged is seen by `verify` and `load`
    exif, xmp        where they are kept (`keep_metadata`)
    original_icc_profile   likewise, of the picture that was encoded; pixels are sRGB all the same
    """

    format = FORMAT
    format_description = "prow image"

    def _open(self) -> None:
        """Read the header and the extras. Raises SyntaxError, from which Pillow goes on to other formats."""
        fp = self._file()
        try:
            header, _, _ = container.parse(fp.read(container.LARGE_HEADER_BYTES))
        except FormatError as error:
            raise SyntaxError(str(error)) from error
        if header.file_bytes is None:
            raise SyntaxError("bare data came, a file with the magic f5 f0 wanted")
        self._header, self._octaves = header, 0
        there = fp.seek(0, os.SEEK_END)
        fp.seek(0)
        self._model, self._mode = _model_and_mode(fp.read(_HEAD))
        self._size = (header.width, header.height)
        self.info.update(
            version=header.version,
            model=self._model and self._model.name,
            bytes=min(there, header.file_bytes),
            state="cut" if there < header.file_bytes else "whole",
        )
        if there > header.file_bytes:
            fp.seek(header.file_bytes)
            for tag, content in read_chunks(fp.read()).items():
                if tag in _INFO_KEYS:
                    self.info[_INFO_KEYS[tag]] = content
        self.tile = [ImageFile._Tile("prow", (0, 0, *self._size), 0, None)]

    def draft(self, mode: str | None, size: tuple[int, int] | None) -> tuple[str, tuple[int, int, float, float]] | None:
        """Decode a smaller picture, in less time: the smallest level of the file that is not smaller than `size`, px.

        Like Pillow's `draft` of JPEG: before the pixels are loaded, changes `size` in place, and gives mode and the box
        that the picture fills in units of the new px. `mode` is not heeded. None, and no change, if no smaller level
        will do.
        """
        if size is None or not self.tile or self._model is None:
            return None
        width, height = self._header.width, self._header.height
        octaves = self._model.most_octaves(width, height)
        while octaves and (-(-width >> octaves) < size[0] or -(-height >> octaves) < size[1]):
            octaves -= 1
        if not octaves:
            return None
        self._octaves, self._size = octaves, (-(-width >> octaves), -(-height >> octaves))
        self.tile = [ImageFile._Tile("prow", (0, 0, *self._size), 0, None)]
        return self.mode, (0, 0, width / 2**octaves, height / 2**octaves)

    def load(self) -> Image.core.PixelAccess | None:
        """Decode, once. Raises OSError for a file that is damaged, has an unknown model, or asks for too much."""
        if self.tile:
            try:
                picture = decode(self._content(), octaves=self._octaves)
            except ProwError as error:
                raise OSError(str(error)) from error
            self.im, self._mode, self._size = picture.im, picture.mode, picture.size
            self.tile, self.readonly = [], 0
            if self._exclusive_fp and self._close_exclusive_fp_after_loading:
                self._file().close()
                self.fp = None
        return super().load()

    def verify(self) -> None:
        """Check all CRCs, without decoding. Raises OSError for a damaged file. A cut file has nothing to check, and is
        one that can be read: `info["state"]` says that it is cut."""
        _, _, state = container.parse(self._content())
        super().verify()
        if state == "damaged":
            message = "the CRC is wrong: the file is damaged"
            raise OSError(message) from DamagedError(message)

    def _content(self) -> bytes:
        """The file, with the extras that may guard it."""
        fp = self._file()
        fp.seek(0)
        return fp.read()

    def _file(self) -> IO[bytes]:
        if self.fp is None:
            raise ValueError("the file of this picture is closed")
        return self.fp


def _model_and_mode(head: bytes) -> tuple[AnyModel | None, str]:
    """The model and the mode of a file by its first bytes; None and RGB if its model is not installed."""
    header, payload, _ = container.parse(head)
    try:
        model, stream = of_file(header, payload)
    except ModelError:
        return None, "RGB"
    _, grey, alpha = model.read_start(stream, header.width, header.height)
    return model, ("L" if grey else "RGB") + "A" * alpha


def _accept(prefix: bytes) -> bool | str:
    """Whether a file with these first 16 bytes is one of ours. What Pillow warns of, if it is and cannot be read."""
    if not prefix.startswith(container.MAGIC):
        return False
    try:
        container.parse(prefix)
    except FormatError as error:
        return f"prow file that cannot be read: {error}"
    return True


def _save(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    """Encode with the options given to `save` (those of `prow.encode`), then write all bytes at once.

    Other options are ignored, as in all formats of Pillow. Raises as `prow.encode`, before a byte is written.
    """
    given: dict[str, Any] = getattr(image, "encoderinfo", {})
    fp.write(encode(image, **{name: given[name] for name in _SAVE_OPTIONS if name in given}))


Image.register_open(FORMAT, ProwImageFile, _accept)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, ".prow")
Image.register_mime(FORMAT, "image/x-prow")
