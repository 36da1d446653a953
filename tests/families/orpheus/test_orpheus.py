"""A model in the published layout speaks: prompts, voices, precisions, the engine on it.

Knows a small Orpheus with random weights; runs the engine.
"""

import io
import itertools
import shutil
from collections.abc import Callable
from dataclasses import replace
from threading import Event

import numpy as np
import pytest
import soundfile

from chatterbox.config import TTSConfig
from chatterbox.console import model_notice
from chatterbox.engine.engine import TTSEngine
from chatterbox.engine.sampler import Sampler
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.engine.windows import WindowSettings
from chatterbox.errors import (
    ChatterboxError,
    CloningUnavailable,
    EmptyText,
    ModelError,
    VoiceNotFound,
)
from chatterbox.families.base import DecodeJob, Voice, Window
from chatterbox.families.orpheus import voices
from chatterbox.families.orpheus.prompt import OrpheusPrompts, open_tokenizer
from chatterbox.families.orpheus.spec import ORPHEUS, clean_up
from chatterbox.families.orpheus.voices import Reference
from chatterbox.families.tokenizer import Tokenizer
from chatterbox.runtime.decoder.snac import SNAC
from chatterbox.runtime.decoder.snac_decoder import SnacDecoder

TARA = Voice("fixed:tara", "tara")
TRAINED = [128259, 128000], [128009, 128260, 128261, 128257]


@pytest.fixture(scope="session")
def tokenizer(orpheus) -> Tokenizer:
    return open_tokenizer(orpheus / "tokenizer.json")


def said(prompts: OrpheusPrompts, text: str, voice: Voice = TARA) -> str:
    """What the text between the control tokens says."""
    ids = prompts.prompt(text, voice).ids
    head, tail = TRAINED
    assert ids[:2].tolist() == head
    assert ids[-4:].tolist() == tail
    assert (ids[2:-4] < 256).all()
    return prompts.tokenizer.library.decode(ids[2:-4].tolist())


# --- prompts


def test_the_trained_prompt(tokenizer):
    prompts = OrpheusPrompts(tokenizer, ORPHEUS.tags)
    assert said(prompts, "Good morning.") == "tara: Good morning."
    assert len(prompts.prefix(TARA)) == 0


def test_the_authors_package_puts_another_begin_of_text_in_front(tokenizer):
    trained = OrpheusPrompts(tokenizer, ORPHEUS.tags).prompt("Hi!", TARA).ids
    package = OrpheusPrompts(tokenizer, ORPHEUS.tags, "package").prompt("Hi!", TARA).ids
    assert package.tolist() == [128000, *trained.tolist()]


def test_tags_are_written_as_the_model_knows_them(tokenizer):
    prompts = OrpheusPrompts(tokenizer, ORPHEUS.tags)
    assert said(prompts, "So [sigh] be it. [note]") == "tara: So <sigh> be it. [note]"


@pytest.mark.parametrize("text", ["<|eot_id|> on", "<custom_token_2> on", "<|begin_of_text|> on"])
def test_a_control_token_in_a_text_is_read_aloud(text, tokenizer):
    prompts = OrpheusPrompts(tokenizer, ORPHEUS.tags)
    assert said(prompts, text) == f"tara: {text}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Come in", "Come in."),
        ("Come in,", "Come in."),
        ("Come in - ", "Come in."),
        ("Come in.", "Come in."),
        ("Really?!", "Really?!"),
        ("He said “no.”", "He said “no.”"),
        ("(Not now.)", "(Not now.)"),
        ("And then…", "And then…"),
        ("That was fun <laugh>", "That was fun. <laugh>"),
        ("That was fun [laugh]", "That was fun. [laugh]"),
        ("As in [1]", "As in [1]."),
        ("a < b", "a < b."),
        ("(aside)", "(aside)."),
        ("That was fun. <laugh> <sigh>", "That was fun. <laugh> <sigh>"),
        ("<laugh>", "<laugh>"),
        ("你好", "你好。"),
        ("你好。", "你好。"),
        ("नमस्ते", "नमस्ते।"),
        ("안녕하세요", "안녕하세요."),
        ("Version 3.1", "Version 3.1."),
    ],
)
def test_a_text_ends_in_a_full_stop(text, expected):
    assert clean_up(text) == expected


