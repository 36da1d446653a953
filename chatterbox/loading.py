"""Loading a model: parts of it at the same time, and what it is busy with, shown in `/health`.

Whoever downloads or compiles knows no server; it tells, and whoever started the load listens.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

T = TypeVar("T")

Stage = Literal["downloading", "compiling", "opening", "warming"]


@dataclass(frozen=True, slots=True)
class Loading:
    """One moment of it."""

    stage: Stage = "opening"
    detail: str = ""  # "312 of 812 MB", "the decoder"
    done: float | None = None  # from 0 to 1, where it is known


Listener = Callable[[Loading], None]
_listener: ContextVar[Listener] = ContextVar("listener", default=lambda _moment: None)


def tell(stage: Stage, detail: str = "", done: float | None = None) -> None:
    """Say what is done now to whoever listens in this context."""
    _listener.get()(Loading(stage, detail, done))


def fulfil(future: "Future[T]", work: Callable[[], T]) -> None:
    """Do `work`; whoever waits for `future` gets what it returns or raises."""
    try:
        result = work()
    except BaseException as fault:  # noqa: BLE001 - raised where it is waited for
        future.set_exception(fault)
    else:
        future.set_result(result)


def begin(work: Callable[[], T]) -> "Future[T]":
    """Have `work` done in a thread of its own, in this context. The thread does not keep the
    process: loading may hang in a download or a driver, and a signal must still end it."""
    done: Future[T] = Future()
    task = partial(copy_context().run, fulfil, done, work)
    threading.Thread(target=task, name="loading", daemon=True).start()
    return done


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """What is told within goes to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
