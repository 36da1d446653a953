"""Priority pool: a few threads for blocking work, which take the most urgent first."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

URGENT, NORMAL, LAST = 0, 1, 2


class PriorityPool(Executor):
    """A thread pool with a priority queue. `submit` is NORMAL work; see `submit_at`. One thread
    more takes URGENT work only: recordings never keep a text waiting (FAULTS F98)."""

    def __init__(self, threads: int, name: str) -> None:
        self._waiting: list[tuple[int, int, Callable[[], None]]] = []  # a heap
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(
                target=self._work,
                args=[LAST if number < threads else URGENT],
                name=f"{name}-{number}",
                daemon=True,
            )
            for number in range(threads + 1)
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

        with self._changed:
            if self._closed:
                raise RuntimeError("the pool is closed")
            heapq.heappush(self._waiting, (priority, next(self._order), run))
            self._changed.notify_all()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """No new work; what is queued is still done unless `cancel_futures`."""
        with self._changed:
            self._closed = True
            if cancel_futures:
                self._waiting.clear()
            self._changed.notify_all()
        if wait:
            self.join(None)

    def join(self, timeout_s: float | None) -> None:
        """Wait, after `shutdown`, until the threads are done with what they are doing."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))

    def _work(self, least: int) -> None:
        """Do what is at least so urgent."""
        while (run := self._next(least)) is not None:
            run()

    def _next(self, least: int) -> Callable[[], None] | None:
        with self._changed:
            while not (self._waiting and self._waiting[0][0] <= least):
                if self._closed:
                    return None
                self._changed.wait()
            return heapq.heappop(self._waiting)[2]
