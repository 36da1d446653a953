"""Makes speech faster or slower at the same pitch, while it streams: FFmpeg's `atempo`, by PyAV."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np

from chatterbox.arrays import F32, SAMPLE_RATE_HZ

SLOWEST, FASTEST = 0.25, 4.0
STEP_SLOWEST, STEP_FASTEST = 0.5, 2.0
"""What one `atempo` does well; beyond it two share the work (FFmpeg's documentation)."""


class Pace:
    """Changes the tempo of one stream by `speed`, 0.25 to 4; 1 passes everything through."""

    def __init__(self, speed: float) -> None:
        assert SLOWEST <= speed <= FASTEST
        self._graph = None if speed == 1.0 else _graph(speed)
        self._taken_samples = 0

    def feed(self, samples: F32) -> F32:
        """Take [n] samples; returns those that are settled, possibly none."""
        if self._graph is None or not len(samples):
            return samples
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        frame.pts = self._taken_samples
        self._taken_samples += len(samples)
        self._graph.push(frame)
        return self._pulled()

    def finish(self) -> F32:
        """What was held back."""
        if self._graph is None or not self._taken_samples:
            return np.zeros(0, np.float32)
        self._graph.push(None)
        return self._pulled()

    def _pulled(self) -> F32:
        return np.concatenate([np.zeros(0, np.float32), *self._frames()])

    def _frames(self) -> Iterator[F32]:
        assert self._graph is not None
        while True:
            try:
                yield self._graph.pull().to_ndarray()[0].astype(np.float32)
            except (av.error.BlockingIOError, av.error.EOFError):
                return


def _graph(speed: float) -> av.filter.Graph:
    graph = av.filter.Graph()
    steps = [speed] if STEP_SLOWEST <= speed <= STEP_FASTEST else [speed**0.5] * 2
    nodes = [
        graph.add_abuffer(
            format="flt",
            sample_rate=SAMPLE_RATE_HZ,
            layout="mono",
            time_base=Fraction(1, SAMPLE_RATE_HZ),
        ),
        *(graph.add("atempo", f"{step:.9f}") for step in steps),
        graph.add("aformat", "sample_fmts=flt"),
        graph.add("abuffersink"),
    ]
    for before, after in pairwise(nodes):
        before.link_to(after)
    graph.configure()
    return graph
