"""What happens to one request's sound while it streams: joined, paced, brought to a loudness,
turned down where it would hurt, and marked as synthetic."""

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.errors import ConfigError

FADE_MS = 10.0
"""Long enough that an edge does not click, shorter than any phone of speech."""


class Joiner:
    """Fades both edges of every segment; one joiner for one request.

    A segment arrives as pieces of any length. Its first and last `fade_ms` rise and fall as a
    raised cosine. Nobody knows which samples are the last until the segment ends, so as many are
    always held back: `piece` returns them with the next piece, or faded with the last one. A
    segment shorter than two fades gets the product of both. No sample is added or lost.
    """

    def __init__(self, *, fade_ms: float = FADE_MS) -> None:
        fade_samples = round(fade_ms / 1000 * SAMPLE_RATE_HZ)
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
        gains = self._rise[self._position_samples :][: len(samples)]
        self._position_samples += len(samples)
        risen = samples.astype(np.float32)
        risen[: len(gains)] *= gains
        joined = np.concatenate([self._held, risen])
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
        return np.zeros(round(pause_s * SAMPLE_RATE_HZ), np.float32)


SLOWEST, FASTEST = 0.25, 4.0
STEP_SLOWEST, STEP_FASTEST = 0.5, 2.0
"""What one `atempo` does well; beyond it two share the work (FFmpeg's documentation)."""


class Pace:
    """Makes one stream faster or slower at the same pitch: FFmpeg's `atempo`, by PyAV. A `speed` of
    0.25 to 4; 1 passes everything through."""

    def __init__(self, speed: float) -> None:
        assert SLOWEST <= speed <= FASTEST
        self._graph = None if speed == 1.0 else _tempo_graph(speed)
        self._taken_samples = 0

    def feed(self, samples: F32) -> F32:
        """Take [n] samples; returns those that are settled, possibly none."""
        if self._graph is None or not len(samples):
            return samples
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        frame.pts = self._taken_samples
        self._taken_samples += len(samples)
        return self._pushed(self._graph, frame)

    def finish(self) -> F32:
        """What was held back."""
        if self._graph is None or not self._taken_samples:
            return np.zeros(0, np.float32)
        return self._pushed(self._graph, None)

    def _pushed(self, graph: av.filter.Graph, frame: av.AudioFrame | None) -> F32:
        graph.push(frame)
        return np.concatenate([np.zeros(0, np.float32), *_pulled(graph)])


def _pulled(graph: av.filter.Graph) -> Iterator[F32]:
    while True:
        try:
            yield graph.pull().to_ndarray()[0].astype(np.float32)
        except (av.error.BlockingIOError, av.error.EOFError):
            return


def _tempo_graph(speed: float) -> av.filter.Graph:
    graph = av.filter.Graph()
    steps = [speed] if STEP_SLOWEST <= speed <= STEP_FASTEST else [speed**0.5] * 2
    nodes = [
        graph.add_abuffer(
            format="flt",
            sample_rate=SAMPLE_RATE_HZ,
            layout="mono",
            time_base=Fraction(1, SAMPLE_RATE_HZ),
        ),
        *(graph.add("atempo", f"{step:.9f}") for step in steps),
        graph.add("aformat", "sample_fmts=flt"),
        graph.add("abuffersink"),
    ]
    for before, after in pairwise(nodes):
        before.link_to(after)
    graph.configure()
    return graph


BLOCK_SAMPLES = SAMPLE_RATE_HZ * 4 // 10  # BS.1770: blocks of 400 ms
SILENT_LUFS = -70.0  # BS.1770: blocks below are not counted
OFFSET_LUFS = -0.691  # BS.1770
MOST_GAIN_DB = 24.0
"""A reference far too quiet is not turned into noise."""
PEAK = 0.99


class Loudness:
    """Brings one stream to `target_lufs`, measured as ITU-R BS.1770 says with pyloudnorm's filters;
    the first sound sets the gain, later sound moves it."""

    def __init__(self, target_lufs: float) -> None:
        from pyloudnorm import Meter
        from scipy.signal import sosfilt

        self._target_lufs = target_lufs
        stages = Meter(SAMPLE_RATE_HZ)._filters.values()
        self._sosfilt, self._filters = sosfilt, np.array([[*one.b, *one.a] for one in stages])
        self._filter_state = np.zeros((len(self._filters), 2))
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
        weighted, self._filter_state = self._sosfilt(self._filters, samples, zi=self._filter_state)
        self._weighted = np.concatenate([self._weighted, weighted])
        whole = len(self._weighted) // BLOCK_SAMPLES
        for block in self._weighted[: whole * BLOCK_SAMPLES].reshape(whole, BLOCK_SAMPLES):
            if _lufs(power := _mean_square(block)) > SILENT_LUFS:
                self._power_sum, self._blocks = self._power_sum + power, self._blocks + 1
        self._weighted = self._weighted[whole * BLOCK_SAMPLES :]

    def _wanted_gain(self) -> float:
        power = self._power_sum / self._blocks if self._blocks else 0.0
        if not self._blocks and len(self._weighted):  # speech shorter than the block it has begun
            power = _mean_square(self._weighted)
        if _lufs(power) <= SILENT_LUFS:
            return 1.0 if self._gain is None else self._gain
        gain_db = min(self._target_lufs - _lufs(power), MOST_GAIN_DB)
        return float(10 ** (gain_db / 20))


def _mean_square(samples: F32) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))


def _lufs(power: float) -> float:
    return OFFSET_LUFS + 10 * math.log10(max(power, 1e-12))


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
                mean_square = float(np.mean(np.square(self._block, dtype=np.float64)))
                self._energy = CEILING_KEPT * self._energy + (1 - CEILING_KEPT) * mean_square
                self._gain = min(1.0, self._loudest_rms / math.sqrt(max(self._energy, 1e-12)))
                self._filled = 0
        return samples if (gains == 1).all() else samples * gains


Watermark = Callable[[F32], F32]


def load_watermark(wanted: bool) -> Watermark | None:
    """resemble-perth's inaudible mark of synthetic sound, None when it is not wanted. Raises
    ConfigError when it is wanted and the package is missing."""
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
