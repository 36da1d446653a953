"""How a loop calls its model: in as many calls as memory allows, a row at fault apart from others;
and while nobody speaks, to prepare voices."""

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
"""Good calls after which twice as many rows are tried again: what took the memory may be gone. At
25 steps a second it is 40 s, so that a limit that stays costs next to nothing."""
RETRY_MEMORY_S = 5.0
"""Other requests have moved on by then."""
MAX_WAITING_VOICES = 100
"""Each keeps its tensors in memory (2 MB); the oldest ones are dropped first."""


class SplittingBatch(Generic[Row, Result]):
    """Calls with as many rows as fit. A call that fails must have changed nothing."""

    def __init__(self, is_row_error: Callable[[BaseException], bool]) -> None:
        """`is_row_error`: whether a fault is of one row, which then fails alone, found by calling
        with each row by itself. Other faults are raised."""
        self._is_row_error = is_row_error
        self._max_rows: int | None = None  # in one call; None: as many as there are
        self._good_calls = 0  # since memory ran out

    def run(
        self,
        rows: list[Row],
        call: Callable[[list[Row]], Result],
        fail: Callable[[Row, ChatterboxError], None],
    ) -> list[tuple[list[Row], Result]]:
        """Results in order, each with the rows of its call, in as many calls as were needed. At
        the end `fail` is called for every row that had none."""
        size = self._max_rows or max(1, len(rows))
        done: list[tuple[list[Row], Result]] = []
        failed: list[tuple[Row, ChatterboxError]] = []
        for at in range(0, len(rows), size):
            part = rows[at : at + size]
            try:
                done.append((part, call(part)))
            except Exception as fault:  # noqa: BLE001 - `_smaller` raises what is no row's
                for few in self._smaller(part, fault):
                    try:
                        done.append((few, call(few)))
                    except Exception as again:  # noqa: BLE001 - so does `_error`
                        error = self._error(again)
                        failed += [(row, error) for row in few]
                continue
            self._good_calls += 1
            if self._max_rows and self._good_calls >= GROW_BACK_AFTER:
                self._max_rows, self._good_calls = 2 * self._max_rows, 0
        for row, error in failed:
            fail(row, error)
        return done

    def _smaller(self, rows: list[Row], fault: Exception) -> list[list[Row]]:
        """What to call with next: halves where memory is short, else each row alone."""
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
        """What a row is told that failed once more; raises what is no row's fault."""
        if is_out_of_memory(fault):
            return OutOfMemory(
                "The device has no memory left for this request.", retry_after_s=RETRY_MEMORY_S
            )
        if not self._is_row_error(fault):
            raise fault
        log.error("a row failed", exc_info=fault)
        return GenerationFailed("The model failed on this text.")


class VoiceWarmup(Generic[T]):
    """Voices waiting to be prepared, one at a time, by the thread that owns the model.

    Any thread adds. A voice that cannot be prepared meets its fault at its first request.
    """

    def __init__(self, prepare: Callable[[T], None], idle: Callable[[], bool]) -> None:
        """`prepare`: takes a voice as the thread's model knows it. `idle`: whether no segment is in
        work: only then is a voice prepared."""
        self._prepare = prepare
        self._idle = idle
        self._waiting: deque[T] = deque(maxlen=MAX_WAITING_VOICES)

    def __bool__(self) -> bool:
        """Whether any voice waits."""
        return bool(self._waiting)

    def add(self, voice: T) -> None:
        """Have `voice` prepared when the engine is next idle."""
        self._waiting.append(voice)

    def run_one(self) -> bool:
        """Prepare the next voice unless something is in work; returns whether it did. Faults of
        the voice, and a lack of memory, are logged; anything else is raised."""
        if not (self._waiting and self._idle()):
            return False
        try:
            self._prepare(self._waiting.popleft())
        except Exception as fault:
            if not (is_out_of_memory(fault) or is_request_error(fault)):
                raise
            log.warning("a voice could not be prepared: %s", fault)
        return True
