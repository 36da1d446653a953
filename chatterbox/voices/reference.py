"""Prepares a recording for the speech encoder, and reports on its quality to its owner."""

import hashlib
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.errors import AudioSilent, AudioTooLong, AudioTooShort, InvalidValue
from chatterbox.families.voices import ReferenceRules
from chatterbox.voices.recording import Recording
from chatterbox.voices.sandbox import AudioDecoder
from chatterbox.voices.trim import FRAME_SAMPLES, Activity, choose_window, find_activity

MIN_SOUND_S = 0.2
"""A recording with less audible sound than this is silence, perhaps with a click."""
PEAK_LIMIT = 0.99
"""Highest sample of a reference; the authors' vocoder clips there too."""
PCM_SCALE = 32767.0
"""Scale of 16-bit samples. References are stored so; the id and the encoder use these samples."""
QUIET_LUFS = -45.0
"""Recordings below this level get a warning: amplifying to -27 LUFS raises the noise by 18 dB."""

I16 = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class ReferenceReport:
    """Measurements of a recording. Levels are those of the file, before normalization."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, allow_inf_nan=False)

    duration_s: float
    used_start_s: float
    used_duration_s: float
    loudness_lufs: float | None  # of the used stretch; None if it cannot be measured
    peak: float
    clipped_share: float
    silence_share: float
    sample_rate_hz: int
    warnings: tuple[str, ...]  # "name: a sentence for the owner"

    def as_json(self) -> dict[str, Any]:
        """Return the fields of an answer."""
        return asdict(self) | {"warnings": list(self.warnings)}


@dataclass(frozen=True, eq=False)
class Reference:
    """The encoder's input."""

    audio: F32  # [samples] mono at 24 kHz, prepared by the family's rules, exact in 16 bits
    report: ReferenceReport
    transcript: str | None = None

    @property
    def pcm(self) -> I16:
        """The samples as they are stored."""
        return float_to_pcm(self.audio)

    @cached_property
    def voice_id(self) -> str:
        """Hash of samples and transcript, so that the same recording gets the same id."""
        words = (self.transcript or "").encode("utf-8", "replace")
        digest = hashlib.sha256(self.pcm.astype("<i2").tobytes() + words).hexdigest()
        return f"v-{digest[:20]}"  # 80 bits make collisions practically impossible


def prepare_reference(
    decoder: AudioDecoder,
    data: bytes,
    rules: ReferenceRules,
    max_seconds: float,
    transcript: str | None = None,
) -> Reference:
    """Decode an untrusted file, choose its best stretch and normalize its loudness.

    Raises the errors of decoding, AudioTooShort and AudioSilent. If the family requires a
    transcript, raises InvalidValue if there is none, and AudioTooLong if only a stretch would be
    used, since the words of the stretch are unknown.
    """
    if rules.transcript == "unused":
        transcript = None
    elif rules.transcript == "required" and not transcript:
        raise InvalidValue(
            "This model needs a transcript of the recording: send it as 'transcript'.",
            param="transcript",
        )
    recording = decoder.decode(data, max_seconds=max_seconds)
    if rules.transcript == "required" and recording.duration_s > rules.max_s:
        raise AudioTooLong(
            f"The recording is {recording.duration_s:.1f} s long; this model takes at most "
            f"{rules.max_s:g} s, all of it in the transcript."
        )
    if recording.duration_s < rules.min_s:
        raise AudioTooShort(
            f"The recording is {recording.duration_s:.1f} s long; a voice needs at least "
            f"{rules.min_s:g} s, and sounds right from {rules.good_s:g} s on."
        )
    activity = find_activity(recording.audio)
    if activity.sound_s < MIN_SOUND_S:
        raise AudioSilent("No sound can be heard in the recording.")
    first, end = choose_window(
        activity,
        max_frames=int(rules.max_s * SAMPLE_RATE_HZ) // FRAME_SAMPLES,
        min_frames=int(rules.min_s * SAMPLE_RATE_HZ) // FRAME_SAMPLES,
    )
    used = recording.audio[first * FRAME_SAMPLES : end * FRAME_SAMPLES].astype(np.float64)
    used -= used.mean()
    loudness = _loudness_lufs(used)
    gain = PEAK_LIMIT / float(np.abs(used).max())
    if loudness is None or rules.loudness_lufs is None:
        gain = min(gain, 1.0)
    else:
        gain = min(gain, 10.0 ** ((rules.loudness_lufs - loudness) / 20))
    used_s = len(used) / SAMPLE_RATE_HZ
    report = ReferenceReport(
        duration_s=round(recording.duration_s, 3),
        used_start_s=first * FRAME_SAMPLES / SAMPLE_RATE_HZ,
        used_duration_s=used_s,
        loudness_lufs=None if loudness is None else round(loudness, 1),
        peak=round(recording.peak, 4),
        clipped_share=round(recording.clipped_share, 6),
        silence_share=round(activity.silence_share, 3),
        sample_rate_hz=recording.sample_rate_hz,
        warnings=_warnings(recording, activity, used_s, loudness, rules),
    )
    return Reference(pcm_to_float(float_to_pcm(used * gain)), report, transcript)


