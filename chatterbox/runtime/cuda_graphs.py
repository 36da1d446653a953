"""The fixed shapes in which graphs run on a GPU: those of the language model's steps, and a codec's
session that runs each shape at fixed addresses.

A CUDA graph replays the kernels, shapes and addresses of its capture whatever it is given, and
onnxruntime does not check that an id comes back with what it was captured with. So that is checked
here on every step of the language model. A codec's graphs are each compared with a plain run on
other numbers before anything is made with them, and again once all are captured: cuDNN's plan of
one shape goes when the next is run.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from chatterbox.errors import first_line
from chatterbox.runtime.buffers import Block, HostBuffer, Memory
from chatterbox.runtime.decoder.graph_io import EQUAL_DB, Feeds, snr_db

GRAPH_ID_KEY = "gpu_graph_id"
NO_CAPTURE = "-1"
"""onnxruntime's own value for "run this one without capture or replay"."""
CAPTURE_OPTIONS = {"enable_cuda_graph": "1"}
"""Of the CUDA provider, for a session that captures."""
REHEARSALS = 3
"""Two runs until onnxruntime captures [ORT], and one that replays."""


def bucket_sizes(slots: int) -> tuple[int, ...]:
    """1, 2, 4, … and the number of slots itself."""
    powers = [1 << i for i in range(slots.bit_length()) if 1 << i < slots]
    return (*powers, slots)


def run_options(graph_id: str) -> ort.RunOptions:
    """To capture, and then replay, the graph of that id."""
    options = ort.RunOptions()
    options.add_run_config_entry(GRAPH_ID_KEY, graph_id)
    return options


class Buckets:
    """The shapes that steps are padded to; with `capture`, one CUDA graph for each."""

    def __init__(self, slots: int, *, capture: bool) -> None:
        self.sizes = bucket_sizes(slots)  # smallest first
        # How to run a call that is no bucket's, a prefill.
        self.uncaptured = run_options(NO_CAPTURE) if capture else None
        self._signatures: dict[int, tuple[Any, ...]] = {}
        self._options = {size: run_options(str(size)) for size in self.sizes if capture}

    def holding(self, slots: int) -> int:
        """The smallest bucket with at least that many slots."""
        return next(size for size in self.sizes if size >= slots)

    def options(self, size: int, signature: tuple[Any, ...]) -> ort.RunOptions | None:
        """How to run this bucket; asserts that it comes with the shapes and addresses of its
        first run."""
        known = self._signatures.setdefault(size, signature)
        assert known == signature, f"bucket {size} came back with other shapes or addresses"
        return self._options.get(size)


Array = NDArray[Any]
OpenSession = Callable[[dict[str, str] | None], ort.InferenceSession]


