"""Joins the segments of one request to one sound, without a click where they meet."""

import numpy as np

from chatterbox.arrays import F32, SAMPLE_RATE_HZ

DEFAULT_FADE_MS = 10.0
"""Long enough that an edge does not click, shorter than any phone of speech."""


class Joiner:
    """Fades both edges of every segment; one joiner for one request.

    A segment arrives as pieces of any length. Its first and last `fade_ms` rise and fall as a
    raised cosine. Nobody knows which samples are the last until the segment ends, so as many are
    always held back: `piece` returns them with the next piece, or faded with the last one. A
    segment shorter than two fades gets the product of both. No sample is added or lost.
    """

    def __init__(
        self, *, fade_ms: float = DEFAULT_FADE_MS, sample_rate_hz: int = SAMPLE_RATE_HZ
    ) -> None:
        self._sample_rate_hz = sample_rate_hz
        fade_samples = round(fade_ms / 1000 * sample_rate_hz)
        phase = (np.arange(fade_samples) + 0.5) / max(fade_samples, 1)
        self._rise: F32 = (0.5 - 0.5 * np.cos(np.pi * phase)).astype(np.float32)  # [fade]
        self._fall: F32 = self._rise[::-1]
        self._held: F32 = np.zeros(0, np.float32)
        self._position_samples = 0  # of the first sample not yet taken, in the open segment
        self._open = False

    def piece(self, samples: F32, *, first_of_segment: bool, last_of_segment: bool) -> F32:
        """Take [n] samples of a segment (n may be 0); returns those that are settled."""
        assert first_of_segment != self._open, "a segment begins exactly where none is open"
        if first_of_segment:
            self._position_samples = 0
        self._open = not last_of_segment
        joined = np.concatenate([self._held, self._risen(samples)])
        if last_of_segment:
            self._held = np.zeros(0, np.float32)
            fading = min(len(joined), len(self._fall))
            joined[len(joined) - fading :] *= self._fall[len(self._fall) - fading :]
            return joined
        settled = max(0, len(joined) - len(self._fall))
        self._held = joined[settled:]
        return joined[:settled]

    def silence(self, pause_s: float) -> F32:
        """The pause between two segments: zeros, to the sample."""
        assert not self._open, "no pause inside a segment"
        return np.zeros(round(pause_s * self._sample_rate_hz), np.float32)

    def _risen(self, samples: F32) -> F32:
        """A copy of the piece, with what of it lies in the segment's first fade turned down."""
        gains = self._rise[self._position_samples :][: len(samples)]
        self._position_samples += len(samples)
        risen = samples.astype(np.float32)
        risen[: len(gains)] *= gains
        return risen
