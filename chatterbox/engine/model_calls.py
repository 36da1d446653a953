"""Calls of a loop to its model: batches that are split when memory is short or a row fails, and the
preparation of voices while the engine is idle."""

import logging
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from chatterbox.errors import ChatterboxError, GenerationFailed, OutOfMemory
from chatterbox.runtime.ort_errors import is_out_of_memory, is_request_error

Row = TypeVar("Row")
Result = TypeVar("Result")
T = TypeVar("T")
log = logging.getLogger(__name__)

GROW_BACK_AFTER = 1000
"""Successful calls after which the limit of rows is doubled, since memory may be free again. At 25
steps a second this takes 40 s, so that a permanent limit costs next to nothing."""
RETRY_MEMORY_S = 5.0
"""`Retry-After` of a request that ran out of memory: others have ended by then."""
MAX_WAITING_VOICES = 100
"""Most voices waiting to be prepared, at 2 MB each; the oldest are dropped."""


class SplittingBatch(Generic[Row, Result]):
    """Splits a batch into calls that succeed. A call that raises must have changed nothing."""

    def __init__(self, is_row_error: Callable[[BaseException], bool]) -> None:
        """`is_row_error`: whether a fault is one row's. That row is found by calling with each row
        alone. Other faults are raised."""
        self._is_row_error = is_row_error
        self._max_rows: int | None = None  # in one call; None: no limit
        self._good_calls = 0  # since memory ran out

    def run(
        self,
        rows: list[Row],
        call: Callable[[list[Row]], Result],
        fail: Callable[[Row, ChatterboxError], None],
    ) -> list[tuple[list[Row], Result]]:
        """Call with all rows, in as many calls as needed. Returns each call's rows and result, in
        order. At the end `fail` is called for each row without a result."""
        size = self._max_rows or max(1, len(rows))
        done: list[tuple[list[Row], Result]] = []
        failed: list[tuple[Row, ChatterboxError]] = []
        for at in range(0, len(rows), size):
            part = rows[at : at + size]
            try:
                done.append((part, call(part)))
            except Exception as fault:  # noqa: BLE001 - `_split` raises other faults
                retries = deque(self._split(part, fault))
                while retries:
                    rest = retries.popleft()
                    try:
                        done.append((rest, call(rest)))
                    except Exception as again:  # noqa: BLE001 - `_error` raises other faults
                        error = self._error(again)
                        if len(rest) == 1 or isinstance(error, OutOfMemory):
                            failed += [(row, error) for row in rest]
                        else:  # half a batch, with a faulty row
                            retries.extendleft([row] for row in reversed(rest))
                continue
            self._good_calls += 1
            if self._max_rows and self._good_calls >= GROW_BACK_AFTER:
                self._max_rows, self._good_calls = 2 * self._max_rows, 0
        for row, error in failed:
            fail(row, error)
        return done

    def _split(self, rows: list[Row], fault: Exception) -> list[list[Row]]:
        """Split a batch whose call failed: halves if memory is short, else single rows."""
        if is_out_of_memory(fault):
            log.warning("no memory for %d rows at once; trying half of them", len(rows))
            self._max_rows, self._good_calls = max(1, len(rows) // 2), 0
            middle = (len(rows) + 1) // 2
            return [half for half in (rows[:middle], rows[middle:]) if half]
        if not self._is_row_error(fault):
            raise fault
        log.error("a call with %d rows failed", len(rows), exc_info=fault)
        return [[row] for row in rows]

    def _error(self, fault: Exception) -> ChatterboxError:
        """The error of a row, or of half a batch, that failed again. Raises other faults."""
        if is_out_of_memory(fault):
            return OutOfMemory(
                "The device has no memory left for this request.", retry_after_s=RETRY_MEMORY_S
            )
        if not self._is_row_error(fault):
            raise fault
        log.error("a call failed again", exc_info=fault)
        return GenerationFailed("The model failed on this text.")


class VoiceWarmup(Generic[T]):
    """Queue of voices that the thread owning the model prepares while the engine is idle.

    Any thread may add. A fault of a voice is logged; its first request will meet it again.
    """

    def __init__(self, prepare: Callable[[T], None], idle: Callable[[], bool]) -> None:
        """`prepare`: prepares one voice. `idle`: whether no segment is in work."""
        self._prepare = prepare
        self._idle = idle
        self._waiting: deque[T] = deque(maxlen=MAX_WAITING_VOICES)

    def __bool__(self) -> bool:
        """Whether a voice is waiting."""
        return bool(self._waiting)

    def add(self, voice: T) -> None:
        """Queue `voice`."""
        self._waiting.append(voice)

    def run_one(self) -> bool:
        """Prepare the next voice if the engine is idle. Returns whether it did. Raises faults other
        than the voice's and lack of memory."""
        if not (self._waiting and self._idle()):
            return False
        try:
            self._prepare(self._waiting.popleft())
        except Exception as fault:
            if not (is_out_of_memory(fault) or is_request_error(fault)):
                raise
            log.warning("a voice could not be prepared: %s", fault)
        return True
