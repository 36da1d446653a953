"""Prepares a recording for the speech encoder, and reports on it to its owner."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.errors import AudioSilent, AudioTooLong, AudioTooShort, InvalidValue
from chatterbox.families.voices import ReferenceRules
from chatterbox.voices.resampler import Decoded
from chatterbox.voices.sandbox import AudioDecoder
from chatterbox.voices.trim import FRAME_SAMPLES, Activity, choose_window, find_activity

MIN_SOUND_S = 0.2
"""Less audible sound than this is silence with a click in it."""
PEAK_LIMIT = 0.99
"""No sample of a prepared reference is louder; the authors' vocoder clamps there too."""
PCM_SCALE = 32767.0
"""A reference is kept as 16-bit samples, so that the file, the id and the encoder's input agree."""
QUIET_LUFS = -45.0
"""Below this, amplifying to -27 LUFS raises the noise of a usual recording by 18 dB."""

I16 = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class ReferenceReport:
    """What was found in a recording. Levels are those of the file, before loudness."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, allow_inf_nan=False)

    duration_s: float
    used_start_s: float
    used_duration_s: float
    loudness_lufs: float | None  # of the used stretch; None where it cannot be measured
    peak: float
    clipped_share: float
    silence_share: float
    sample_rate_hz: int
    warnings: tuple[str, ...]  # "name: a sentence for people"

    def as_json(self) -> dict[str, Any]:
        """For an answer."""
        found: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return found | {"warnings": list(self.warnings)}


@dataclass(frozen=True, eq=False)
class Reference:
    """A recording as the speech encoder gets it."""

    audio: F32  # [samples] mono 24 kHz, by the family's rules, exact in 16 bits
    report: ReferenceReport
    transcript: str | None = None

    @property
    def pcm(self) -> I16:
        """Its samples as they are kept."""
        return float_to_pcm(self.audio)

    @cached_property
    def voice_id(self) -> str:
        """The id of this sound, and of what is said in it: equal for the same recording."""
        said = (self.transcript or "").encode("utf-8", "replace")
        digest = hashlib.sha256(self.pcm.astype("<i2").tobytes() + said).hexdigest()
        return f"v-{digest[:20]}"  # 80 bits: no two recordings will meet


def prepare_reference(
    decoder: AudioDecoder,
    data: bytes,
    rules: ReferenceRules,
    max_seconds: float,
    transcript: str | None = None,
) -> Reference:
    """The whole way from an untrusted file to a reference.

    Raises what decoding raises, AudioTooShort, AudioSilent, and, where the family needs to be told
    what is said, InvalidValue and AudioTooLong: no stretch of a longer one has a known text.
    """
    if rules.transcript == "unused":
        transcript = None
    elif rules.transcript == "required" and not transcript:
        raise InvalidValue(
            "This model needs to know what is said in the recording: send it as 'transcript'.",
            param="transcript",
        )
    decoded = decoder.decode(data, max_seconds=max_seconds)
    if rules.transcript == "required" and decoded.duration_s > rules.max_s:
        raise AudioTooLong(
            f"The recording is {decoded.duration_s:.1f} s long; this model takes at most "
            f"{rules.max_s:g} s, all of it in the transcript.",
            param="voice_file",
        )
    return replace(prepare(decoded, rules), transcript=transcript)


def prepare(decoded: Decoded, rules: ReferenceRules) -> Reference:
    """The best stretch of a recording at the encoder's loudness."""
    if decoded.duration_s < rules.min_s:
        raise AudioTooShort(
            f"The recording is {decoded.duration_s:.1f} s long; a voice needs at least "
            f"{rules.min_s:g} s, and sounds right from {rules.good_s:g} s on.",
            param="voice_file",
        )
    activity = find_activity(decoded.audio)
    if activity.sound_s < MIN_SOUND_S:
        raise AudioSilent("No sound can be heard in the recording.", param="voice_file")
    first, end = choose_window(
        activity,
        max_frames=int(rules.max_s * SAMPLE_RATE_HZ) // FRAME_SAMPLES,
        min_frames=int(rules.min_s * SAMPLE_RATE_HZ) // FRAME_SAMPLES,
    )
    used = decoded.audio[first * FRAME_SAMPLES : end * FRAME_SAMPLES].astype(np.float64)
    used -= used.mean()
    loudness = _loudness_lufs(used)
    # As loud as wanted where the loudness is known, but never above PEAK_LIMIT.
    gain = PEAK_LIMIT / float(np.abs(used).max())
    if loudness is None or rules.loudness_lufs is None:
        gain = min(gain, 1.0)
    else:
        gain = min(gain, 10.0 ** ((rules.loudness_lufs - loudness) / 20))
    used_s = len(used) / SAMPLE_RATE_HZ
    report = ReferenceReport(
        duration_s=round(decoded.duration_s, 3),
        used_start_s=first * FRAME_SAMPLES / SAMPLE_RATE_HZ,
        used_duration_s=used_s,
        loudness_lufs=None if loudness is None else round(loudness, 1),
        peak=round(decoded.peak, 4),
        clipped_share=round(decoded.clipped_share, 6),
        silence_share=round(activity.silence_share, 3),
        sample_rate_hz=decoded.sample_rate_hz,
        warnings=_warnings(decoded, activity, used_s, loudness, rules),
    )
    return Reference(pcm_to_float(float_to_pcm(used * gain)), report)


