"""Brings speech to a loudness while it streams, and turns down what would hurt.

Loudness is measured as ITU-R BS.1770 says, with pyloudnorm's filters.
"""

import math
from typing import Any

import numpy as np

from chatterbox.arrays import F32, SAMPLE_RATE_HZ

BLOCK_SAMPLES = SAMPLE_RATE_HZ * 4 // 10  # BS.1770: blocks of 400 ms
SILENT_LUFS = -70.0  # BS.1770: blocks below are not counted
OFFSET_LUFS = -0.691  # BS.1770
MOST_GAIN_DB = 24.0
"""A reference far too quiet is not turned into noise."""
PEAK = 0.99


class Loudness:
    """Brings one stream to `target_lufs`; the first sound sets the gain, later sound moves it."""

    def __init__(self, target_lufs: float) -> None:
        self._target_lufs = target_lufs
        self._filters = _k_weighting()
        self._weighted: F32 = np.zeros(0, np.float32)  # of the block that is not full yet
        self._power_sum, self._blocks = 0.0, 0
        self._gain: float | None = None

    def feed(self, samples: F32) -> F32:
        """[n] samples → [n], the gain moving evenly over them."""
        if not len(samples):
            return samples
        self._hear(samples)
        wanted = self._wanted_gain()
        peak = float(np.abs(samples).max())
        wanted = min(wanted, PEAK / peak) if peak else wanted
        began = wanted if self._gain is None else min(self._gain, PEAK / max(peak, 1e-9))
        self._gain = wanted
        return (samples * np.linspace(began, wanted, len(samples))).astype(np.float32)

    def _hear(self, samples: F32) -> None:
        weighted: Any = samples
        for stage in self._filters:
            weighted = stage.feed(weighted)
        self._weighted = np.concatenate([self._weighted, weighted])
        whole = len(self._weighted) // BLOCK_SAMPLES
        # Speech that is shorter than one block is counted as the block it has begun.
        for block in self._weighted[: whole * BLOCK_SAMPLES].reshape(whole, BLOCK_SAMPLES):
            power = float(np.mean(np.square(block, dtype=np.float64)))
            if _lufs(power) > SILENT_LUFS:
                self._power_sum, self._blocks = self._power_sum + power, self._blocks + 1
        self._weighted = self._weighted[whole * BLOCK_SAMPLES :]

    def _wanted_gain(self) -> float:
        power = self._power_sum / self._blocks if self._blocks else 0.0
        if not self._blocks and len(self._weighted):
            power = float(np.mean(np.square(self._weighted, dtype=np.float64)))
        if _lufs(power) <= SILENT_LUFS:
            return 1.0 if self._gain is None else self._gain
        gain_db = min(self._target_lufs - _lufs(power), MOST_GAIN_DB)
        return float(10 ** (gain_db / 20))


class _Filter:
    """A recursive filter that goes on from piece to piece."""

    def __init__(self, numerator: Any, denominator: Any) -> None:
        from scipy.signal import lfilter

        self._lfilter = lfilter
        self._coefficients = numerator, denominator
        self._state = np.zeros(max(len(numerator), len(denominator)) - 1)

    def feed(self, samples: Any) -> Any:
        filtered, self._state = self._lfilter(*self._coefficients, samples, zi=self._state)
        return filtered


def _k_weighting() -> list[_Filter]:
    from pyloudnorm import Meter

    stages = Meter(SAMPLE_RATE_HZ)._filters.values()
    return [_Filter(stage.b, stage.a) for stage in stages]


def _lufs(power: float) -> float:
    return OFFSET_LUFS + 10 * float(np.log10(max(power, 1e-12)))


CEILING_BLOCK_SAMPLES = SAMPLE_RATE_HZ // 50
CEILING_MEMORY_S = 0.2
"""Loudness is that of the last 0.2 s: what is shorter hurts less, and may be a syllable."""
CEILING_KEPT = math.exp(-CEILING_BLOCK_SAMPLES / SAMPLE_RATE_HZ / CEILING_MEMORY_S)
"""Of the energy so far, after one more block."""


class Ceiling:
    """Turns down what would hurt: hum, tones and noise at full scale, as forged and tonal voices
    give them. Speech is passed on as it is, bit for bit.

    For one segment, which comes in pieces of any size. What is done to a block depends on those
    before it alone: no sound is held back, and where it is cut into pieces makes no difference."""

    def __init__(self, loudest_rms: float) -> None:
        """`loudest_rms`: what is louder for a while is turned down to this."""
        self._loudest_rms = loudest_rms
        self._energy = 0.0  # mean square, the latest blocks counting most
        self._block = np.zeros(CEILING_BLOCK_SAMPLES, np.float32)
        self._filled = 0  # samples of the block begun
        self._gain = 1.0

    def limited(self, samples: F32) -> F32:
        """The next piece, turned down where it must be."""
        gains = np.ones(len(samples), np.float32)
        at = 0
        while at < len(samples):
            count = min(CEILING_BLOCK_SAMPLES - self._filled, len(samples) - at)
            gains[at : at + count] = self._gain
            self._block[self._filled : self._filled + count] = samples[at : at + count]
            self._filled += count
            at += count
            if self._filled == CEILING_BLOCK_SAMPLES:
                self._end_block()
        return samples if (gains == 1).all() else samples * gains

    def _end_block(self) -> None:
        mean_square = float(np.mean(np.square(self._block, dtype=np.float64)))
        self._energy = CEILING_KEPT * self._energy + (1 - CEILING_KEPT) * mean_square
        self._gain = min(1.0, self._loudest_rms / math.sqrt(max(self._energy, 1e-12)))
        self._filled = 0
