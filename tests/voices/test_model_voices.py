"""Voices that a model was trained with, and models that need transcripts."""

from dataclasses import replace

import pytest

from chatterbox.errors import (
    CloningUnavailable,
    ConfigError,
    InvalidValue,
    VoiceNotFound,
    VoiceProtected,
)
from chatterbox.families.turbo.voice import TurboVoices
from chatterbox.families.voices import FixedVoice, FixedVoices

from .clips import FakeEncoder, babble, encoded, healthy, open_library

ANNA = encoded(babble(3, seed=1))
FIXED = FixedVoices(
    (
        FixedVoice("tara", "en", "a woman"),
        FixedVoice("zac", "en"),
        FixedVoice("유나", "ko"),
    ),
    default="tara",
)


class TranscribedVoices(FakeEncoder):
    """Requires transcripts, and records them."""

    def __init__(self) -> None:
        super().__init__()
        self.rules = replace(TurboVoices.rules, transcript="required")
        self.transcripts: list[str | None] = []

    def encode(self, audio, transcript=None):
        self.transcripts.append(transcript)
        return super().encode(audio)


def fixed_library(directory, **options):
    return open_library(directory, cloned=None, fixed=FIXED, default_voice=None, **options)


def test_a_models_own_voices_are_listed_and_speak(tmp_path):
    files = healthy()
    library = fixed_library(tmp_path, files=files)
    assert [info.voice_id for info in library.list()] == ["tara", "zac", "유나"]
    assert library.get(None).key == library.get("TARA").key
    assert library.get("zac").data == "zac"
    info = library.info("tara").as_json()
    assert (info["language"], info["description"], info["built_in"]) == ("en", "a woman", True)
    assert "report" not in info
    assert library.prepare("zac").key == library.get("zac").key
    library.rehearse()
    assert files.paths == [], "a model that cannot clone looks at no recording"
    for unknown in ("slt", "julia", ""):
        with pytest.raises(VoiceNotFound):
            library.get(unknown)


def test_f116_what_needs_cloning_is_refused_with_the_reason(tmp_path):
    exported = open_library(tmp_path / "a").export("rms")
    library = fixed_library(tmp_path / "b")
    for call in (
        lambda: library.register(ANNA, "Anna"),
        lambda: library.temporary_voice(ANNA),
        lambda: library.import_(exported),
    ):
        with pytest.raises(CloningUnavailable, match="Choose one of them: tara, zac, "):
            call()
    with pytest.raises(CloningUnavailable):
        library.export("tara")
    for call in (
        lambda: library.delete("tara"),
        lambda: library.rename("tara", "Anna"),
        lambda: library.set_alias("tara", "Anna"),
    ):
        with pytest.raises(VoiceProtected):
            call()


def test_a_default_voice_that_the_model_has_not_is_a_wrong_setting(tmp_path):
    fixed_library(tmp_path).check_default()
    library = open_library(tmp_path, cloned=None, fixed=FIXED, default_voice="slt")
    with pytest.raises(ConfigError, match="CHATTERBOX_DEFAULT_VOICE=slt: there is no such voice"):
        library.check_default()


def test_voices_registered_for_another_model_stay_stored(tmp_path):
    info, _ = open_library(tmp_path).register(ANNA, "Anna")
    with pytest.raises(VoiceNotFound):
        fixed_library(tmp_path).get("Anna")
    assert open_library(tmp_path).info("Anna") == info


def test_a_model_may_have_both(tmp_path):
    library = open_library(tmp_path, fixed=FIXED, default_voice=None)
    info, _ = library.register(ANNA, "Anna")
    assert library.default_voice == "tara"
    assert {"tara", "slt", info.voice_id} <= {one.voice_id for one in library.list()}
    assert library.get("tara").data == "tara"
    assert library.get("Anna").data.nbytes > 0


def test_f116_a_family_that_needs_the_words_is_told_them_and_refuses_without(tmp_path):
    voices = TranscribedVoices()
    library = open_library(tmp_path, voices)
    for transcript in (None, ""):
        with pytest.raises(InvalidValue, match="send it as 'transcript'"):
            library.register(ANNA, "Anna", transcript)
        with pytest.raises(InvalidValue):
            library.temporary_voice(ANNA, transcript)
    info, _ = library.register(ANNA, "Anna", "So it is.")
    library.temporary_voice(ANNA, "Is it so?")
    library.get("slt")
    assert voices.transcripts[:2] == ["So it is.", "Is it so?"]
    assert voices.transcripts[2].startswith("The morning bus leaves at seven")
    other = TranscribedVoices()
    again = open_library(tmp_path, other, model_key="model-b")
    assert again.get("Anna").data.nbytes > 0
    assert other.transcripts == ["So it is."]
    moved = open_library(tmp_path / "c", TranscribedVoices(), model_key="model-c")
    assert moved.import_(again.export("Anna")).voice_id == info.voice_id


def test_the_transcript_is_part_of_the_id_if_the_model_uses_it(tmp_path):
    library = open_library(tmp_path, TranscribedVoices())
    one, _ = library.register(ANNA, None, "So it is.")
    other, created = library.register(ANNA, None, "Is it so?")
    assert created
    assert one.voice_id != other.voice_id
    turbo = open_library(tmp_path / "b")
    assert turbo.register(ANNA, None, "So it is.")[0] == turbo.register(ANNA)[0]


def test_a_voice_without_its_transcript_is_refused(tmp_path):
    open_library(tmp_path).register(ANNA, "Anna")
    library = open_library(tmp_path, TranscribedVoices(), model_key="model-b")
    with pytest.raises(InvalidValue, match="Register it again, with 'transcript'"):
        library.get("Anna")
