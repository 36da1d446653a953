"""Voices that wait to be prepared: one at a time, by a thread whose engine has nothing to speak.

Nobody waits for that: a voice that cannot be prepared meets the fault at its first request.
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from chatterbox.runtime.contract import Voice
from chatterbox.runtime.ort_errors import is_out_of_memory, is_request_error

log = logging.getLogger(__name__)

MOST_WAITING = 100
"""Each keeps its tensors in memory (2 MB); the oldest ones are forgotten first."""


class Warmable(Protocol):
    """A language model or a decoder."""

    def warm(self, voice: Voice) -> None:
        """Prepare for `voice`."""
        ...


class Warming:
    """Of one thread. Anybody adds, only that thread prepares."""

    def __init__(self, model: Warmable, idle: Callable[[], bool]) -> None:
        """`idle`: whether no segment is in work, so that nobody is kept waiting but who comes while
        one voice is prepared."""
        self._model = model
        self._idle = idle
        self._waiting: deque[Voice] = deque(maxlen=MOST_WAITING)

    def __bool__(self) -> bool:
        """Whether any voice waits."""
        return bool(self._waiting)

    def add(self, voice: Voice) -> None:
        """Have `voice` prepared at the next moment of rest."""
        self._waiting.append(voice)

    def one(self) -> bool:
        """Prepare the next voice, unless something is in work; whether that was done. What is the
        voice's own fault, or a want of memory, is only logged; anything else is raised."""
        if not (self._waiting and self._idle()):
            return False
        try:
            self._model.warm(self._waiting.popleft())
        except Exception as fault:
            if not (is_out_of_memory(fault) or is_request_error(fault)):
                raise
            log.warning("a voice could not be prepared: %s", fault)
        return True