def pcm_to_float(pcm: I16) -> F32:
    """Convert stored samples to floats."""
    return (pcm / PCM_SCALE).astype(np.float32)


def float_to_pcm(audio: NDArray[np.floating]) -> I16:
    """Convert floats to samples as stored; the exact inverse of `pcm_to_float`."""
    return np.round(audio.astype(np.float64) * PCM_SCALE).astype(np.int16)


def _loudness_lufs(used: NDArray[np.float64]) -> float | None:
    """Return the integrated loudness by BS.1770, or None if every block is below the gate."""
    import pyloudnorm  # slow to import: only where a recording is prepared

    # At least 1 s is used, so the blocks of 0.4 s always fit.
    with np.errstate(all="ignore"):
        lufs = float(pyloudnorm.Meter(SAMPLE_RATE_HZ).integrated_loudness(used))
    return lufs if np.isfinite(lufs) else None


def _warnings(
    recording: Recording,
    activity: Activity,
    used_s: float,
    loudness_lufs: float | None,
    rules: ReferenceRules,
) -> tuple[str, ...]:
    """Return warnings about the quality of a recording, most important first."""
    found = [
        used_s < rules.good_s
        and f"short_reference: only {used_s:.1f} s of speech were found; "
        "record 10 to 15 s for a voice that resembles its speaker.",
        recording.cut
        and "cut_file: the file ends before its stated length; what was there is used. "
        "Upload it again if that was not meant.",
        recording.opposite_polarity
        and "opposite_polarity: the channels cancel each other, so only the loudest one is used. "
        "Check the microphone's cable, or export the recording in mono.",
        recording.clipped_share > 0.001  # audible from here on
        and f"clipped: {recording.clipped_share:.1%} of the samples are at full scale; "
        "record again with less gain, or the distortion becomes part of the voice.",
        activity.contrast_db < 20  # pauses of clean speech are 30 dB and more below its vowels
        and "noisy: the pauses are hardly quieter than the speech; record in a quiet room "
        "without music, or the noise becomes part of the voice.",
        (loudness_lufs is None or loudness_lufs < QUIET_LUFS)
        and "quiet: the recording is very quiet, so its noise was raised with it; "
        "speak closer to the microphone or use more gain.",
        activity.silence_share > 0.5
        and f"mostly_silent: {activity.silence_share:.0%} of the recording is silence; "
        "cut the pauses out.",
        recording.sample_rate_hz < 16_000
        and f"low_sample_rate: {recording.sample_rate_hz} Hz has no high frequencies, as on the "
        "telephone; record at 24000 Hz or more.",
        (recording.duration_s > rules.max_s and used_s < recording.duration_s)
        and f"long_reference: the model hears at most {rules.max_s:g} s; "
        "the stretch with the most speech was chosen.",
    ]
    return tuple(warning for warning in found if warning)
