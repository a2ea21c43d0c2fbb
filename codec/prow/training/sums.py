"""Write down the SHA-256 of the files of models and graphs in the package: `python -m prow.training.sums`.

To be run whenever one of them was replaced: `prow` refuses files whose SHA-256 is another one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
FILES = ("weights/**/*.safetensors", "graphs/**/*.onnx")


def listed(package: Path = PACKAGE) -> str:
    """The text of sums.py for the files of a package."""
    files = sorted(path for pattern in FILES for path in package.glob(pattern))
    sums = {path.relative_to(package).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    rows = "".join(f'    "{name}": "{digest}",\n' for name, digest in sums.items())
    return (
        '"""SHA-256 of the files of models and graphs in the package.\n\n'
        'Written by `python -m prow.training.sums`, which has to be run whenever one of them is replaced.\n"""\n\n'
        f"SHA256 = {{\n{rows}}}\n"
    )


def write(package: Path = PACKAGE) -> None:
    """Bring sums.py of a package up to date, and say what is new in it."""
    path = package / "sums.py"
    before, now = path.read_text() if path.is_file() else "", listed(package)
    path.write_text(now)
    new = sorted(set(now.splitlines()) - set(before.splitlines()))
    print("\n".join(line.strip() for line in new) or f"{path} is up to date")


if __name__ == "__main__":
    write()
