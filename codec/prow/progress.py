"""How far slow work has come, for whoever wants to show it: `with told_to(show): prow.decode(...)`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

Listener = Callable[[str, int, int], None]  # what is done, how many tiles of it are, of how many

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def told_to(listener: Listener) -> Iterator[None]:
    """Within it, the listener is told of each batch of tiles of an ordered tokenizer."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(what: str, done: int, count: int) -> None:
    """Tell the listener, if there is one."""
    listener = _listener.get()
    if listener is not None:
        listener(what, done, count)
