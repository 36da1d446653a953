"""Turns a decoder's blocks into mono float32 at 24 kHz, and watches length, level, finiteness."""

from dataclasses import dataclass

import numpy as np
import soxr

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.errors import AudioNotFinite, AudioTooLong
from chatterbox.voices.sniff import check_shape, unreadable

CLIPPED_AT = 0.999
"""A sample at full scale or next to it counts as clipped (16-bit files clip at 0.99997)."""
MAX_AMPLITUDE = 1e6
"""Float files are sometimes scaled to ±32768; what is far beyond that is a broken file."""
COMPLETE_SHARE = 0.98
COMPLETE_MISSING_S = 0.5
"""Headers of compressed files over-state their length a little (a browser's recording of 6 s by
0.12 s); a file is cut when it lacks more than this share and more than this time."""
MIN_CUT_S = 1.0
"""Of a file that ends early, less than this is too little to be called readable."""
SAMPLES_PER_S = 192_000
"""Of all channels together, for each second of the cap: 300 s of stereo at 96 kHz. Decoding costs
what samples cost, and a file of silence says in a few kilobytes that it has a billion."""
OPPOSITE = -0.5
"""Channels that correlate below this cancel each other in a mix."""
MIX_LOSS_DB = 6.5
"""A mix this far below its loudest channel is amplified: silence in one of two costs 6 dB."""
AUDIBLE_DB = 20.0
"""A channel this far below the loudest adds noise to a mix, if anything."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A whole recording, ready for preparation, with what only its original samples show."""

    audio: F32  # [samples] mono at 24 kHz
    duration_s: float
    sample_rate_hz: int  # of the file
    channels: int  # of the file
    peak: float
    clipped_share: float
    cut: bool  # the file says that it is longer than what could be read
    opposite_polarity: bool = False  # channels cancel each other; `audio` is the loudest alone


def join(files: list[Decoded], *, damaged: bool) -> Decoded:
    """Recordings one after the other. `damaged`: there was more, which could not be read."""
    duration_s = sum(file.duration_s for file in files)
    return Decoded(
        audio=files[0].audio if len(files) == 1 else np.concatenate([f.audio for f in files]),
        duration_s=duration_s,
        sample_rate_hz=min(file.sample_rate_hz for file in files),
        channels=max(file.channels for file in files),
        peak=max(file.peak for file in files),
        clipped_share=sum(f.clipped_share * f.duration_s for f in files) / duration_s,
        cut=damaged or any(file.cut for file in files),
        opposite_polarity=any(file.opposite_polarity for file in files),
    )


@dataclass(slots=True)
class Cap:
    """How much of an upload is read, over all the files that it was joined from."""

    _max_seconds: float
    _seconds: float = 0.0  # read so far
    _samples: int = 0

    def check(self, frames: int, rate_hz: int, channels: int) -> None:
        """Raises AudioTooLong where so much more is too much."""
        if self._seconds + frames / rate_hz > self._max_seconds:
            raise AudioTooLong(
                f"The recording is longer than {self._max_seconds:g} s, the most that is read; "
                "10 to 15 s of clear speech are enough.",
                param="voice_file",
            )
        if self._samples + frames * channels > self._max_seconds * SAMPLES_PER_S:
            raise AudioTooLong(
                f"The recording has too many samples: {channels} channels at {rate_hz} Hz are read "
                f"for {self._max_seconds * SAMPLES_PER_S / (channels * rate_hz):.0f} s at most. "
                "Send less of it, or one channel at 24000 Hz.",
                param="voice_file",
            )

    def take(self, frames: int, rate_hz: int, channels: int) -> None:
        """So much has been read."""
        self._seconds += frames / rate_hz
        self._samples += frames * channels


@dataclass(frozen=True, slots=True, eq=False)
class Mix:
    """How channels become one."""

    weights: F32  # [channels]
    opposite_polarity: bool


