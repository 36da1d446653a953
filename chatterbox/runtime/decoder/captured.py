"""How does a graph run again in shapes it has run in before? At fixed addresses, so that on a GPU
each shape can be one CUDA graph.

Knows shapes, addresses and a session; nothing of what the graph computes, nor when to record. A
captured graph does what was done at its capture, whatever has changed since. So each is compared
with a plain run on other numbers before anything is made with it.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from chatterbox.runtime.buffers import Buffer, Memory
from chatterbox.runtime.cuda_graphs import NO_CAPTURE, REHEARSALS, run_options
from chatterbox.runtime.decoder.graph_io import EQUAL_DB, Feeds, snr_db

Array = NDArray[Any]


class CapturedSession:
    """A session that runs, in the shapes it met while `recording`, at fixed addresses."""

    def __init__(self, session: ort.InferenceSession, memory: Memory) -> None:
        """`session`: opened with `capture.CAPTURE_OPTIONS` where it is to capture."""
        self._session, self._memory = session, memory
        self._plainly = run_options(NO_CAPTURE)
        self._recording = False
        self._calls: dict[Hashable, _Call | None] = {}  # None: a replay computed something else

    @property
    def recorded(self) -> int:
        """Shapes that are replayed."""
        return sum(call is not None for call in self._calls.values())

    @property
    def refused(self) -> int:
        """Shapes that are not, since a replay was not the same computation."""
        return len(self._calls) - self.recorded

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Learn every shape that is run meanwhile. Nothing else may use the device."""
        self._recording = True
        try:
            yield
        finally:
            self._recording = False

    def get_inputs(self) -> Sequence[Any]:
        """The session's."""
        inputs: Sequence[Any] = self._session.get_inputs()
        return inputs

    def run(self, outputs: Sequence[str], feeds: Feeds) -> Sequence[Array]:
        """As the session's own."""
        shape = tuple(outputs), tuple((name, values.shape) for name, values in feeds.items())
        if self._recording and shape not in self._calls:
            self._calls[shape] = self._proven(outputs, feeds)
        call = self._calls.get(shape)
        return self._plain(outputs, feeds) if call is None else call.run(feeds)

    def _plain(self, outputs: Sequence[str], feeds: Feeds) -> list[Array]:
        made: list[Array] = self._session.run(list(outputs), feeds, self._plainly)
        return made

    def _proven(self, outputs: Sequence[str], feeds: Feeds) -> "_Call | None":
        made = dict(zip(outputs, self._plain(outputs, feeds), strict=True))
        graph_id = str(len(self._calls) + 1)
        call = _Call(self._session, self._memory, feeds, made, graph_id)
        for _ in range(REHEARSALS):
            call.run(feeds)
        others = {name: _other(values) for name, values in feeds.items()}
        both = zip(self._plain(outputs, others), call.run(others), strict=True)
        alike = min(snr_db(plain, replayed) for plain, replayed in both)
        return call if alike >= EQUAL_DB else None


class _Call:
    """One shape: its buffers, bound for good."""

    def __init__(
        self,
        session: ort.InferenceSession,
        memory: Memory,
        feeds: Mapping[str, Array],
        made: Mapping[str, Array],
        graph_id: str,
    ) -> None:
        self._session = session
        self._inputs = _buffers(memory, feeds)
        self._outputs = _buffers(memory, made)
        self._binding = session.io_binding()
        for name, buffer in self._inputs.items():
            memory.bind_input(self._binding, name, buffer)
        for name, buffer in self._outputs.items():
            memory.bind_output(self._binding, name, buffer)
        self._options = run_options(graph_id)

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs, in memory of their own."""
        for name, values in feeds.items():
            self._inputs[name].put(values)
        self._session.run_with_iobinding(self._binding, self._options)
        return [buffer.get().copy() for buffer in self._outputs.values()]


def _buffers(memory: Memory, values: Mapping[str, Array]) -> dict[str, Buffer]:
    return {name: memory.buffer(value.shape, value.dtype) for name, value in values.items()}


def _other(values: Array) -> Array:
    """Other numbers that mean something too: samples a little softer, codes, lengths and steps one
    less."""
    if np.issubdtype(values.dtype, np.integer):
        return values - (values > 0)
    return (0.9 * values).astype(values.dtype)
