"""How do float32 samples become 16-bit ones?

Knows no container: `wave.py` and `container.py` wrap what comes out of here.
"""

import numpy as np
from numpy.typing import NDArray

from chatterbox.arrays import F32

I16 = NDArray[np.int16]

INT16_SCALE = 32767
"""Full scale maps to ±32767, so that a signal and its negative stay mirror images."""


def to_int16(samples: F32) -> I16:
    """[n] float32 → [n] int16: NaN and infinities become silence, the rest is clipped.

    A bare cast would turn 2.0 into -2 with a bang. No dither: equal samples give equal bytes.
    """
    assert samples.ndim == 1, f"mono samples expected, got shape {samples.shape}"
    finite = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    clipped = np.clip(finite, -1.0, 1.0)
    return np.rint(clipped * INT16_SCALE).astype("<i2")
