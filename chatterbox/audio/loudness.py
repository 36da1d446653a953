"""Brings speech to a loudness while it streams: a slow gain from the loudness so far.

Measured as ITU-R BS.1770 says, with pyloudnorm's filters.
"""

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
