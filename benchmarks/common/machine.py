"""What results depend on besides the pictures: the code, the versions of packages, the machine, prow's backend."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def checkout() -> str | None:
    """-> the commit of this checkout, with "+changes" if files differ from it; None outside of git."""
    git = functools.partial(subprocess.run, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    try:
        commit = git(["git", "rev-parse", "--verify", "HEAD"]).stdout.strip()
        changed = git(["git", "status", "--porcelain", "--untracked-files=no"]).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changed else "")


def version_of(distribution: str) -> str:
    """-> the version of an installed package, or a few words if it is not one."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"


def versions(packages: Iterable[str]) -> dict[str, str]:
    """-> versions of Python, of what prow runs on and of these packages."""
    of_packages = {name: version_of(name) for name in ("prow", "numpy", "torch", *packages)}
    return {"python": platform.python_version(), "machine": platform.machine(), **of_packages}


def cpu_model() -> str:
    """-> the name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cores() -> int:
    """-> how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu_model() -> str:
    """-> the name of the GPU that torch uses."""
    import torch

    return torch.cuda.get_device_name()


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """prow computes with this backend: "onnx", "torch" or "triton"."""
    before = os.environ.get("PROW_BACKEND")
    os.environ["PROW_BACKEND"] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ["PROW_BACKEND"]
        else:
            os.environ["PROW_BACKEND"] = before
