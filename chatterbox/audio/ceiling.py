"""Turns down sound that would hurt: hum, tones and noise at full scale, as forged and tonal voices
give them. Speech is passed on as it is, bit for bit.
"""

import math

import numpy as np

from chatterbox.arrays import F32, SAMPLE_RATE_HZ

BLOCK_SAMPLES = SAMPLE_RATE_HZ // 50
MEMORY_S = 0.2
"""Loudness is that of the last 0.2 s: what is shorter hurts less, and may be a syllable."""
KEPT = math.exp(-BLOCK_SAMPLES / SAMPLE_RATE_HZ / MEMORY_S)
"""Of the energy so far, after one more block."""


class Ceiling:
    """For one segment, which comes in pieces of any size. What is done to a block depends on those
    before it alone: no sound is held back, and where it is cut into pieces makes no difference."""

    def __init__(self, loudest_rms: float) -> None:
        """`loudest_rms`: what is louder for a while is turned down to this."""
        self._loudest_rms = loudest_rms
        self._energy = 0.0  # mean square, the latest blocks counting most
        self._block = np.zeros(BLOCK_SAMPLES, np.float32)
        self._filled = 0  # samples of the block begun
        self._gain = 1.0

    def limited(self, samples: F32) -> F32:
        """The next piece, turned down where it must be."""
        gains = np.ones(len(samples), np.float32)
        at = 0
        while at < len(samples):
            count = min(BLOCK_SAMPLES - self._filled, len(samples) - at)
            gains[at : at + count] = self._gain
            self._block[self._filled : self._filled + count] = samples[at : at + count]
            self._filled += count
            at += count
            if self._filled == BLOCK_SAMPLES:
                self._end_block()
        return samples if (gains == 1).all() else samples * gains

    def _end_block(self) -> None:
        mean_square = float(np.mean(np.square(self._block, dtype=np.float64)))
        self._energy = KEPT * self._energy + (1 - KEPT) * mean_square
        self._gain = min(1.0, self._loudest_rms / math.sqrt(max(self._energy, 1e-12)))
        self._filled = 0
