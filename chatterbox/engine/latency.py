"""Latency model: seconds of a call by its size, learnt from the calls so far."""

from chatterbox.engine.windows import DecodeCost

DECAY = 0.9
"""Weight of the past at every new measurement: about the last ten windows count."""
START = DecodeCost(fixed_s=0.05, per_frame_s=0.005)
"""Before anything was measured."""


class LatencyModel:
    """Least squares of seconds over fed codes, the past decaying."""

    def __init__(self) -> None:
        self._weight = self._x = self._y = self._xx = self._xy = 0.0

    def add(self, fed_frames: int, seconds: float) -> None:
        """A window that was fed so many codes took so long."""
        self._weight = self._weight * DECAY + 1.0
        self._x = self._x * DECAY + fed_frames
        self._y = self._y * DECAY + seconds
        self._xx = self._xx * DECAY + fed_frames * fed_frames
        self._xy = self._xy * DECAY + fed_frames * seconds

    def estimate(self) -> DecodeCost:
        """The line through the measurements; neither part is ever negative."""
        if not self._weight:
            return START
        mean_x, mean_y = self._x / self._weight, self._y / self._weight
        spread = self._xx / self._weight - mean_x * mean_x
        slope = 0.0
        if spread > 1.0:  # windows of about one size tell nothing of the slope
            slope = (self._xy / self._weight - mean_x * mean_y) / spread
        slope = min(max(slope, 0.0), mean_y / mean_x if mean_x else 0.0)
        return DecodeCost(fixed_s=mean_y - slope * mean_x, per_frame_s=slope)
