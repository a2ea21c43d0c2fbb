"""Where the command `prow` begins, before anything slow is imported: interrupts and standard streams."""

from __future__ import annotations

import os
import sys

try:
    from .interrupts import leave_on_interrupt
except KeyboardInterrupt:  # it takes some milliseconds
    os.write(2, b"prow: interrupted\n")
    os._exit(130)


def main() -> None:
    """What the command `prow` does. Leaves the process."""
    leave_on_interrupt()
    open_streams()
    from .main import main

    main()


def open_streams() -> None:
    """Put something in the place of standard streams that are closed, or the next file that is opened gets that place,
    and what is written to the stream. Reading from it and writing to it fail, as they should; stderr takes all."""
    for number, (name, direction, mode) in enumerate(
        (("stdin", os.O_WRONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_WRONLY, "w"))
    ):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, direction), True)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the whole process
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


if __name__ == "__main__":
    main()
