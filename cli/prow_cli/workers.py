"""Calls of functions in other processes, one at a time in each.

Each process is a Python that reads calls from its standard input and ends when that ends, whatever became of the first
process. (Those of multiprocessing print tracebacks if it is killed while they start, and need semaphores that somebody
must remove.) Calls and answers are pickled; nothing but these two processes can reach the pipes between them.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from prow.options import thread_count

Submit = Callable[..., "concurrent.futures.Future[Any]"]


class Died(Exception):
    """A process ended without an answer."""


class Worker:
    """A process, with so many threads for ONNX Runtime and torch."""

    def __init__(self, threads: int) -> None:
        path = os.pathsep.join(filter(None, sys.path))
        env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-P", "-m", __name__]  # -P: nothing of the folder that we are in
        with _without_interrupts():
            self._process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function of a module returns there. It must not raise. Raises Died."""
        assert self._process.stdin and self._process.stdout
        call = pickle.dumps((function, arguments))
        try:
            self._process.stdin.write(call)
            self._process.stdin.flush()
            return pickle.load(self._process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            raise Died from None

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # pyright: ignore[reportOptionalMemberAccess] - both are there


@contextlib.contextmanager
def pool(jobs: int) -> Iterator[Submit]:
    """`submit(function, *arguments)` for so many processes, which share the threads of this one. A future raises Died
    if its process ended; the next call gets a new one. They end at once if this is left by an exception."""
    threads = max(1, (thread_count() or os.cpu_count() or 1) // jobs)
    free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    workers = [Worker(threads) for _ in range(jobs)]
    for worker in workers:
        free.put(worker)

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        worker = free.get()
        try:
            return worker.call(function, *arguments)
        except Died:
            worker.end()
            worker = Worker(threads)
            workers.append(worker)
            raise
        finally:
            free.put(worker)

    callers = concurrent.futures.ThreadPoolExecutor(jobs)
    try:
        yield functools.partial(callers.submit, call)
    finally:
        for worker in workers:
            worker.end()
        callers.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Keep Ctrl-C from this thread for a moment: processes that start in it never see one."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve() -> None:
    """In a new process: do what comes, until standard input ends; then leave at once, in the middle of a call too."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed goes to stderr
    calls: queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]]] = queue.SimpleQueue()

    def listen() -> None:
        while True:
            try:
                calls.put(pickle.load(sys.stdin.buffer))
            except (EOFError, pickle.UnpicklingError):  # the end, or the half of a call of a process that was killed
                os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        function, arguments = calls.get()
        answer = pickle.dumps(function(*arguments))
        try:
            answers.write(answer)
            answers.flush()
        except BrokenPipeError:
            os._exit(1)


if __name__ == "__main__":
    serve()
