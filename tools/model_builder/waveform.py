"""Last steps of every decoder: removes the prompt and fades in."""

import numpy as np

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.runtime.decoder.s3gen import MEL_FRAMES_PER_CODE
from tools.model_builder.graph import Graph, ints, real

FADE_FROM = FADE_OVER = SAMPLE_RATE_HZ // 50
"""The first 20 ms are zero, the next 20 ms fade in, as in the published decoder."""


def prompt_codes(g: Graph, prompt_mel: str) -> str:
    """How many of the codes are the prompt's: int64 [1]."""
    return g.op("Div", g.shape(prompt_mel, 1), ints(MEL_FRAMES_PER_CODE))


def after(g: Graph, x: str, start: str, axis: int) -> str:
    """What follows `start` (int64 [1]) along an axis."""
    return g.op("Slice", x, start, g.shape(x, axis), ints(axis))


def count_up(g: Graph, count: str) -> str:
    """0, 1, 2 … below `count` (int64 [1]): int64 [count]."""
    return g.op("Range", np.array(0, np.int64), g.scalar(count), np.array(1, np.int64))


def faded_in(g: Graph, samples: str) -> str:
    """Samples [B, N] with a silent start."""
    index = g.cast(count_up(g, g.shape(samples, 1)), np.float32)
    ramp = g.op("Mul", g.op("Sub", index, real(FADE_FROM)), real(1 / FADE_OVER))
    return g.op("Mul", samples, g.op("Clip", ramp, real(0), real(1)))
