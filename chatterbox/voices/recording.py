"""Collects a decoder's blocks into a mono recording at 24 kHz; checks length, level and samples."""

from dataclasses import dataclass

import numpy as np
import soxr

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.errors import AudioNotFinite, AudioTooLong, UnreadableAudio
from chatterbox.voices.sniff import check_shape

CLIPPED_AT = 0.999
"""Samples of this amplitude or more count as clipped; 16-bit files clip at 0.99997."""
MAX_AMPLITUDE = 1e6
"""Larger samples are refused. Float files may be scaled to ±32768, but not to this."""
COMPLETE_SHARE = 0.98
COMPLETE_MISSING_S = 0.5
"""A file is cut if it lacks more than 2 % and more than 0.5 s of its stated length. Headers of
compressed files overstate it a little: a browser's recording of 6 s by 0.12 s."""
MIN_CUT_S = 1.0
"""A cut file with less audio than this is unreadable."""
SAMPLES_PER_S = 192_000
"""Most samples of all channels per second of `max_seconds`, as in stereo at 96 kHz. Limits the
decoding time of small files that contain hours of silence."""
OPPOSITE = -0.5
"""Channels with a lower correlation cancel each other when mixed."""
MIX_LOSS_DB = 6.5
"""A mix this far below its loudest channel is amplified: one silent channel of two costs 6 dB."""
AUDIBLE_DB = 20.0
"""Channels this far below the loudest contain only noise; an amplified mix leaves them out."""


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A decoded recording, with measurements of its original samples."""

    audio: F32  # [samples] mono at 24 kHz
    duration_s: float
    sample_rate_hz: int  # of the file
    channels: int  # of the file
    peak: float
    clipped_share: float
    cut: bool  # whether it is shorter than the file's header states
    opposite_polarity: bool = False  # channels cancel each other; `audio` is the loudest alone


def join(parts: list[Recording], *, damaged: bool) -> Recording:
    """Concatenate recordings. `damaged` means that some parts could not be read."""
    duration_s = sum(part.duration_s for part in parts)
    return Recording(
        audio=parts[0].audio if len(parts) == 1 else np.concatenate([p.audio for p in parts]),
        duration_s=duration_s,
        sample_rate_hz=min(part.sample_rate_hz for part in parts),
        channels=max(part.channels for part in parts),
        peak=max(part.peak for part in parts),
        clipped_share=sum(p.clipped_share * p.duration_s for p in parts) / duration_s,
        cut=damaged or any(part.cut for part in parts),
        opposite_polarity=any(part.opposite_polarity for part in parts),
    )


@dataclass(slots=True)
class LengthLimit:
    """Limits the length of an upload, summed over the files that were joined into it."""

    max_seconds: float
    seconds: float = 0.0  # read so far
    samples: int = 0  # read so far, of all channels

    def check(self, frames: int, rate_hz: int, channels: int) -> None:
        """Raises AudioTooLong if reading `frames` more would exceed the limit."""
        if self.seconds + frames / rate_hz > self.max_seconds:
            raise AudioTooLong(
                f"The recording is longer than {self.max_seconds:g} s, the limit; "
                "10 to 15 s of clear speech are enough."
            )
        if self.samples + frames * channels > self.max_seconds * SAMPLES_PER_S:
            raise AudioTooLong(
                f"The recording has too many samples: {channels} channels at {rate_hz} Hz may "
                f"last {self.max_seconds * SAMPLES_PER_S / (channels * rate_hz):.0f} s at most. "
                "Send a shorter recording, or one channel at 24000 Hz."
            )

    def add(self, frames: int, rate_hz: int, channels: int) -> None:
        """Count a file that has been read."""
        self.seconds += frames / rate_hz
        self.samples += frames * channels


@dataclass(frozen=True, slots=True, eq=False)
class Downmix:
    """Weights for mixing channels into one."""

    weights: F32  # [channels]
    opposite_polarity: bool


class RecordingBuilder:
    """Builds the recording of one file. Raises on the first block that is out of bounds."""

    def __init__(
        self, rate_hz: int, channels: int, limit: LengthLimit, downmix: Downmix | None = None
    ) -> None:
        """`downmix` is the result of `better_downmix` in an earlier reading; None takes the
        mean."""
        check_shape(rate_hz, channels)
        self._rate_hz = rate_hz
        self._channels = channels
        self._limit = limit
        self._downmix = downmix
        self._covariance = np.zeros((channels, channels))  # sum over frames
        self._resampler = (
            None
            if rate_hz == SAMPLE_RATE_HZ
            else soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
        )
        self._samples = bytearray()  # grows in place: joining blocks would double the peak memory
        self._frames = 0
        self._clipped = 0
        self._peak = 0.0

    def check_length(self, frames: int) -> None:
        """Raise AudioTooLong if a file of `frames` exceeds the limit."""
        self._limit.check(frames, self._rate_hz, self._channels)

    def add(self, block: F32) -> None:  # [frames, channels]
        """Append a block. Raises AudioTooLong or AudioNotFinite."""
        self._frames += len(block)
        self.check_length(self._frames)
        levels = np.abs(block)
        if not bool((levels <= MAX_AMPLITUDE).all()):  # false for NaN and infinity too
            raise AudioNotFinite(
                "The recording contains invalid samples (NaN, infinite or far too large); "
                "export it again."
            )
        self._peak = max(self._peak, float(levels.max(initial=0.0)))
        self._clipped += int(np.count_nonzero(levels >= CLIPPED_AT))
        self._samples += self._resample(self._mix(block)).data

    def _mix(self, block: F32) -> F32:
        if self._downmix is not None:
            mixed: F32 = block @ self._downmix.weights
            return mixed
        if self._channels > 1 and len(block):
            centred = block - block.mean(axis=0)  # without constant offsets
            self._covariance += centred.T @ centred
        mean: F32 = block.mean(axis=1, dtype=np.float32)
        return mean

    def _resample(self, mono: F32, *, last: bool = False) -> F32:
        return mono if self._resampler is None else self._resampler.resample_chunk(mono, last=last)

    def better_downmix(self) -> Downmix | None:
        """Return the downmix with which to read the file again: the loudest channel if channels
        cancel each other, an amplified mix if the mean is much quieter than one channel, or else
        None."""
        power = self._covariance.diagonal()
        loudest = int(power.argmax())
        audible = power > power[loudest] * 10 ** (-AUDIBLE_DB / 10)
        covariance = self._covariance[np.ix_(audible, audible)]
        levels = np.sqrt(covariance.diagonal())
        if bool((covariance < OPPOSITE * np.outer(levels, levels)).any()):
            alone = np.arange(self._channels) == loudest
            return Downmix(alone.astype(np.float32), opposite_polarity=True)
        if self._covariance.mean() >= power[loudest] * 10 ** (-MIX_LOSS_DB / 10):
            return None
        gain = np.sqrt(power[loudest] / covariance.sum())
        return Downmix((audible * gain).astype(np.float32), opposite_polarity=False)

    def finish(self, stated_frames: int | None) -> Recording:
        """Return the recording. `stated_frames` is the length in the header, or None."""
        duration_s = self._frames / self._rate_hz
        missing = 0 if stated_frames is None else stated_frames - self._frames
        cut = missing > COMPLETE_MISSING_S * self._rate_hz and (
            self._frames < COMPLETE_SHARE * (self._frames + missing)
        )
        if self._frames == 0 or (cut and duration_s < MIN_CUT_S):
            raise UnreadableAudio(
                "No audio could be decoded from this file; it seems damaged or cut short."
            )
        self._limit.add(self._frames, self._rate_hz, self._channels)
        self._samples += self._resample(np.zeros(0, np.float32), last=True).data
        return Recording(
            audio=np.frombuffer(self._samples, np.float32),
            duration_s=duration_s,
            sample_rate_hz=self._rate_hz,
            channels=self._channels,
            peak=self._peak,
            clipped_share=self._clipped / (self._frames * self._channels),
            cut=cut,
            opposite_polarity=self._downmix is not None and self._downmix.opposite_polarity,
        )