class BoundedResampler:
    """Takes blocks of one file. Raises as soon as one is out of bounds. `mix`: their mean, unless
    a reading before has shown that another one is better."""

    def __init__(self, rate_hz: int, channels: int, cap: Cap, mix: Mix | None = None) -> None:
        check_shape(rate_hz, channels)
        self._rate_hz = rate_hz
        self._channels = channels
        self._cap = cap
        self._mix = mix
        self._covariance = np.zeros((channels, channels))  # times frames
        self._resampler = (
            None
            if rate_hz == SAMPLE_RATE_HZ
            else soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
        )
        self._samples = bytearray()  # grows in place: joining blocks would double the peak
        self._frames = 0
        self._clipped = 0
        self._peak = 0.0

    def check_length(self, frames: int) -> None:
        """Raises AudioTooLong where `frames` of this file are over the cap."""
        self._cap.check(frames, self._rate_hz, self._channels)

    def add(self, block: F32) -> None:  # [frames, channels]
        """Take the next block."""
        self._frames += len(block)
        self.check_length(self._frames)
        levels = np.abs(block)
        # NaN fails every comparison, so this one line refuses NaN, infinity and nonsense.
        if not bool((levels <= MAX_AMPLITUDE).all()):
            raise AudioNotFinite(
                "The recording contains samples that are not numbers (NaN, infinite or absurdly "
                "large); export it again.",
                param="voice_file",
            )
        self._peak = max(self._peak, float(levels.max(initial=0.0)))
        self._clipped += int(np.count_nonzero(levels >= CLIPPED_AT))
        self._samples += self._resampled(self._mono(block)).data

    def _mono(self, block: F32) -> F32:
        if self._mix is not None:
            mixed: F32 = block @ self._mix.weights
            return mixed
        if self._channels > 1 and len(block):
            centred = block - block.mean(axis=0)  # a constant offset is no sound
            self._covariance += centred.T @ centred
        mean: F32 = block.mean(axis=1, dtype=np.float32)
        return mean

    def _resampled(self, mono: F32, *, last: bool = False) -> F32:
        return mono if self._resampler is None else self._resampler.resample_chunk(mono, last=last)

    def better_mix(self) -> Mix | None:
        """What to read the file again with, where channels cancel each other, or where the mean of
        many is much quieter than the one that somebody speaks in."""
        power = self._covariance.diagonal()
        loudest = int(power.argmax())
        audible = power > power[loudest] * 10 ** (-AUDIBLE_DB / 10)
        heard = self._covariance[np.ix_(audible, audible)]
        levels = np.sqrt(heard.diagonal())
        if bool((heard < OPPOSITE * np.outer(levels, levels)).any()):
            alone = np.arange(self._channels) == loudest
            return Mix(alone.astype(np.float32), opposite_polarity=True)
        if self._covariance.mean() >= power[loudest] * 10 ** (-MIX_LOSS_DB / 10):
            return None
        gain = np.sqrt(power[loudest] / heard.sum())
        return Mix((audible * gain).astype(np.float32), opposite_polarity=False)

    def finish(self, declared_frames: int | None) -> Decoded:
        """The recording. `declared_frames` is the header's word, None where it says nothing."""
        duration_s = self._frames / self._rate_hz
        missing = 0 if declared_frames is None else declared_frames - self._frames
        cut = missing > COMPLETE_MISSING_S * self._rate_hz and (
            self._frames < COMPLETE_SHARE * (self._frames + missing)
        )
        if self._frames == 0 or (cut and duration_s < MIN_CUT_S):
            raise unreadable(
                "No sound could be decoded from this file; it seems damaged or cut short."
            )
        self._cap.take(self._frames, self._rate_hz, self._channels)
        self._samples += self._resampled(np.zeros(0, np.float32), last=True).data
        return Decoded(
            audio=np.frombuffer(self._samples, np.float32),
            duration_s=duration_s,
            sample_rate_hz=self._rate_hz,
            channels=self._channels,
            peak=self._peak,
            clipped_share=self._clipped / (self._frames * self._channels),
            cut=cut,
            opposite_polarity=self._mix is not None and self._mix.opposite_polarity,
        )
