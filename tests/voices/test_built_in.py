"""The shipped clips are valid references and small."""

import numpy as np
import pyloudnorm
import pytest

from chatterbox.voices.built_in import DIRECTORY, built_in_voices
from chatterbox.voices.reference import pcm_to_float
from chatterbox.voices.store import is_voice_id, sha256
from chatterbox.voices.voice_file import flac_to_reference

VOICES = {voice.voice_id: voice for voice in built_in_voices()}


def test_names():
    assert list(VOICES) == ["slt", "rms", "awb", "kal16"]
    assert all(is_voice_id(name) for name in VOICES)
    assert "Carnegie Mellon University" in (DIRECTORY / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", VOICES)
def test_clips(name):
    voice = VOICES[name]
    clip = voice.clip()
    assert len(clip) <= 200_000
    assert sha256(clip) == voice.sha256
    audio = pcm_to_float(flac_to_reference(clip))
    assert 11 <= len(audio) / 24_000 <= 13
    assert len(audio) / 24_000 == voice.report.used_duration_s
    lufs = pyloudnorm.Meter(24_000).integrated_loudness(audio.astype(np.float64))
    assert lufs == pytest.approx(-27, abs=0.1)
    assert voice.report.warnings == ()
