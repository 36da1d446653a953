"""Processing of a request's samples while they stream: joining of segments, pace, loudness, a limit
for harmful levels, and a watermark."""

import math
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.errors import ConfigError

FADE_MS = 10.0
"""Length of a fade: long enough to avoid a click, shorter than any phone of speech."""


class Joiner:
    """Fades both edges of every segment of a request with a raised cosine.

    A segment arrives in pieces of any length. Its last samples are known only at its end, so the
    latest `fade_ms` are held back and returned with the next piece. In segments shorter than two
    fades, the gains of both are multiplied. No sample is added or lost.
    """

    def __init__(self, *, fade_ms: float = FADE_MS) -> None:
        fade_samples = round(fade_ms / 1000 * SAMPLE_RATE_HZ)
        phase = (np.arange(fade_samples) + 0.5) / max(fade_samples, 1)
        self._rise: F32 = (0.5 - 0.5 * np.cos(np.pi * phase)).astype(np.float32)  # [fade]
        self._fall: F32 = self._rise[::-1]
        self._pending: F32 = np.zeros(0, np.float32)
        self._fed_samples = 0  # of the open segment
        self._open = False

    def piece(self, samples: F32, *, first_of_segment: bool, last_of_segment: bool) -> F32:
        """Add [n] samples of a segment (n may be 0). Returns the samples that are ready."""
        assert first_of_segment != self._open, "a segment begins exactly where none is open"
        if first_of_segment:
            self._fed_samples = 0
        self._open = not last_of_segment
        gains = self._rise[self._fed_samples :][: len(samples)]
        self._fed_samples += len(samples)
        faded = samples.astype(np.float32)
        faded[: len(gains)] *= gains
        joined = np.concatenate([self._pending, faded])
        ready = len(joined) if last_of_segment else max(0, len(joined) - len(self._fall))
        if last_of_segment:
            fading = min(len(joined), len(self._fall))
            joined[len(joined) - fading :] *= self._fall[len(self._fall) - fading :]
        self._pending = joined[ready:]
        return joined[:ready]

    def silence(self, pause_s: float) -> F32:
        """Return zeros for a pause between two segments."""
        assert not self._open, "no pause inside a segment"
        return np.zeros(round(pause_s * SAMPLE_RATE_HZ), np.float32)


SLOWEST, FASTEST = 0.25, 4.0
"""Range of the speed: two `atempo` filters at the limits of their good quality."""
STEP_SLOWEST, STEP_FASTEST = 0.5, 2.0
"""Range of one `atempo` filter without loss of quality (FFmpeg's documentation). Speeds beyond it
use two filters."""


class Pace:
    """Changes the speed of a stream without changing its pitch, with FFmpeg's `atempo`."""

    def __init__(self, speed: float) -> None:
        """`speed` is from SLOWEST to FASTEST; 1 leaves the samples unchanged."""
        assert SLOWEST <= speed <= FASTEST
        self._graph = None if speed == 1.0 else _tempo_graph(speed)
        self._fed_samples = 0

    def feed(self, samples: F32) -> F32:
        """Add [n] samples. Returns the samples that are ready, possibly none."""
        if self._graph is None or not len(samples):
            return samples
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        frame.pts = self._fed_samples
        self._fed_samples += len(samples)
        return _push(self._graph, frame)

    def finish(self) -> F32:
        """Return the samples held back."""
        if self._graph is None or not self._fed_samples:
            return np.zeros(0, np.float32)
        return _push(self._graph, None)


def _push(graph: av.filter.Graph, frame: av.AudioFrame | None) -> F32:
    graph.push(frame)
    pieces = [np.zeros(0, np.float32)]
    with suppress(av.error.BlockingIOError, av.error.EOFError):
        while True:
            pieces.append(graph.pull().to_ndarray()[0].astype(np.float32))
    return np.concatenate(pieces)


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
SILENT_LUFS = -70.0  # BS.1770: quieter blocks do not count
OFFSET_LUFS = -0.691  # BS.1770
MAX_GAIN_DB = 24.0
"""Largest gain, so that the noise of a very quiet voice is not amplified further."""
PEAK = 0.99
"""Largest amplitude after the gain."""


