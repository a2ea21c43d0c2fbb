"""prow as one of the codecs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import prow
from benchmarks.codecs.codec import Coded
from benchmarks.common.machine import version_of
from prow.format.container import Profile
from prow.options import DEFAULT_EFFORT, Style

EFFORT = DEFAULT_EFFORT
MASTER = 16384  # bytes of the file whose cuts "prow-cuts" is


Focus = Callable[[np.ndarray], list[tuple[int, int, int, int]]]  # picture -> parts of it that matter more


class Files:
    """The files of a model for the picture at hand, each made once; or, with `master`, cuts of one of so many bytes.

    With `focus`, more of a file is for some parts of the picture.
    """

    def __init__(
        self, model: str, profile: Profile = "file", master: int | None = None, focus: Focus | None = None
    ) -> None:
        infos = [m for m in prow.models() if m.name == model or (model == "default" and m.is_default)]
        if not infos:
            raise ValueError(f"no model {model!r}: there are {', '.join(m.name for m in prow.models())}")
        self.info, self._master = infos[0], master
        self.profile: Profile = profile
        self.focus = focus
        self._image: np.ndarray | None = None
        self._made: dict[int, tuple[bytes, float]] = {}

    def file(self, image: np.ndarray, budget: int) -> tuple[bytes, float]:
        """-> a file of image [H, W, 3] uint8, and the seconds it took; of a cut those of its master."""
        if self._image is not image:
            self._image, self._made = image, {}
        size = self._master or budget
        if budget > size:
            raise prow.BudgetError(f"a budget of {budget} bytes came, cuts are of a file of {size}")
        if size not in self._made:
            start = time.perf_counter()
            focus = self.focus(image) if self.focus else []
            data = prow.encode(
                image, bytes=size, model=self.info.name, profile=self.profile, effort=EFFORT, focus=focus
            )
            self._made[size] = data, time.perf_counter() - start
        data, seconds = self._made[size]
        return (prow.truncate(data, budget) if self._master else data), seconds


class Prow:
    """prow in one of its styles, which can share their files."""

    def __init__(self, name: str, files: Files, style: Style = "faithful") -> None:
        self.name, self._files = name, files
        self._style: Style = style
        self.settings: dict[str, Any] = {
            "model": files.info.name,
            "profile": files.profile,
            "effort": EFFORT,
            "sha256": files.info.sha256,
            "code": _code_sha256(Path(str(prow.__file__)).parent),
            "versions": {package: version_of(package) for package in ("torch", "constriction")},
        }
        if files.focus is not None:
            self.settings["focus"] = files.focus.__module__
        if style == "vivid":
            self.settings |= {"style": style, "vivid_sha256": files.info.vivid_sha256}

    def code(self, image: np.ndarray, budget: int) -> list[Coded]:
        """See codec.Codec. prow is asked for exactly `budget`."""
        try:
            data, seconds = self._files.file(image, budget)
        except prow.BudgetError:
            return []
        start = time.perf_counter()
        decoded = np.asarray(prow.decode(data, style=self._style))
        return [Coded(data, decoded, {}, seconds, time.perf_counter() - start)]


def _code_sha256(package: Path) -> str:
    """-> SHA-256 over the package's sources but training's: old results must not pass for new code's."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if not name.startswith("training"):
            digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def styles_of_default() -> list[Prow]:
    """-> the default model in the styles that it has."""
    files = Files("default")
    vivid = [Prow("prow-vivid", files, "vivid")] if files.info.vivid_sha256 else []
    return [Prow("prow", files), *vivid]
