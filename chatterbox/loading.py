"""Progress reports and background threads for loading a model.

Code that downloads or compiles calls `report_progress`. The caller that started the load receives
the reports through `listening`, and `/health` shows them.
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
    """Progress of loading a model."""

    stage: Stage = "opening"
    detail: str = ""  # such as "312 of 812 MB" or "the decoder"
    done: float | None = None  # 0 to 1; None if unknown


Listener = Callable[[Loading], None]
_listener: ContextVar[Listener] = ContextVar("listener", default=lambda _progress: None)


def report_progress(stage: Stage, detail: str = "", done: float | None = None) -> None:
    """Report progress to the listener of the current context."""
    _listener.get()(Loading(stage, detail, done))


def run_into(future: "Future[T]", work: Callable[[], T]) -> None:
    """Call `work` and set its result or exception on `future`."""
    try:
        result = work()
    except BaseException as fault:  # noqa: BLE001 - raised by future.result()
        future.set_exception(fault)
    else:
        future.set_result(result)


def run_in_thread(work: Callable[[], T]) -> "Future[T]":
    """Call `work` in a new thread with a copy of the current context.

    The thread is a daemon, so that a signal can end the process while a download or driver hangs.
    """
    future: Future[T] = Future()
    task = partial(copy_context().run, run_into, future, work)
    threading.Thread(target=task, name="loading", daemon=True).start()
    return future


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send reports made inside the `with` block to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
