"""Array types and the sample rate that all packages share."""

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

SAMPLE_RATE_HZ = 24_000
"""Sample rate of all audio inside the server, and of the output of every codec (`CodecSpec`)."""