class Loudness:
    """Normalises a stream to `target_lufs`, measured by ITU-R BS.1770 with pyloudnorm's filters.
    The first piece sets the gain, later pieces adjust it."""

    def __init__(self, target_lufs: float) -> None:
        from pyloudnorm import Meter
        from scipy.signal import sosfilt

        self._target_lufs = target_lufs
        stages = Meter(SAMPLE_RATE_HZ)._filters.values()
        self._sosfilt, self._filters = sosfilt, np.array([[*stage.b, *stage.a] for stage in stages])
        self._filter_state = np.zeros((len(self._filters), 2))
        self._weighted: F32 = np.zeros(0, np.float32)  # samples of the incomplete block
        self._power_sum, self._blocks = 0.0, 0
        self._gain: float | None = None

    def feed(self, samples: F32) -> F32:
        """Return [n] samples with the gain applied; the gain changes linearly over them."""
        if not len(samples):
            return samples
        self._measure(samples)
        gain = self._target_gain()
        peak = float(np.abs(samples).max())
        gain = min(gain, PEAK / peak) if peak else gain
        before = gain if self._gain is None else min(self._gain, PEAK / max(peak, 1e-9))
        self._gain = gain
        return (samples * np.linspace(before, gain, len(samples))).astype(np.float32)

    def _measure(self, samples: F32) -> None:
        weighted, self._filter_state = self._sosfilt(self._filters, samples, zi=self._filter_state)
        self._weighted = np.concatenate([self._weighted, weighted])
        whole = len(self._weighted) // BLOCK_SAMPLES
        for block in self._weighted[: whole * BLOCK_SAMPLES].reshape(whole, BLOCK_SAMPLES):
            if _lufs(power := _mean_square(block)) > SILENT_LUFS:
                self._power_sum, self._blocks = self._power_sum + power, self._blocks + 1
        self._weighted = self._weighted[whole * BLOCK_SAMPLES :]

    def _target_gain(self) -> float:
        power = self._power_sum / self._blocks if self._blocks else 0.0
        if not self._blocks and len(self._weighted):  # speech shorter than one block
            power = _mean_square(self._weighted)
        if _lufs(power) <= SILENT_LUFS:
            return 1.0 if self._gain is None else self._gain
        gain_db = min(self._target_lufs - _lufs(power), MAX_GAIN_DB)
        return float(10 ** (gain_db / 20))


def _mean_square(samples: F32) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))


def _lufs(power: float) -> float:
    return OFFSET_LUFS + 10 * math.log10(max(power, 1e-12))


CEILING_BLOCK_SAMPLES = SAMPLE_RATE_HZ // 50
CEILING_MEMORY_S = 0.2
"""Time constant of the level. Shorter peaks do less harm and can be syllables."""
CEILING_DECAY = math.exp(-CEILING_BLOCK_SAMPLES / SAMPLE_RATE_HZ / CEILING_MEMORY_S)
"""Factor by which each block reduces the weight of earlier energy."""


class Ceiling:
    """Attenuates hum, tones and noise at full scale, which forged and tonal voices produce. Returns
    speech unchanged, bit for bit.

    Processes one segment in pieces of any length. The gain of a block depends only on earlier
    blocks, so no samples are held back and the result does not depend on the pieces.
    """

    def __init__(self, loudest_rms: float) -> None:
        """`loudest_rms` is the level to which sustained louder sound is attenuated."""
        self._loudest_rms = loudest_rms
        self._energy = 0.0  # mean square, weighted towards the latest blocks
        self._block = np.zeros(CEILING_BLOCK_SAMPLES, np.float32)
        self._filled = 0  # samples of the current block
        self._gain = 1.0

    def limit(self, samples: F32) -> F32:
        """Return the next [n] samples, attenuated if they are too loud."""
        gains = np.ones(len(samples), np.float32)
        at = 0
        while at < len(samples):
            count = min(CEILING_BLOCK_SAMPLES - self._filled, len(samples) - at)
            gains[at : at + count] = self._gain
            self._block[self._filled : self._filled + count] = samples[at : at + count]
            self._filled += count
            at += count
            if self._filled == CEILING_BLOCK_SAMPLES:
                energy = _mean_square(self._block)
                self._energy = CEILING_DECAY * self._energy + (1 - CEILING_DECAY) * energy
                self._gain = min(1.0, self._loudest_rms / math.sqrt(max(self._energy, 1e-12)))
                self._filled = 0
        return samples if (gains == 1).all() else samples * gains


Watermark = Callable[[F32], F32]


def load_watermark(wanted: bool) -> Watermark | None:
    """Load resemble-perth's inaudible watermark; return None unless `wanted`. Raises ConfigError if
    the package is missing."""
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
    return lambda samples: np.asarray(
        marker.apply_watermark(samples, sample_rate=SAMPLE_RATE_HZ), np.float32
    )
