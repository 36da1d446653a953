"""References: the chosen stretch, loudness, exact 16-bit samples, and warnings."""

import json

import numpy as np
import pyloudnorm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatterbox.errors import AudioSilent, AudioTooLong, AudioTooShort
from chatterbox.families.turbo.voice import TurboVoices
from chatterbox.voices.reference import (
    Reference,
    float_to_pcm,
    pcm_to_float,
    prepare_reference,
)
from chatterbox.voices.sandbox import AudioDecoder
from chatterbox.voices.store import is_voice_id
from chatterbox.voices.trim import FRAME_SAMPLES, choose_window, find_activity

from .clips import babble, encoded

RATE = 24_000
RULES = TurboVoices.rules


def prepared(audio, kind="WAV", subtype="FLOAT", rate_hz=RATE, max_seconds=300.0) -> Reference:
    data = encoded(audio, kind, subtype, rate_hz)
    return prepare_reference(AudioDecoder(), data, RULES, max_seconds=max_seconds)


def names(reference: Reference) -> set[str]:
    return {warning.split(":")[0] for warning in reference.report.warnings}


def silence(seconds: float):
    return np.zeros(int(seconds * RATE), np.float32)


@pytest.mark.parametrize("level", [0.003, 0.05, 0.4])
@pytest.mark.parametrize("seconds", [1.0, 20.0])
def test_loudness_and_length(seconds, level):
    reference = prepared(babble(seconds, level=level))
    lufs = pyloudnorm.Meter(RATE).integrated_loudness(reference.audio.astype(np.float64))
    assert lufs == pytest.approx(-27, abs=0.1)
    assert reference.audio.dtype == np.float32
    assert len(reference.audio) <= 15 * RATE
    assert np.abs(reference.audio).max() <= 0.9901
    assert reference.report.used_duration_s == len(reference.audio) / RATE
    assert reference.report.duration_s == seconds


def test_a_click_does_not_break_the_ceiling():
    audio = babble(3, level=0.005)
    audio[30_000] = 0.9
    assert np.abs(prepared(audio).audio).max() <= 0.9901


def test_a_good_recording_has_no_warning():
    reference = prepared(babble(12, level=0.2))
    assert reference.report.warnings == ()
    assert reference.report.clipped_share == 0
    assert 0 < reference.report.silence_share < 0.5


def test_samples_survive_sixteen_bits():
    pcm = np.arange(-32767, 32768, dtype=np.int16)
    assert np.array_equal(float_to_pcm(pcm_to_float(pcm)), pcm)
    audio = prepared(babble(3)).audio
    assert np.array_equal(pcm_to_float(float_to_pcm(audio)), audio)


def test_the_id_depends_only_on_the_sound():
    wav, flac = babble(3), babble(3)
    ids = {
        prepared(np.round(wav * 32767).astype(np.int16), "WAV", "PCM_16").voice_id,
        prepared(np.round(flac * 32767).astype(np.int16), "FLAC", "PCM_16").voice_id,
    }
    assert len(ids) == 1
    assert all(is_voice_id(one) for one in ids)
    assert prepared(babble(3, seed=1)).voice_id not in ids


@pytest.mark.parametrize("seconds", [0.2, 0.9, 0.99])
def test_too_short(seconds):
    with pytest.raises(AudioTooShort):
        prepared(babble(seconds))


def test_just_over_the_cap():
    with pytest.raises(AudioTooLong):
        prepared(babble(30.01), max_seconds=30)


@pytest.mark.parametrize("rate_hz", [8_000, 24_000, 44_100])
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_silence_and_a_constant_are_silent(rate_hz, offset):
    with pytest.raises(AudioSilent):
        prepared(np.full(rate_hz * 3, offset, np.float32), rate_hz=rate_hz)


def test_a_click_in_silence_is_silent():
    audio = silence(3)
    audio[40_000:40_100] = 0.9
    with pytest.raises(AudioSilent):
        prepared(audio)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_sample_type_works(subtype):
    assert len(prepared(babble(2), "WAV", subtype).audio) > RATE


def test_silence_at_the_ends_is_removed():
    reference = prepared(np.concatenate([silence(3), babble(8), silence(4)]))
    assert reference.report.used_start_s == pytest.approx(3, abs=0.2)
    assert reference.report.used_duration_s == pytest.approx(8, abs=0.6)