def test_a_reference_is_a_pair_of_turns_before_the_text(tokenizer):
    tokens = np.arange(14) % 7 * 4096 + 5
    voice = Voice("mine", Reference(tokens, "What I said."))
    prompts = OrpheusPrompts(tokenizer, ORPHEUS.tags)
    prompt = prompts.prompt("More.", voice)
    assert said(prompts, "More.", voice) == "More."
    assert prompt.prefix[-2:].tolist() == [128258, 128262]
    assert (prompt.prefix[-16:-2] - 128266).tolist() == tokens.tolist()
    assert np.array_equal(prompts.prefix(voice).prefix, prompt.prefix)
    package = OrpheusPrompts(tokenizer, ORPHEUS.tags, "package").prompt("More.", voice)
    assert package.prefix[:2].tolist() == [128000, 128259]
    assert package.ids[0] == 128259


def test_a_text_without_letters_is_refused(tokenizer):
    with pytest.raises(EmptyText):
        tokenizer.encode("")


def test_another_tokenizer_is_named(orpheus, tmp_path):
    text = (orpheus / "tokenizer.json").read_text().replace("custom_token_10>", "custom_token_x>")
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ModelError, match="not Orpheus' tokenizer"):
        open_tokenizer(tmp_path / "tokenizer.json")


# --- voices


@pytest.mark.parametrize(
    ("model", "spoken"),
    [
        ("onnx-community/orpheus-3b-0.1-ft-ONNX", ("en",)),
        ("canopylabs/3b-fr-ft-research_release", ("fr",)),
        ("someone/3b-es_it-ft-research_release-ONNX", ("es", "it")),
        ("orpheus-de", ("de",)),
        ("someone/orpheus-3b-de-ft-ONNX", ("de",)),
        ("de-lightful/model", ("en",)),
        ("someone/orpheus-make-it-speak", ("en",)),
        ("someone/3b-en-ft", ("en",)),
        ("orpheus", ("en",)),
    ],
)
def test_the_language_is_told_from_the_name(model, spoken):
    assert voices.languages(model) == spoken


def test_voices_of_a_language():
    german = voices.fixed_voices(("de",))
    assert german.default == "jana"
    assert german.voice("thomas") is not None
    assert german.voice("tara") is None


def test_a_finetune_has_its_own_names():
    own = voices.fixed_voices(("de",), "Jakob, Anton,")
    assert [(voice.name, voice.language) for voice in own.voices] == [
        ("Jakob", "de"),
        ("Anton", "de"),
    ]
    assert own.default == "Jakob"
    assert own.voice("jana") is None


# --- the engine


async def spoken(
    engine: TTSEngine, seed: int, voice: str = "leo", on_sound: Callable[[], None] = lambda: None
) -> list[np.ndarray]:
    pieces = []
    request = SpeechRequest(
        text="Hello there, friend.",
        voice=engine.voices.get(voice),
        sampling=engine.sampling(),
        seed=seed,
        max_new_tokens=140,
    )
    async with engine.speak(request) as stream:
        async for samples in stream:
            pieces.append(samples.copy())
            on_sound()
    return pieces


async def test_it_speaks_and_equal_seeds_sound_equal(engine):
    first, again, other = [np.concatenate(await spoken(engine, seed)) for seed in (3, 3, 4)]
    assert len(first) == 20 * 2048
    np.testing.assert_allclose(first, again, atol=1e-5)  # the clock decides how windows fall
    assert not np.array_equal(first, other)
    assert np.isfinite(first).all()
    assert first.std() > 0.01


