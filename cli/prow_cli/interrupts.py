"""What an interrupt (SIGINT, Ctrl-C) does.

It ends the process at once, with exit code 130 and one line on stderr. It is not raised as an exception: any `finally`,
destructor or callback of any package could swallow one. Nothing needs to be tidied up, since files appear in one step
(`prow_cli.place`); what must not stop halfway is put in `interrupts_later`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130  # exit code: 128 and the number of the signal


def leave_on_interrupt() -> None:
    """From now on an interrupt ends the process, unless whoever started it wants interrupts ignored (nohup)."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _leave)


def raise_on_interrupt() -> None:
    """From now on an interrupt is a KeyboardInterrupt again, for a package that must tidy up."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    bar = "rich" in sys.modules and os.isatty(2)  # it hides the cursor
    with contextlib.suppress(OSError):
        os.write(2, b"\r\x1b[K\x1b[?25h" * bar + b"prow: interrupted\n")
    os._exit(INTERRUPTED)


@contextlib.contextmanager
def interrupts_later() -> Iterator[None]:
    """Hold an interrupt back until the end of this."""
    if threading.current_thread() is not threading.main_thread():  # where none arrives
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)
