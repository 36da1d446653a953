"""What a model that is being loaded is busy with: told by what does the work, shown in `/health`.

Whoever downloads or compiles knows no server; it tells, and whoever started the load listens.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

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


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """What is told within goes to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