def pcm_to_float(pcm: I16) -> F32:
    """The one meaning of a kept 16-bit sample."""
    return (pcm / PCM_SCALE).astype(np.float32)


def float_to_pcm(audio: NDArray[np.floating]) -> I16:
    """The inverse of `pcm_to_float`, exactly."""
    return np.round(audio.astype(np.float64) * PCM_SCALE).astype(np.int16)


def _loudness_lufs(used: NDArray[np.float64]) -> float | None:
    """BS.1770 integrated loudness, None where every block lies below its gate."""
    import pyloudnorm  # slow to import: only where a recording is prepared

    # Its blocks of 0.4 s always fit: a used stretch has at least 1 s.
    with np.errstate(all="ignore"):
        lufs = float(pyloudnorm.Meter(SAMPLE_RATE_HZ).integrated_loudness(used))
    return lufs if np.isfinite(lufs) else None


def _warnings(
    decoded: Decoded,
    activity: Activity,
    used_s: float,
    loudness_lufs: float | None,
    rules: ReferenceRules,
) -> tuple[str, ...]:
    """What the owner of the recording could do better, most important first."""
    too_quiet = loudness_lufs is None or loudness_lufs < QUIET_LUFS
    chosen = decoded.duration_s > rules.max_s and used_s < decoded.duration_s
    found = [
        used_s < rules.good_s
        and f"short_reference: only {used_s:.1f} s of speech were found; "
        "record 10 to 15 s for a voice that resembles its speaker.",
        decoded.cut
        and "cut_file: the file ends before its stated length; what was there is used. "
        "Upload it again if that was not meant.",
        decoded.opposite_polarity
        and "opposite_polarity: the channels cancel each other, so only the loudest one is used. "
        "Check the microphone's cable, or export the recording in mono.",
        decoded.clipped_share > 0.001  # more can be heard
        and f"clipped: {decoded.clipped_share:.1%} of the samples are at full scale; "
        "record again with less gain, or the distortion becomes part of the voice.",
        activity.contrast_db < 20  # clean speech has pauses 30 dB and more below its vowels
        and "noisy: the pauses are hardly quieter than the speech; record in a quiet room "
        "without music, or the noise becomes part of the voice.",
        too_quiet
        and "quiet: the recording is very quiet, so its noise was raised with it; "
        "speak closer to the microphone or use more gain.",
        activity.silence_share > 0.5
        and f"mostly_silent: {activity.silence_share:.0%} of the recording is silence; "
        "cut the pauses out.",
        decoded.sample_rate_hz < 16_000
        and f"low_sample_rate: {decoded.sample_rate_hz} Hz has no high frequencies, as on the "
        "telephone; record at 24000 Hz or more.",
        chosen
        and f"long_reference: the model hears at most {rules.max_s:g} s; "
        "the stretch with the most speech was chosen.",
    ]
    return tuple(warning for warning in found if warning)
