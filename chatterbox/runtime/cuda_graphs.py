"""The fixed shapes in which graphs run on a GPU, and the check that the language model's are fixed.

A CUDA graph replays the kernels, shapes and addresses of its capture whatever it is given, and
onnxruntime does not check that an id comes back with what it was captured with. So that is
checked here, on every step.
"""

from typing import Any

import onnxruntime as ort

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
        self._sizes = bucket_sizes(slots)
        self._capture = capture
        self._signatures: dict[int, tuple[Any, ...]] = {}
        self._options = {size: run_options(str(size)) for size in self._sizes}
        self._uncaptured = run_options(NO_CAPTURE)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Every bucket, smallest first."""
        return self._sizes

    def holding(self, slots: int) -> int:
        """The smallest bucket with at least that many slots."""
        return next(size for size in self._sizes if size >= slots)

    def options(self, size: int, signature: tuple[Any, ...]) -> ort.RunOptions | None:
        """How to run this bucket; asserts that it comes with the shapes and addresses of its
        first run."""
        known = self._signatures.setdefault(size, signature)
        assert known == signature, f"bucket {size} came back with other shapes or addresses"
        return self._options[size] if self._capture else None

    def uncaptured(self) -> ort.RunOptions | None:
        """How to run a call that is no bucket's, a prefill."""
        return self._uncaptured if self._capture else None
