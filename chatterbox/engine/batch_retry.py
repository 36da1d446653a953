"""What a batch does when a call fails: halve it when memory is short, isolate the row at fault."""

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from chatterbox.errors import ChatterboxError, GenerationFailed, OutOfMemory
from chatterbox.runtime.ort_errors import is_out_of_memory

Row = TypeVar("Row")
Result = TypeVar("Result")

log = logging.getLogger(__name__)

GROW_BACK_AFTER = 1000
"""Good calls after which twice as many rows are tried again: what took the memory may be gone. At
25 steps a second it is 40 s, so that a limit that stays costs next to nothing."""
RETRY_MEMORY_S = 5.0
"""Other requests have moved on by then."""


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
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            try:
                done.append((part, call(part)))
            except Exception as fault:  # noqa: BLE001 - `_split` raises what is no row's
                smaller_parts = self._split(part, fault)
                if not smaller_parts:
                    failed += [(row, _failed()) for row in part]
                for smaller in smaller_parts:
                    try:
                        done.append((smaller, call(smaller)))
                    except Exception as again:  # noqa: BLE001 - so does `_error`
                        error = self._error(again)
                        failed += [(row, error) for row in smaller]
            else:
                self._grow_back()
        for row, error in failed:
            fail(row, error)
        return done

    def _split(self, rows: list[Row], fault: Exception) -> list[list[Row]]:
        """What to call with next, nothing for a row at fault; raises what is no row's fault."""
        if is_out_of_memory(fault):
            log.warning("no memory for %d rows at once; trying half of them", len(rows))
            self._max_rows, self._good_calls = max(1, len(rows) // 2), 0
            middle = (len(rows) + 1) // 2
            return [half for half in (rows[:middle], rows[middle:]) if half]
        if not self._is_row_error(fault):
            raise fault
        log.error("a call with %d rows failed", len(rows), exc_info=fault)
        return [[row] for row in rows] if len(rows) > 1 else []

    def _error(self, fault: Exception) -> ChatterboxError:
        """What a row is told that failed once more; raises what is no row's fault."""
        if is_out_of_memory(fault):
            return OutOfMemory(
                "The device has no memory left for this request.", retry_after_s=RETRY_MEMORY_S
            )
        if not self._is_row_error(fault):
            raise fault
        log.error("a row failed", exc_info=fault)
        return _failed()

    def _grow_back(self) -> None:
        if self._max_rows is None:
            return
        self._good_calls += 1
        if self._good_calls >= GROW_BACK_AFTER:
            self._max_rows, self._good_calls = 2 * self._max_rows, 0


def _failed() -> ChatterboxError:
    return GenerationFailed("The model failed on this text.")
