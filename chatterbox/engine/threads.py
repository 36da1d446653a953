"""Thread helpers: the CPU lock, heartbeats, wake-ups, queues and worker threads."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Generic, TypeVar

from chatterbox.errors import ChatterboxError
from chatterbox.loading import run_into

T = TypeVar("T")


class CpuLock:
    """Lets either the language model or the decoder compute on a CPU; the decoder goes first.

    Two thread pools on the same few cores wait for each other at every small operation, which is
    slower than running one after the other. So a decode that is due runs alone and at once, and the
    language model steps in between. On a GPU the lock does nothing.
    """

    def __init__(self, *, shared: bool) -> None:
        """`shared`: both use the same cores. Otherwise no thread ever waits."""
        self.shared = shared
        self.waiting: set[str] = set()  # for the lock: "model", "decoder", both or neither
        self.busy = False
        self.change = threading.Condition()
        model, decoder, released = _Turn(self, "model"), _Turn(self, "decoder"), _Released(self)
        self.for_model = model if shared else nullcontext()
        """Enter to choose and run a prefill or step. Waits for decodes that run or are due."""
        self.for_decoder = decoder if shared else nullcontext()
        """Enter to decode. Waits at most for the step that is running."""
        self.released = released if shared else nullcontext()
        """Enter within a decode to release the lock meanwhile."""


class _Turn(AbstractContextManager[None]):
    """A reusable context manager that holds the lock."""

    def __init__(self, lock: CpuLock, user: str) -> None:
        self._lock, self._user = lock, user

    def __enter__(self) -> None:
        lock, user = self._lock, self._user
        with lock.change:
            lock.waiting.add(user)
            while lock.busy or (user == "model" and "decoder" in lock.waiting):
                lock.change.wait()
            lock.waiting.discard(user)
            lock.busy = True

    def __exit__(self, *_: object) -> None:
        with self._lock.change:
            self._lock.busy = False
            self._lock.change.notify_all()


class _Released(AbstractContextManager[None]):
    """A reusable context manager that releases the decoder's lock."""

    def __init__(self, lock: CpuLock) -> None:
        self._turn = _Turn(lock, "decoder")

    def __enter__(self) -> None:
        self._turn.__exit__()

    def __exit__(self, *_: object) -> None:
        self._turn.__enter__()


class Heartbeat:
    """Shows that a thread makes progress. Written by one thread, read by a `StallDetector`."""

    __slots__ = ("_beats", "name", "state")

    def __init__(self, name: str) -> None:
        self.name = name
        self.state: int | None = None  # changes with every beat; None while idle
        self._beats = 0

    def beat(self) -> None:
        """Signal that a new piece of work begins."""
        self.state = self._beats = self._beats + 1

    def idle(self) -> None:
        """Signal that there is nothing to do."""
        self.state = None


class StallDetector:
    """Finds heartbeats that have not changed in several checks.

    It counts checks rather than seconds, so that neither a changed clock nor a paused process is
    mistaken for a thread that hangs.
    """

    def __init__(self, checks: int) -> None:
        self._checks = checks
        self._seen: dict[Heartbeat, tuple[int | None, int]] = {}  # last state, checks since

    def check(self, heartbeats: Iterable[Heartbeat]) -> str | None:
        """Return the name of a heartbeat unchanged in `checks` checks after its first, or None."""
        before, self._seen = self._seen, {}
        for heartbeat in heartbeats:
            (last, count), now = before.get(heartbeat, (None, 0)), heartbeat.state
            self._seen[heartbeat] = now, count + 1 if now is not None and now == last else 0
        stalled = (one.name for one, (_, count) in self._seen.items() if count >= self._checks)
        return next(stalled, None)


class Wakeup:
    """Lets one thread sleep until another thread notifies it."""

    def __init__(self) -> None:
        self._news = threading.Event()

    def notify(self) -> None:
        """Wake the thread, or make its next `wait` return at once."""
        if not self._news.is_set():  # else the thread has yet to see the last one
            self._news.set()

    def wait(self, heartbeat: Heartbeat, timeout_s: float | None) -> None:
        """Sleep until notified, at most `timeout_s`; return at once if notified since the last
        `wait`. `heartbeat` idles meanwhile."""
        if not self._news.is_set():
            heartbeat.idle()
            self._news.wait(timeout_s)
        self._news.clear()


class CommandQueue(Generic[T]):
    """A queue into one thread. Once shut, it accepts no items but keeps those it has."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: deque[T] = deque()
        self._error: ChatterboxError | None = None

    def __bool__(self) -> bool:
        return bool(self._items)

    def put(self, item: T) -> None:
        """Add to the end. Raises the error that the queue was shut with."""
        with self._lock:
            if self._error is not None:
                raise self._error
            self._items.append(item)

    def shut(self, error: ChatterboxError) -> None:
        """Make every later `put` raise `error`. Later calls change nothing."""
        with self._lock:
            self._error = self._error or error

    def take(self) -> T | None:
        """Remove and return the oldest item; None if the queue is empty."""
        return self._items.popleft() if self._items else None

    def items(self) -> list[T]:
        """A copy of the items. Any thread may call."""
        return list(self._items)

    def clear(self) -> None:
        """Drop all items."""
        self._items.clear()


class WorkerThread:
    """A thread that runs tasks one after another, then a last one that may never return.

    ONNX Runtime keeps captured CUDA graphs per thread: only the thread that captured a graph can
    replay it. So the thread that opens a model also calls it.
    """

    def __init__(self, name: str) -> None:
        self._tasks: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread has not ended."""
        return self._thread.is_alive()

    def call(self, work: Callable[[], T]) -> T:
        """Run `work` in the thread, with this context. Returns or raises as `work` does."""
        done: Future[T] = Future()
        self._tasks.put(partial(copy_context().run, run_into, done, work))
        return done.result()

    def run_forever(self, work: Callable[[], None]) -> None:
        """Run `work` in the thread as its last task. Returns at once."""
        self._tasks.put(work)
        self.stop()

    def stop(self) -> None:
        """End the thread after the tasks given so far."""
        self._tasks.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait for the thread's end, at most `timeout_s`."""
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()
