"""resemble-perth's inaudible watermark, which marks sound as synthetic."""

from collections.abc import Callable

import numpy as np

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.errors import ConfigError

Watermark = Callable[[F32], F32]


def load_watermark(wanted: bool) -> Watermark | None:
    """The marker, None when it is not wanted. Raises ConfigError when it is wanted and the
    package is missing."""
    if not wanted:
        return None
    try:
        import perth
    except ImportError:
        raise ConfigError(
            "CHATTERBOX_APPLY_WATERMARK=true needs the package resemble-perth: "
            "pip install resemble-perth"
        ) from None
    marker = perth.PerthImplicitWatermarker()

    def mark(samples: F32) -> F32:
        marked = marker.apply_watermark(samples, sample_rate=SAMPLE_RATE_HZ)
        return np.asarray(marked, dtype=np.float32)

    return mark
