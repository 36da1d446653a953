"""Thread helpers: whose turn the cores are, wake-ups, heartbeats, worker threads, their queues."""

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
    """A lock of language model and decoder where they share a CPU's cores; the decoder goes first.

    Two thread pools on the same few cores wait for each other at every small operation, and both
    get slower than one after the other. So on a CPU a decode that is due runs alone and at once,
    and the language model steps in between. On a GPU nobody waits.
    """

    def __init__(self, *, shared: bool) -> None:
        """`shared`: both use the same cores. Otherwise nobody ever waits."""
        self.shared = shared
        self.waiting: set[str] = set()  # for the cores: "model", "decoder", both or neither
        self.busy = False
        self.change = threading.Condition()
        model, decoder, released = _Turn(self, "model"), _Turn(self, "decoder"), _Released(self)
        self.for_model = model if shared else nullcontext()
        """Around a choice and its prefill or step, behind a decode that runs or is due."""
        self.for_decoder = decoder if shared else nullcontext()
        """Around a decode: waits for the step that is running, no longer."""
        self.released = released if shared else nullcontext()
        """Within a decode: lets others have the cores for a while."""


class _Turn(AbstractContextManager[None]):
    """Has the cores for the time of a `with`, again and again."""

    def __init__(self, lock: CpuLock, who: str) -> None:
        self._lock, self._who = lock, who

    def __enter__(self) -> None:
        lock, who = self._lock, self._who
        with lock.change:
            lock.waiting.add(who)
            while lock.busy or (who == "model" and "decoder" in lock.waiting):
                lock.change.wait()
            lock.waiting.discard(who)
            lock.busy = True

    def __exit__(self, *_: object) -> None:
        with self._lock.change:
            self._lock.busy = False
            self._lock.change.notify_all()


class _Released(AbstractContextManager[None]):
    """The reverse, for the decoder."""

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
        """A new piece of work begins."""
        self.state = self._beats = self._beats + 1

    def idle(self) -> None:
        """There is nothing to do."""
        self.state = None


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
        before, self._seen = self._seen, {}
        for heartbeat in heartbeats:
            (last, count), now = before.get(heartbeat, (None, 0)), heartbeat.state
            self._seen[heartbeat] = now, count + 1 if now is not None and now == last else 0
        stalled = (one.name for one, (_, count) in self._seen.items() if count >= self._checks)
        return next(stalled, None)


class Wakeup:
    """Lets one thread sleep until any other notifies it."""

    def __init__(self) -> None:
        self._news = threading.Event()

    def notify(self) -> None:
        """Wake the thread, or keep it from falling asleep next time."""
        if not self._news.is_set():  # else it has not looked since: it will
            self._news.set()

    def wait(self, heartbeat: Heartbeat, timeout_s: float | None) -> None:
        """Until notified, `timeout_s` at most; not at all if notified since the last time.
        `heartbeat` idles meanwhile."""
        if not self._news.is_set():
            heartbeat.idle()
            self._news.wait(timeout_s)
        self._news.clear()


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

    def clear(self) -> None:
        """Forget them."""
        self._items.clear()


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
        self._tasks.put(partial(copy_context().run, run_into, done, work))
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
