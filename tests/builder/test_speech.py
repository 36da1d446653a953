"""The made model behaves like a speaker: it ends by itself and sounds like text and voice."""

import numpy as np
import pyloudnorm
import pytest
from builder.drive import SILENCE, SOME_PRECISIONS, STOP, Array, Model

CODES_PER_CHARACTER = 2
LONG = (
    "It was a bright cold day in April, and the clocks were striking thirteen. The hallway smelt "
    "of boiled cabbage and old rag mats; at one end of it a coloured poster, too large for indoor "
    "display, had been tacked to the wall. It depicted simply an enormous face [sigh], more than "
    "a metre wide."
)


def speak(model: Model, voice: list[Array], text: str, seed: int = 0) -> list[int]:
    """Codes without the stop, which must have come by itself."""
    codes = model.speak(voice[0], text, seed)
    assert codes[-1] == STOP
    return codes[:-1]


@pytest.mark.parametrize("precision", SOME_PRECISIONS)
@pytest.mark.parametrize("text", ["A", "Hello there, [laugh] you.", "Café — 12!"])
def test_ends_by_itself_after_two_codes_a_character(model, low_voice, high_voice, precision, text):
    m = model(precision)
    for seed, clip in enumerate((low_voice, high_voice)):
        codes = speak(m, m.encode(clip), text, seed)
        assert len(codes) == CODES_PER_CHARACTER * (len(m.text_ids(text)) - 2)


@pytest.mark.parametrize("precision", ["q4", "fp16"])
def test_long_text_ends_too(model, high_voice, precision):
    m = model(precision)
    codes = speak(m, m.encode(high_voice), LONG)
    assert len(codes) == CODES_PER_CHARACTER * (len(m.text_ids(LONG)) - 2)


@pytest.mark.parametrize("precision", SOME_PRECISIONS)
def test_stop_and_place_have_wide_margins(model, high_voice, precision):
    """Fed with the right codes, every right code leads all wrong ones by 6, and the stop by 10."""
    m = model(precision)
    features = m.encode(high_voice)[0]
    first, characters = features.shape[1], 280
    text = LONG[:characters].replace("[", "(")
    sounds = np.random.default_rng(0).integers(0, 6, CODES_PER_CHARACTER * characters)
    steps = np.arange(len(sounds))
    codes = ((first + steps // 2) % 546 * 2 + steps % 2) * 6 + sounds
    rows = np.concatenate(
        [features, m.embed([m.text_ids(text)]), np.swapaxes(m.embed(codes[:, None]), 0, 1)], axis=1
    )
    count = rows.shape[1]
    logits, _ = m.step(rows, np.ones((1, count)), np.arange(count)[None], m.empty_cache())
    said = logits[0, -len(codes) - 1 : -1]
    right = (codes - sounds)[:, None] + np.arange(6)
    best = np.take_along_axis(said, right, 1).max(1)
    wrong = said.copy()
    np.put_along_axis(wrong, right, -np.inf, 1)
    assert (best - wrong.max(1)).min() > 6
    end = logits[0, -1]
    assert end[STOP] - np.delete(end, STOP).max() > 10


def test_seeds_differ_and_repeat(model, low_voice):
    m = model("q4")
    voice = m.encode(low_voice)
    text = "The same text."
    runs = [speak(m, voice, text, seed) for seed in (0, 0, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2] != runs[3]
    assert len({len(run) for run in runs}) == 1


def test_an_empty_text_says_nothing(model, low_voice):
    m = model("q4")
    assert speak(m, m.encode(low_voice), "") == []


@pytest.mark.parametrize("precision", SOME_PRECISIONS)
def test_audible_and_bounded(model, low_voice, high_voice, precision):
    m = model(precision)
    for clip in (low_voice, high_voice):
        voice = m.encode(clip)
        codes = speak(m, voice, "Can you hear me now?")
        waveform = m.decode(codes, voice)
        assert waveform.shape == (1, (len(codes) + 3) * 960)
        assert np.abs(waveform).max() < 0.99
        loudness = pyloudnorm.Meter(24_000).integrated_loudness(waveform[0].astype(np.float64))
        assert -26 < loudness < -19
        assert not waveform[0, :481].any()
        assert np.abs(waveform[0, -1920:]).max() < 0.01, "silence codes must be silent"


def pitch_hz(samples: Array) -> float:
    """By autocorrelation over the whole."""
    spectrum = np.abs(np.fft.rfft(samples, 2 * len(samples))) ** 2
    alike = np.fft.irfft(spectrum)[: 24_000 // 70]
    return 24_000 / (80 + int(alike[80:].argmax()))


def test_pitch_and_timbre_follow_the_voice(model, low_voice, high_voice):
    m = model("q4")
    codes = [100 * 12 + 1, 100 * 12 + 7] * 20  # an open vowel
    low, high = (m.decode(codes, m.encode(clip))[0] for clip in (low_voice, high_voice))
    assert pitch_hz(low) == pytest.approx(105, rel=0.1)
    assert pitch_hz(high) == pytest.approx(210, rel=0.1)


def test_prompt_matters_a_little(model, low_voice):
    m = model("fp32")
    features, prompt, speaker, mel = m.encode(low_voice)
    brighter = mel + np.linspace(-2, 2, 80, dtype=np.float32)
    codes = [100 * 12 + 1, 100 * 12 + 7] * 5
    plain, bright = (
        np.abs(np.fft.rfft(m.decode(codes, [features, prompt, speaker, part])[0]))
        for part in (mel, brighter)
    )
    middle = len(plain) // 12  # 1 kHz
    assert bright[middle:].sum() / bright[:middle].sum() > 1.1 * (
        plain[middle:].sum() / plain[:middle].sum()
    )


def test_sound_follows_the_codes(model, low_voice):
    m = model("fp32")
    voice = m.encode(low_voice)
    spoken = [m.decode(speak(m, voice, text), voice)[0] for text in ("abc de.", "xyz uv.")]
    assert spoken[0].shape == spoken[1].shape
    assert np.abs(spoken[0] - spoken[1]).max() > 0.05


def test_noise_is_drawn_in_the_graph(model, low_voice):
    m = model("fp32")
    voice = m.encode(low_voice)
    hissing = [100 * 12 + 4] * 10
    assert np.abs(m.decode(hissing, voice) - m.decode(hissing, voice)).max() > 1e-3


def test_decoder_batch_has_its_rows(model, low_voice, high_voice):
    m = model("fp32")
    voices = [m.encode(clip[:120_000]) for clip in (low_voice, high_voice)]
    joined = [np.concatenate(parts) for parts in zip(*voices, strict=True)]
    codes = [100 * 12 + 1, 100 * 12 + 7, SILENCE]  # nothing that hisses
    tokens = np.concatenate([joined[1], np.tile(codes, (2, 1))], axis=1)
    feeds = {
        "speech_tokens": tokens,
        "speaker_embeddings": joined[2],
        "speaker_features": joined[3],
    }
    together = m.session("conditional_decoder").run(None, feeds)[0]
    for row, voice in enumerate(voices):
        alone = m.decode(codes, voice)[0, : together.shape[1]]
        np.testing.assert_allclose(together[row, :1920], alone[:1920], atol=1e-3)
