"""Random numbers addressed by seed, stream and position.

Numbers are addressed, not drawn: the same seed, stream and position always give the same number,
in whatever pieces and order they are asked for.
"""

import numpy as np

from chatterbox.arrays import F32, I64

ORIGIN = 1 << 40
"""Positions may be negative (the prompt's frames); this many are."""
WORDS_PER_COUNT = 4  # Philox 4×64 gives four 64-bit words at every count
BLOCK_POSITIONS = 64
"""Positions computed together, counted from the origin, so that no rounding of a vectorised
function can depend on where a piece begins."""


class Noise:
    """One source of numbers of a stream: `stream` tells several sources of one seed apart."""

    def __init__(self, seed: int, stream: int) -> None:
        self._key = np.array([seed & (2**64 - 1), stream], np.uint64)

    def normal(self, start: int, count: int, width: int) -> F32:
        """Standard normal [count, width] for the positions `start` … `start + count - 1`."""
        words = self._words(start, count, (width + 1) // 2)
        high = (words >> np.uint64(32)).astype(np.float32)
        low = (words & np.uint64(2**32 - 1)).astype(np.float32)
        # Box-Muller: two uniforms make two normals; +0.5 keeps the logarithm finite.
        radius = np.sqrt(-2.0 * np.log((high + np.float32(0.5)) * np.float32(2.0**-32)))
        angle = low * np.float32(2.0 * np.pi * 2.0**-32)
        pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
        flat: F32 = pairs.reshape(len(words), 2 * words.shape[1])[:, :width].astype(np.float32)
        return self._trimmed(flat, start, count)

    def uniform(self, start: int, count: int, width: int, low: float, high: float) -> F32:
        """Uniform in [low, high): [count, width] for the same positions."""
        words = self._words(start, count, width) >> np.uint64(40)
        unit = words.astype(np.float32) * np.float32(2.0**-24)
        return self._trimmed((low + (high - low) * unit).astype(np.float32), start, count)

    def choices(self, start: int, count: int, width: int, among: int) -> I64:
        """Whole numbers below `among`: [count, width] for the same positions."""
        words = self._words(start, count, width) % np.uint64(among)
        skip = (start + ORIGIN) % BLOCK_POSITIONS
        return words[skip : skip + count].astype(np.int64)

    def _words(
        self, start: int, count: int, words: int
    ) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
        """[positions of whole blocks, words]: what Philox has at these positions."""
        assert start >= -ORIGIN
        first = (start + ORIGIN) // BLOCK_POSITIONS * BLOCK_POSITIONS
        last = -(-(start + ORIGIN + count) // BLOCK_POSITIONS) * BLOCK_POSITIONS
        counts = -(-words // WORDS_PER_COUNT)
        philox = np.random.Philox(key=self._key, counter=first * counts)
        raw = philox.random_raw((last - first) * counts * WORDS_PER_COUNT)
        return np.asarray(raw, np.uint64).reshape(last - first, counts * WORDS_PER_COUNT)[:, :words]

    @staticmethod
    def _trimmed(blocks: F32, start: int, count: int) -> F32:
        skip = (start + ORIGIN) % BLOCK_POSITIONS
        return np.ascontiguousarray(blocks[skip : skip + count])
