"""The segments that the engine thread is asked to speak, in order of arrival.

Anybody puts, the engine thread takes; once shut, nothing comes in, and nothing that came is lost.
"""

import threading
from collections import deque

from chatterbox.engine.scheduler import SegmentRequest
from chatterbox.errors import ChatterboxError


class CommandQueue:
    """In order of arrival."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: deque[SegmentRequest] = deque()
        self._fault: ChatterboxError | None = None

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def put(self, job: SegmentRequest) -> None:
        """Raises what it was shut with."""
        with self._lock:
            if self._fault is not None:
                raise self._fault
            self._jobs.append(job)

    def shut(self, fault: ChatterboxError) -> None:
        """Whoever comes from now on gets `fault`; the first one stands."""
        with self._lock:
            self._fault = self._fault or fault

    def take(self) -> SegmentRequest | None:
        """The next one; None when there is none."""
        return self._jobs.popleft() if self._jobs else None

    def segments(self) -> list[SegmentRequest]:
        """Those not taken yet. May be asked by any thread."""
        return list(self._jobs)
