"""Who decodes and encodes? A few threads that always take the most urgent work first.

Knows nothing of the work.
"""

import itertools
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

URGENT, NORMAL, LAST = 0, 1, 2


class PriorityPool(Executor):
    """A thread pool with a priority queue. `submit` is NORMAL work; see `submit_at`."""

    def __init__(self, threads: int, name: str) -> None:
        self._queue: queue.PriorityQueue[tuple[int, int, Callable[[], None] | None]] = (
            queue.PriorityQueue()
        )
        self._order = itertools.count()
        self._lock = threading.Lock()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{i}", daemon=True)
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As `concurrent.futures.Executor.submit`."""
        return self.submit_at(NORMAL, fn, *args, **kwargs)

    def submit_at(
        self, priority: int, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Lower `priority` first, then in order of submission."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as fault:  # noqa: BLE001 - the future carries it to its owner
                future.set_exception(fault)
            else:
                future.set_result(result)

        with self._lock:
            if self._closed:
                raise RuntimeError("the pool is closed")
            self._queue.put((priority, next(self._order), run))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """No new work; what is queued is still done unless `cancel_futures`."""
        with self._lock:
            already, self._closed = self._closed, True
        if cancel_futures:
            self._drop_queued()
        if not already:
            for _ in self._threads:
                self._queue.put((LAST + 1, next(self._order), None))
        if wait:
            self.join(None)

    def join(self, timeout_s: float | None) -> None:
        """Wait, after `shutdown`, until the threads are done with what they are doing."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))

    def _drop_queued(self) -> None:
        kept: list[Any] = []
        while True:
            try:
                entry = self._queue.get_nowait()
            except queue.Empty:
                break
            if entry[2] is None:
                kept.append(entry)
        for entry in kept:
            self._queue.put(entry)

    def _work(self) -> None:
        while (run := self._queue.get()[2]) is not None:
            run()