class CapturedSession:
    """A session that runs, in the shapes it met while `recording`, at fixed addresses. Where it
    cannot capture, it runs plainly, and the note says why."""

    def __init__(
        self, open_session: OpenSession, memory: Memory, sizes: frozenset[str] = frozenset()
    ) -> None:
        """`open_session` is given `CAPTURE_OPTIONS`, or None to open it plainly. `sizes`: inputs
        that are read on the host, and whose values belong to a shape."""
        self._open, self._memory, self._sizes = open_session, memory, sizes
        self._plainly = run_options(NO_CAPTURE)
        self._recording, self._why_plain = False, ""
        self._calls: dict[Hashable, _Call | None] = {}  # None: a replay computed something else
        try:
            self._session = open_session(CAPTURE_OPTIONS)
        except Exception as fault:  # noqa: BLE001 - onnxruntime raises its own kinds
            self._give_up(fault)

    def _give_up(self, fault: Exception) -> None:
        self._why_plain = first_line(fault)
        self._calls.clear()
        self._session = self._open(None)

    @property
    def note(self) -> str:
        """What came of it, for the operator."""
        if self._why_plain:
            return f"no CUDA graphs: {self._why_plain}"
        recorded = sum(call is not None for call in self._calls.values())
        refused = len(self._calls) - recorded
        differing = f", {refused} not, since they came out otherwise" if refused else ""
        return f"{recorded} shapes replayed{differing}"

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Learn every shape that is run meanwhile. Nothing else may use the device."""
        self._recording = True
        yield
        self._recording = False
        for shape, call in self._calls.items():
            if call is not None and not self._replays(call, call.feeds()):
                self._calls[shape] = None

    def get_inputs(self) -> Sequence[Any]:
        inputs: Sequence[Any] = self._session.get_inputs()
        return inputs

    def run(self, outputs: Sequence[str], feeds: Feeds) -> Sequence[Array]:
        shape = (
            tuple(outputs),
            tuple(
                (name, values.tobytes() if name in self._sizes else values.shape)
                for name, values in feeds.items()
            ),
        )
        if self._recording and shape not in self._calls and not self._why_plain:
            try:
                self._calls[shape] = self._proven(outputs, feeds)
            except Exception as fault:  # noqa: BLE001 - onnxruntime raises its own kinds
                self._give_up(fault)
        call = self._calls.get(shape)
        return self.plain(outputs, feeds) if call is None else call.run(feeds)

    def plain(self, outputs: Sequence[str], feeds: Feeds) -> list[Array]:
        """As without a graph: of a shape that has none, and to prove one."""
        made: list[Array] = self._session.run(list(outputs), feeds, self._plainly)
        return made

    def _proven(self, outputs: Sequence[str], feeds: Feeds) -> "_Call | None":
        made = dict(zip(outputs, self.plain(outputs, feeds), strict=True))
        graph_id = str(len(self._calls) + 1)
        call = _Call(self._session, self._memory, feeds, made, graph_id, self._sizes)
        for _ in range(REHEARSALS):
            call.run(feeds)
        return call if self._replays(call, feeds) else None

    def _replays(self, call: "_Call", feeds: Feeds) -> bool:
        """Whether a replay with other numbers is what a plain run is."""
        others = {n: v if n in self._sizes else _other(v) for n, v in feeds.items()}
        replayed = call.run(others)
        plain = self.plain(call.outputs, others)
        return min(map(snr_db, plain, replayed)) >= EQUAL_DB


class _Call:
    """One shape: its buffers, bound for good."""

    def __init__(
        self,
        session: ort.InferenceSession,
        memory: Memory,
        feeds: Mapping[str, Array],
        made: Mapping[str, Array],
        graph_id: str,
        sizes: frozenset[str],
    ) -> None:
        self._session = session
        self._sizes = {name: HostBuffer(feeds[name].shape, feeds[name].dtype) for name in sizes}
        copied = {name: values for name, values in feeds.items() if name not in sizes}
        self._inputs, self._outputs = (
            Block(memory, {name: (value.shape, value.dtype) for name, value in values.items()})
            for values in (copied, made)
        )
        self._host = self._inputs.host | {name: b.array for name, b in self._sizes.items()}
        self._binding = session.io_binding()
        for name, buffer in self._sizes.items():
            Memory("cpu").bind_input(self._binding, name, buffer)
        for name, window in self._inputs.device.items():
            memory.bind_input(self._binding, name, window)
        for name, window in self._outputs.device.items():
            memory.bind_output(self._binding, name, window)
        self._options = run_options(graph_id)

    @property
    def outputs(self) -> list[str]:
        return list(self._outputs.host)

    def feeds(self) -> Feeds:
        """What it was given last."""
        return {name: values.copy() for name, values in self._host.items()}

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs, in memory of their own."""
        for name, values in feeds.items():
            self._host[name][...] = values
        self._inputs.up()
        self._session.run_with_iobinding(self._binding, self._options)
        self._outputs.down()
        return [values.copy() for values in self._outputs.host.values()]


def _other(values: Array) -> Array:
    """Other numbers that mean something too: samples a little softer, codes, places and steps one
    less."""
    if np.issubdtype(values.dtype, np.integer):
        return values - (values > 0)
    return (0.9 * values).astype(values.dtype)
