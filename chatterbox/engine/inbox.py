"""What is asked of the engine thread? Segments to be spoken and voices to be prepared.

Anybody puts, the engine thread takes; once shut, nothing comes in, and nothing that came is lost.
"""

import threading
from collections import deque

from chatterbox.engine.scheduler import SegmentJob
from chatterbox.errors import ChatterboxError
from chatterbox.model.contract import Voice


class Inbox:
    """In order of arrival."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: deque[SegmentJob | Voice] = deque()
        self._fault: ChatterboxError | None = None

    def __bool__(self) -> bool:
        return bool(self._messages)

    def put(self, message: SegmentJob | Voice) -> None:
        """Raises what it was shut with."""
        with self._lock:
            if self._fault is not None:
                raise self._fault
            self._messages.append(message)

    def shut(self, fault: ChatterboxError) -> None:
        """Whoever comes from now on gets `fault`; the first one stands."""
        with self._lock:
            self._fault = self._fault or fault

    def take(self) -> SegmentJob | Voice | None:
        """The next one; None when there is none."""
        return self._messages.popleft() if self._messages else None

    def segments(self) -> list[SegmentJob]:
        """Those not taken yet. May be asked by any thread."""
        return [message for message in list(self._messages) if isinstance(message, SegmentJob)]