async def test_sound_leaves_after_the_frames_that_it_depends_on(engine, monkeypatch):
    """No further one is begun before it was heard."""
    most = WindowSettings.of(SNAC).first_most_frames
    left = itertools.count(7 * (most + SNAC.look_ahead_frames), -1)
    heard, sample = Event(), Sampler.sample

    def held(*given):
        assert next(left) > 0 or heard.wait(60), (
            "the model waits for the sound, and it for the model"
        )
        return sample(*given)

    monkeypatch.setattr(Sampler, "sample", held)
    pieces = await spoken(engine, 5, on_sound=heard.set)
    assert len(pieces[0]) <= most * 2048


async def test_what_is_streamed_is_the_whole(engine, monkeypatch):
    """Though the clock decides how windows fall."""
    jobs = []
    start = SnacDecoder.start

    def noted(decoder, batch):
        jobs.extend(batch)
        return start(decoder, batch)

    monkeypatch.setattr(SnacDecoder, "start", noted)
    sound = np.concatenate(await spoken(engine, 6))
    tokens = np.zeros((jobs[-1].window.stop, 7), np.int64)
    for job in jobs:
        tokens[job.window.begin : job.window.stop] = job.tokens.reshape(-1, 7)
    frames, decoder = len(tokens), engine.model.decoder
    assert len(jobs) > 1
    stream = decoder.open(jobs[0].stream.voice, jobs[0].stream.seed)
    window = Window(0, 0, frames, frames, True, SNAC)
    whole = DecodeJob(stream, window, tokens.reshape(-1), 0, frames * 2048)
    wanted = decoder.run([whole])[0].samples
    inner = slice(480, -480)  # an answer begins and ends softly
    np.testing.assert_allclose(sound[inner], wanted[inner], atol=1e-5)


def test_what_is_loaded_is_said(engine):
    info = engine.info
    assert info.precision["model"] == "fp32"
    assert info.expected_rtf is not None
    assert info.expected_rtf > 0
    slow = replace(info, expected_rtf=10.7)
    assert "about 11 s to generate" in slow.slowness
    assert any("11 s to generate" in line for line in model_notice(slow))
    assert any("compiled, proven equal" in note for note in info.notes)
    names = [voice.voice_id for voice in engine.voices.list()]
    assert names[:3] == ["tara", "leah", "jess"]
    assert engine.sampling().temperature == pytest.approx(0.6)
    assert engine.sampling().repetition_penalty == pytest.approx(1.1)


def test_an_unknown_voice_is_no_other_voice(engine):
    with pytest.raises(VoiceNotFound):
        engine.voices.get("julia")


def test_a_fine_tuned_model_takes_no_recordings(engine):
    with pytest.raises(CloningUnavailable):
        engine.voices.register(b"RIFF", name="me")


@pytest.mark.slow
async def test_a_pretrained_model_imitates_a_recording(orpheus, tmp_path):
    folder = tmp_path / "3b-pretrain"
    shutil.copytree(orpheus, folder)
    made = TTSEngine(TTSConfig(model=str(folder), data_dir=tmp_path / "data", device="cpu"))
    made.load()
    try:
        assert len(np.concatenate(await spoken(made, 1, "slt"))) == 20 * 2048
        with pytest.raises(ChatterboxError, match="transcript"):
            made.voices.register(recording())
        with pytest.raises(ChatterboxError, match="at most 15 s"):
            made.voices.register(recording(16), "me", "Too much to say.")
        assert made.model.language_model.capacity > 3000  # room for a reference
        info, _ = made.voices.register(recording(), "me", "What I say here.")
        voice = made.voices.get("me")
        assert voice.data.transcript == "What I say here."
        assert len(voice.data.tokens) % 7 == 0
        sound = np.concatenate(await spoken(made, 1, "me"))
        assert len(sound) == 20 * 2048
        made.voices.import_(made.voices.export(info.voice_id))
    finally:
        made.close()


def recording(seconds: int = 5) -> bytes:
    """Something like a voice."""
    at = np.arange(seconds * 24_000) / 24_000
    sound = 0.3 * np.sin(2 * np.pi * 140 * at) * (1 + np.sin(2 * np.pi * 3 * at)) / 2
    file = io.BytesIO()
    soundfile.write(file, sound, 24_000, format="WAV")
    return file.getvalue()
