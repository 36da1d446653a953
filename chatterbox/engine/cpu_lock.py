"""Mutual exclusion of language model and decoder where they share a CPU's cores.

Two thread pools on the same few cores wait for each other at every small operation, and both get
slower than one after the other. So on a CPU a decode that is due runs alone and at once, and the
language model steps in between. On a GPU nobody waits.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext


class CpuLock:
    """A lock of two threads, of which the decoder's goes first."""

    def __init__(self, *, shared: bool) -> None:
        """`shared`: both use the same cores. Otherwise nobody ever waits."""
        self.shared = shared
        self._change = threading.Condition()
        self._busy = False
        self._decoder_waits = False
        self._waiting_models = 0
        self._for_model = _Scope(self._begin_model, self._end)
        self._for_decoder = _Scope(self._begin_decode, self._end)
        self._released = _Scope(self._end, self._begin_decode)

    @property
    def waiting(self) -> set[str]:
        """Who waits for the cores: "model", "decoder", both or neither."""
        waits = {"model": self._waiting_models > 0, "decoder": self._decoder_waits}
        return {name for name, waiting in waits.items() if waiting}

    def for_model(self) -> AbstractContextManager[None]:
        """Around a choice and its prefill or step, behind a decode that runs or is due."""
        return self._for_model if self.shared else nullcontext()

    def for_decoder(self) -> AbstractContextManager[None]:
        """Around a decode: waits for the step that is running, no longer."""
        return self._for_decoder if self.shared else nullcontext()

    def released(self) -> AbstractContextManager[None]:
        """Within a decode: lets others have the cores for a while."""
        return self._released if self.shared else nullcontext()

    def _begin_model(self) -> None:
        with self._change:
            self._waiting_models += 1
            while self._busy or self._decoder_waits:
                self._change.wait()
            self._waiting_models -= 1
            self._busy = True

    def _begin_decode(self) -> None:
        with self._change:
            self._decoder_waits = True
            while self._busy:
                self._change.wait()
            self._busy, self._decoder_waits = True, False

    def _end(self) -> None:
        with self._change:
            self._busy = False
            self._change.notify_all()


class _Scope(AbstractContextManager[None]):
    """Calls `enter` and `leave` around a `with`; may be used again and again."""

    def __init__(self, enter: Callable[[], None], leave: Callable[[], None]) -> None:
        self._enter, self._leave = enter, leave

    def __enter__(self) -> None:
        self._enter()

    def __exit__(self, *_: object) -> None:
        self._leave()
