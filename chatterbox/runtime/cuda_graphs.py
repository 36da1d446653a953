"""Fixed shapes in which graphs run on a GPU: the buckets of the language model's steps, and codec
sessions that replay each shape.

A CUDA graph replays the kernels, shapes and addresses of its capture, whatever the inputs are, and
onnxruntime does not check that a graph id is used with the shapes it was captured with. `Buckets`
checks this on every step. A `CapturedSession` compares the replay of each shape with a plain run on
other numbers, once after its capture and again when all shapes are captured: cuDNN drops its plan
for one shape when it runs another.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnxruntime as ort

from chatterbox.errors import first_line
from chatterbox.runtime.buffers import Array, Block, HostBuffer, Memory
from chatterbox.runtime.decoder.graph_io import EQUAL_DB, Feeds, snr_db

GRAPH_ID_KEY = "gpu_graph_id"
NO_CAPTURE = "-1"
"""Graph id for which onnxruntime neither captures nor replays."""
CAPTURE_OPTIONS = {"enable_cuda_graph": "1"}
"""CUDA provider options of a session that captures."""
RUNS_TO_CAPTURE = 3
"""onnxruntime captures in the second run [ORT]; the third run replays."""


def bucket_sizes(slots: int) -> tuple[int, ...]:
    """Return 1, 2, 4, … below `slots`, and `slots` itself."""
    powers = [1 << i for i in range(slots.bit_length()) if 1 << i < slots]
    return (*powers, slots)


def round_up(sizes: Sequence[int], size: int) -> int:
    """Return the first of the ascending `sizes` that is at least `size`, or `size` if all are
    smaller."""
    return next((larger for larger in sizes if larger >= size), size)


def run_options(graph_id: str) -> ort.RunOptions:
    """Return options with which a run captures, and later replays, the graph of this id."""
    options = ort.RunOptions()
    options.add_run_config_entry(GRAPH_ID_KEY, graph_id)
    return options


class Buckets:
    """Numbers of slots that steps are padded to; with `capture`, one CUDA graph for each."""

    def __init__(self, slots: int, *, capture: bool) -> None:
        self.sizes = bucket_sizes(slots)  # smallest first
        # Options of a prefill, which has no bucket.
        self.uncaptured = run_options(NO_CAPTURE) if capture else None
        self._signatures: dict[int, tuple[Any, ...]] = {}
        self._options = {size: run_options(str(size)) for size in self.sizes if capture}

    def options(self, size: int, signature: tuple[Any, ...]) -> ort.RunOptions | None:
        """Return the options to run this bucket with. Asserts that its shapes and addresses are
        those of its first run."""
        first = self._signatures.setdefault(size, signature)
        assert first == signature, f"bucket {size} came back with other shapes or addresses"
        return self._options.get(size)


OpenSession = Callable[[dict[str, str] | None], ort.InferenceSession]


class CapturedSession:
    """A session that replays, at fixed addresses, the shapes it ran while `recording`.

    If capture fails, it runs every shape plainly, and `note` gives the reason.
    """

    def __init__(
        self, open_session: OpenSession, memory: Memory, sizes: frozenset[str] = frozenset()
    ) -> None:
        """`open_session` is called with `CAPTURE_OPTIONS`, or with None to open without capture.
        `sizes`: inputs that the graph reads on the host, whose values are part of a shape."""
        self._open, self._memory, self._sizes = open_session, memory, sizes
        self._plain_options = run_options(NO_CAPTURE)
        self._recording, self._failure = False, ""
        self._calls: dict[Hashable, _Call | None] = {}  # None: its replay differed
        try:
            self._session = open_session(CAPTURE_OPTIONS)
        except Exception as fault:  # noqa: BLE001 - onnxruntime raises its own kinds
            self._give_up(fault)

    def _give_up(self, fault: Exception) -> None:
        self._failure = first_line(fault)
        self._calls.clear()
        self._session = self._open(None)

    @property
    def note(self) -> str:
        """Result of the captures, for the operator."""
        if self._failure:
            return f"no CUDA graphs: {self._failure}"
        replayed = sum(call is not None for call in self._calls.values())
        refused = len(self._calls) - replayed
        differing = f", {refused} not, because their results differed" if refused else ""
        return f"{replayed} shapes replayed{differing}"

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Capture every shape that runs inside the block. Nothing else may use the device."""
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
        """Replay the graph if this shape was captured, else run it plainly."""
        shape = (
            tuple(outputs),
            tuple(
                (name, values.tobytes() if name in self._sizes else values.shape)
                for name, values in feeds.items()
            ),
        )
        if self._recording and shape not in self._calls and not self._failure:
            try:
                self._calls[shape] = self._capture(outputs, feeds)
            except Exception as fault:  # noqa: BLE001 - onnxruntime raises its own kinds
                self._give_up(fault)
        call = self._calls.get(shape)
        return self.plain(outputs, feeds) if call is None else call.run(feeds)

    def plain(self, outputs: Sequence[str], feeds: Feeds) -> list[Array]:
        """Run without capture or replay."""
        values: list[Array] = self._session.run(list(outputs), feeds, self._plain_options)
        return values

    def _capture(self, outputs: Sequence[str], feeds: Feeds) -> "_Call | None":
        """Capture one shape. Returns None if its replay differs from a plain run."""
        results = dict(zip(outputs, self.plain(outputs, feeds), strict=True))
        graph_id = str(len(self._calls) + 1)
        call = _Call(self._session, self._memory, feeds, results, graph_id, self._sizes)
        for _ in range(RUNS_TO_CAPTURE):
            call.run(feeds)
        return call if self._replays(call, feeds) else None

    def _replays(self, call: "_Call", feeds: Feeds) -> bool:
        """Return whether a replay with other numbers equals a plain run with them."""
        others = {n: v if n in self._sizes else _changed(v) for n, v in feeds.items()}
        replayed = call.run(others)
        plain = self.plain(call.outputs, others)
        return min(map(snr_db, plain, replayed)) >= EQUAL_DB


