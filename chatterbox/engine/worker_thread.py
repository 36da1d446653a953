"""Which thread calls a graph? Where graphs are captured, the one that opened it.

Knows no graph. onnxruntime keeps captured CUDA graphs for each thread: what one has captured
another cannot replay, and would capture anew in the middle of its work (the CUDA provider's
per-thread context).
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class WorkerThread:
    """A thread that does what it is told, one thing after the other, and last its life's work."""

    def __init__(self, name: str) -> None:
        self._tasks: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], T]) -> T:
        """Have it done there; returns or raises what it does."""
        done: Future[T] = Future()

        def task() -> None:
            try:
                done.set_result(work())
            except BaseException as fault:  # noqa: BLE001 - raised where it is waited for
                done.set_exception(fault)

        self._tasks.put(task)
        return done.result()

    def run_forever(self, work: Callable[[], None]) -> None:
        """Have it done there as the last thing; returns at once."""
        self._tasks.put(work)
        self.stop()

    def stop(self) -> None:
        """Nothing more is to be done."""
        self._tasks.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait for its end, so long at most."""
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
