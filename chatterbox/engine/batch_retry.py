"""How many rows share a call, when calls fail? All; half of them once memory ran out; one alone.

Knows rows and a call that takes them, and neither a model nor a thread. A call that fails must have
changed nothing.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from chatterbox.errors import ChatterboxError, GenerationFailed, OutOfMemory
from chatterbox.runtime.ort_errors import is_out_of_memory

Row = TypeVar("Row")
Result = TypeVar("Result")

log = logging.getLogger(__name__)

FORGIVEN_AFTER = 1000
"""Good calls after which twice as many rows are tried again: what took the memory may be gone. At
25 steps a second it is 40 s, so that a bound that stays costs next to nothing."""
RETRY_MEMORY_S = 5.0
"""Other requests have moved on by then."""


class SplittingBatch(Generic[Row, Result]):
    """Calls with as many rows as go."""

    def __init__(self, owned: Callable[[BaseException], bool]) -> None:
        """`owned`: whether a fault is one row's own; such a row fails alone, found by calling with
        each row by itself. Other faults are raised."""
        self._owned = owned
        self._most: int | None = None  # rows in one call; None: as many as there are
        self._good = 0  # calls since memory ran out

    def run(
        self, rows: Sequence[Row], call: Callable[[Sequence[Row]], Result]
    ) -> list[tuple[Sequence[Row], Result | ChatterboxError]]:
        """What came of all `rows`, in order, in as many calls as were needed."""
        size = self._most or max(1, len(rows))
        found: list[tuple[Sequence[Row], Result | ChatterboxError]] = []
        for start in range(0, len(rows), size):
            found += self._portion(rows[start : start + size], call)
        return found

    def _portion(
        self, rows: Sequence[Row], call: Callable[[Sequence[Row]], Result]
    ) -> list[tuple[Sequence[Row], Result | ChatterboxError]]:
        try:
            result = call(rows)
        except Exception as fault:
            if is_out_of_memory(fault):
                log.warning("no memory for %d rows at once; trying half of them", len(rows))
                self._most, self._good = max(1, len(rows) // 2), 0
                middle = (len(rows) + 1) // 2
                again = [half for half in (rows[:middle], rows[middle:]) if half]
            elif self._owned(fault):
                log.exception("a call with %d rows failed", len(rows))
                again = [[row] for row in rows] if len(rows) > 1 else []
                if not again:
                    return [(rows, _failed())]
            else:
                raise
            return [(part, self._once_more(part, call)) for part in again]
        self._forgive()
        return [(rows, result)]

    def _once_more(
        self, rows: Sequence[Row], call: Callable[[Sequence[Row]], Result]
    ) -> Result | ChatterboxError:
        try:
            return call(rows)
        except Exception as fault:
            if is_out_of_memory(fault):
                return OutOfMemory(
                    "The device has no memory left for this request.", retry_after_s=RETRY_MEMORY_S
                )
            if not self._owned(fault):
                raise
            log.exception("a row failed")
            return _failed()

    def _forgive(self) -> None:
        if self._most is None:
            return
        self._good += 1
        if self._good >= FORGIVEN_AFTER:
            self._most, self._good = 2 * self._most, 0


def _failed() -> GenerationFailed:
    return GenerationFailed("The model failed on this text.")
