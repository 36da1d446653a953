"""Who computes now, where language model and decoder share the same cores? One at a time.

Knows neither. Two thread pools on the same few cores wait for each other at every small operation,
and both get slower than by cpu; so on a CPU a decode that is due runs alone and at once, and the
language model steps in between. On a GPU nobody waits.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from chatterbox.engine.fairness import FairScheduler


class CpuLock:
    """Mutual exclusion of two threads, one of which goes first."""

    def __init__(self, *, shared: bool) -> None:
        """`shared`: both use the same cores. Otherwise nobody ever waits."""
        self.shared = shared
        self._change = threading.Condition()
        self._busy = False
        self._decoder_waits = False
        self.favour = FairScheduler(shared=shared)
        self.step_s = 0.0
        """What the last step kept the decoder from the cores; 0 where they are not shared."""

    @contextmanager
    def for_decoder(self) -> Iterator[None]:
        """Around a decode: waits for the step that is running, no longer."""
        self._begin_decode()
        try:
            yield
        finally:
            self._end()

    @contextmanager
    def released(self) -> Iterator[None]:
        """Within a decode: a while for others."""
        self._end()
        try:
            yield
        finally:
            self._begin_decode()

    def _free(self) -> bool:
        return not (self._busy or self._decoder_waits)

    @contextmanager
    def for_model(self) -> Iterator[None]:
        """Around a choice and its prefill or step, behind a decode that runs or wants to."""
        if self.shared:
            with self._change:
                self._change.wait_for(self._free)
                self._busy = True
        try:
            yield
        finally:
            self._end()

    def stepped(self, took_s: float) -> None:
        """A step took so long."""
        self.step_s = took_s if self.shared else 0.0

    def _begin_decode(self) -> None:
        if self.shared:
            with self._change:
                self._decoder_waits = True
                self._change.wait_for(lambda: not self._busy)
                self._busy, self._decoder_waits = True, False

    def _end(self) -> None:
        """Of a turn, however that came; others are told."""
        with self._change:
            self._busy = False
            self._change.notify_all()
