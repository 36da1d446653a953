"""Thread helpers: wake-ups, heartbeats, a worker thread, a queue that can be shut."""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextvars import copy_context
from queue import SimpleQueue
from typing import Generic, TypeVar

from chatterbox.errors import ChatterboxError

T = TypeVar("T")


class Heartbeat:
    """Shows that a thread makes progress. Written by one thread, read by a `StallDetector`."""

    __slots__ = ("_beats", "_idle", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._beats = 0
        self._idle = True

    def beat(self) -> None:
        """A new piece of work begins."""
        self._beats += 1
        self._idle = False

    def idle(self) -> None:
        """There is nothing to do."""
        self._idle = True

    @property
    def state(self) -> int | None:
        """Changes with every beat; None while idle."""
        return None if self._idle else self._beats


class StallDetector:
    """Finds a heartbeat that has not changed in several checks.

    It counts checks and reads no clock, so that neither a changed clock nor a process that was
    stopped for a while is taken for a thread that hangs.
    """

    def __init__(self, checks: int) -> None:
        self._checks = checks
        self._seen: dict[Heartbeat, tuple[int | None, int]] = {}  # last state, checks since

    def check(self, heartbeats: Iterable[Heartbeat]) -> str | None:
        """The name of one that was the same in `checks` checks after the first; None if none."""
        self._seen = {heartbeat: self._count(heartbeat) for heartbeat in heartbeats}
        for heartbeat, (_, count) in self._seen.items():
            if count >= self._checks:
                return heartbeat.name
        return None

    def _count(self, heartbeat: Heartbeat) -> tuple[int | None, int]:
        before, count = self._seen.get(heartbeat, (None, 0))
        now = heartbeat.state
        return now, count + 1 if now is not None and now == before else 0


class Wakeup:
    """Lets one thread sleep until any other notifies it."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._notified = False

    def notify(self) -> None:
        """Wake the thread, or keep it from falling asleep next time."""
        if self._notified:  # it has not looked since: it will
            return
        with self._change:
            self._notified = True
            self._change.notify()

    def wait(self, heartbeat: Heartbeat, timeout_s: float | None) -> None:
        """Until notified, `timeout_s` at most; not at all if notified since the last time.
        `heartbeat` idles meanwhile."""
        with self._change:
            if not self._notified:
                heartbeat.idle()
                self._change.wait(timeout_s)
            self._notified = False


class WorkerThread:
    """A thread that runs tasks one after the other, then a last one that may take for ever.

    ONNX Runtime keeps captured CUDA graphs for each thread: what one has captured another cannot
    replay. So the thread that opened a graph also calls it.
    """

    def __init__(self, name: str) -> None:
        self._tasks: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._thread.is_alive()

    def call(self, work: Callable[[], T]) -> T:
        """Run `work` there, in this context; returns or raises what it does."""
        done: Future[T] = Future()
        context = copy_context()

        def task() -> None:
            try:
                done.set_result(context.run(work))
            except BaseException as fault:  # noqa: BLE001 - raised where it is waited for
                done.set_exception(fault)

        self._tasks.put(task)
        return done.result()

    def run_forever(self, work: Callable[[], None]) -> None:
        """Run `work` there as the last task; returns at once."""
        self._tasks.put(work)
        self.stop()

    def stop(self) -> None:
        """End after the tasks given so far."""
        self._tasks.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait for its end, `timeout_s` at most."""
        self._thread.join(timeout_s)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()


class CommandQueue(Generic[T]):
    """A queue into one thread. Once shut it takes nothing more, and loses nothing it has taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: deque[T] = deque()
        self._error: ChatterboxError | None = None

    def __bool__(self) -> bool:
        return bool(self._items)

    def put(self, item: T) -> None:
        """Add to the end. Raises what the queue was shut with."""
        with self._lock:
            if self._error is not None:
                raise self._error
            self._items.append(item)

    def shut(self, error: ChatterboxError) -> None:
        """Every later `put` raises `error`; the first error stands."""
        with self._lock:
            self._error = self._error or error

    def take(self) -> T | None:
        """The oldest item; None when there is none."""
        return self._items.popleft() if self._items else None

    def items(self) -> list[T]:
        """Those not taken yet. Any thread may ask."""
        return list(self._items)
