"""`python -m prow`: the command line, where it is installed."""

from __future__ import annotations

import sys


def run() -> None:
    """What the command `prow` does. Leaves the process with exit code 1 if the package prow_cli is missing."""
    try:
        from prow_cli.start import main
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in ("prow_cli", "click"):
            raise
        sys.exit(f"prow: the command line needs the package {package}, which is not installed")
    main()


if __name__ == "__main__":
    run()