def test_the_stretch_with_the_most_speech_is_chosen():
    sparse = np.concatenate([np.concatenate([babble(1, seed=1), silence(2)]) for _ in range(5)])
    reference = prepared(np.concatenate([sparse, babble(16, seed=2), sparse]))
    assert reference.report.used_start_s == pytest.approx(15, abs=1.5)
    assert 13 < reference.report.used_duration_s <= 15
    assert "long_reference" in names(reference)


def test_a_stretch_begins_after_a_pause_and_ends_in_one():
    audio = np.concatenate([silence(0.5), babble(30)])
    reference = prepared(audio)
    start = round(reference.report.used_start_s * RATE)
    before = audio[max(start - 2_000, 0) : start]
    assert np.abs(before).max(initial=0) < 0.01
    end = start + len(reference.audio)
    assert np.abs(audio[end - 500 : end + 500]).max() < 0.01


WARNED = {
    "short_reference": babble(3),
    "clipped": np.clip(babble(8) * 20, -1, 1),
    "noisy": babble(8) + 0.1 * np.random.default_rng(3).standard_normal(8 * RATE),
    "quiet": babble(8, level=0.004),
    "mostly_silent": np.concatenate([babble(6), silence(9), babble(1)]),
    "long_reference": babble(20),
}


@pytest.mark.parametrize("name", WARNED)
def test_warnings(name):
    reference = prepared(WARNED[name])
    assert name in names(reference)
    sentence = next(w for w in reference.report.warnings if w.startswith(name))
    assert len(sentence.split(": ", 1)[1]) > 30
    json.dumps(reference.report.as_json(), allow_nan=False)


def test_telephone_recordings_are_warned_of():
    assert "low_sample_rate" in names(prepared(babble(6, 8_000), rate_hz=8_000))
    assert "low_sample_rate" not in names(prepared(babble(6, 16_000), rate_hz=16_000))


def test_a_file_cut_short_is_warned_of():
    data = encoded(babble(8), "FLAC", "PCM_16")
    whole = prepare_reference(AudioDecoder(), data, RULES, max_seconds=30)
    part = prepare_reference(AudioDecoder(), data[: len(data) // 2], RULES, max_seconds=30)
    assert "cut_file" in names(part) - names(whole)


def test_opposite_channels_give_a_warning_and_full_level():
    sound = babble(6)
    opposite = prepared(np.stack([sound, -0.9 * sound], axis=1))
    assert names(opposite) == {"opposite_polarity"}
    assert opposite.voice_id == prepared(sound).voice_id


def test_one_channel_of_eight_is_not_quiet():
    sound = babble(6, level=0.02)
    many = np.zeros((len(sound), 8), np.float32)
    many[:, 5] = sound
    assert not names(prepared(many))
    assert prepared(many).voice_id == prepared(sound).voice_id


@settings(deadline=None, max_examples=60)
@given(
    runs=st.lists(st.tuples(st.integers(1, 60), st.booleans()), min_size=1, max_size=12),
    max_frames=st.integers(20, 200),
)
def test_a_window_is_always_within_the_recording(runs, max_frames):
    active = np.concatenate([np.full(length, sound) for length, sound in runs])
    loud = np.repeat(np.where(active, 0.3, 0.0), FRAME_SAMPLES)
    tone = np.sin(np.arange(len(loud)) * 0.1)
    activity = find_activity((loud * tone).astype(np.float32))
    first, end = choose_window(activity, max_frames=max_frames, min_frames=20)
    assert 0 <= first < end <= len(active)
    assert end - first <= max_frames
    if len(active) >= 20:
        assert end - first >= 20
    if activity.active.any():
        assert activity.active[first:end].any()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40), st.integers(24_000, 60_000))
def test_any_finite_sound_gives_a_reference_or_a_refusal(pattern, count):
    audio = np.resize(np.array(pattern, np.float32), count)
    try:
        reference = prepared(audio)
    except AudioSilent:
        return
    assert np.isfinite(reference.audio).all()
    assert np.abs(reference.audio).max() <= 0.9901
    json.dumps(reference.report.as_json(), allow_nan=False)
