"""Array types and the sample rate that every room shares."""

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

SAMPLE_RATE_HZ = 24_000
"""Of all sound inside the server; every codec served so far gives it (`CodecSpec`)."""
