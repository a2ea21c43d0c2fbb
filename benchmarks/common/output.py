"""Files that benchmarks write: whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def check_place(path: Path, program: str) -> None:
    """Raise SystemExit, before any work is done, if a program can put no file at a path."""
    if path.is_dir():
        raise SystemExit(f"{program}: {path} is a folder, wanted the name of a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f"{program}: no folder {path.parent} for {path.name}: {error.strerror}") from None


def write(path: Path, text: str) -> None:
    """Put text at a path in one step: a failure leaves no file, and an old one as it was."""
    temporary = path.with_name(f".prow-{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except BaseException:  # an interrupt too
        temporary.unlink(missing_ok=True)
        raise