class _Call:
    """One shape of a `CapturedSession`, bound to buffers of its own."""

    def __init__(
        self,
        session: ort.InferenceSession,
        memory: Memory,
        feeds: Mapping[str, Array],
        results: Mapping[str, Array],
        graph_id: str,
        sizes: frozenset[str],
    ) -> None:
        self._session = session
        self._sizes = {name: HostBuffer(feeds[name].shape, feeds[name].dtype) for name in sizes}
        copied = {name: values for name, values in feeds.items() if name not in sizes}
        self._inputs, self._outputs = (
            Block.allocate({n: (value.shape, value.dtype) for n, value in values.items()}, memory)
            for values in (copied, results)
        )
        self._host = self._inputs.host | {name: b.array for name, b in self._sizes.items()}
        self._binding = session.io_binding()
        for name, buffer in self._sizes.items():
            Memory("cpu").bind_input(self._binding, name, buffer)
        for name, view in self._inputs.device.items():
            memory.bind_input(self._binding, name, view)
        for name, view in self._outputs.device.items():
            memory.bind_output(self._binding, name, view)
        self._options = run_options(graph_id)

    @property
    def outputs(self) -> list[str]:
        return list(self._outputs.host)

    def feeds(self) -> Feeds:
        """Return a copy of the previous run's inputs."""
        return {name: values.copy() for name, values in self._host.items()}

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Run the shape. Returns copies of the outputs."""
        for name, values in feeds.items():
            self._host[name][...] = values
        self._inputs.upload()
        self._session.run_with_iobinding(self._binding, self._options)
        self._outputs.download()
        return [values.copy() for values in self._outputs.host.values()]


def _changed(values: Array) -> Array:
    """Return other valid inputs: numbers 10 % smaller; codes, places and steps decremented."""
    if np.issubdtype(values.dtype, np.integer):
        return values - (values > 0)
    return (0.9 * values).astype(values.dtype)
