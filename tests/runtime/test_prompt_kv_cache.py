"""A decoder in 8 bits and with a remembered prompt, as a CPU runs it, says the same.

Knows small decoders with random weights; runs them.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import FakePrompts, turbo_sampling, window_settings
from tiny_decoder import open_decoder, saved, some_codes, voice

from chatterbox.arrays import I64
from chatterbox.compile.decoder import variants as forms
from chatterbox.compile.decoder.equivalence import mel_distance_db
from chatterbox.engine.sequence import Outbox, PlaybackClock, SegmentEnd, Sequence
from chatterbox.engine.stats import Counters
from chatterbox.engine.vocoding_loop import VocodingLoop
from chatterbox.families.base import DecodeJob, Voice, Window
from chatterbox.runtime.decoder.compiled import Opened
from chatterbox.runtime.decoder.flow import CachedPromptFlow, PlainFlow, flow_feeds
from chatterbox.runtime.decoder.graph_io import ProbeLength
from chatterbox.runtime.decoder.s3gen import CODEC
from chatterbox.runtime.decoder.s3gen_decoder import SplitDecoder, StreamSettings
from chatterbox.runtime.decoder.stream_inputs import Place
from tools.decoder.model import decoder_model
from tools.decoder.weights import TINY, random_weights

WIDE = replace(TINY, channels=64, vocoder=64)
"""Wide enough for products and convolutions to be worth 8 bits."""


def small_and_quick(folder: Path, memory_bytes: int = 1 << 28, *, afresh: bool = False) -> Opened:
    path = saved(decoder_model(random_weights(WIDE), ragged=False), folder)
    return open_decoder(path, StreamSettings(int8=True, memory_bytes=memory_bytes), afresh=afresh)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """As on a CPU."""
    return small_and_quick(tmp_path_factory.mktemp("quick"))


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory):
    """The same without memory."""
    return small_and_quick(tmp_path_factory.mktemp("forgetful"), memory_bytes=0)


def mels_of(made: Opened, who: Voice, codes: I64, begins: list[int]) -> list[np.ndarray]:
    """The frames of windows of 20 codes."""
    assert isinstance(made.decoder, SplitDecoder)
    opened_stream = made.decoder.open(who, seed=1)
    asked = [
        Window(begin, begin, begin + 15, begin + 20, last=False, codec=CODEC) for begin in begins
    ]
    jobs = [DecodeJob(opened_stream, w, codes[w.begin : w.stop], 0, 0) for w in asked]
    return [made.decoder.flow.mels([one], one.window.fed_frames, 1)[0] for one in jobs]


def test_windows_behind_a_remembered_prompt_are_near_those_behind_a_decoded_one(quick, forgetful):
    assert "its prompt cached" in quick.note
    assert "vocoder in 8 bits" in quick.note
    assert "cached_prompt_flow" not in forgetful.note
    codes, who = some_codes(60), voice(40)
    remembered = mels_of(quick, who, codes, [0, 30])
    decoded = mels_of(forgetful, who, codes, [0, 30])
    for one, other in zip(decoded, remembered, strict=True):
        assert one.shape == other.shape == (80, 40)
        assert 0 < mel_distance_db(one[:, 20:], other[:, 20:]) < 1.0


def test_with_the_whole_prompt_two_halves_are_the_flow(quick, forgetful):
    halved = quick.decoder.flow
    assert isinstance(halved, CachedPromptFlow)
    feeds = flow_feeds(voice(20), 20, some_codes(15), 15)
    place = Place(ProbeLength(20, 15), 0)
    plain = forgetful.decoder.flow
    mel = plain.session.get_outputs()[0].name
    made = halved.run(feeds, place, 1, halved.no_memory(), [mel])[0]
    drawn = plain.noise.feeds([1], [place])
    exact = plain.session.run([mel], {**feeds, **drawn})[0]
    np.testing.assert_allclose(made, exact, atol=1e-4)


def test_a_voice_is_remembered_once_and_the_same_for_every_stream(quick, monkeypatch):
    flow = quick.decoder.flow
    remembered = []
    remember = flow.remember
    monkeypatch.setattr(flow, "remember", lambda v, n: remembered.append(v.key) or remember(v, n))
    who, codes = voice(30, seed=5), some_codes(40)
    quick.decoder.warm(who)
    first = mels_of(quick, who, codes, [0, 20])
    again = mels_of(quick, who, codes, [0, 20])
    assert remembered == [who.key]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_f86_warming_remembers_as_many_voices_as_there_is_room_for_and_forgets_none(
    quick, tmp_path, monkeypatch
):
    size = quick.decoder.flow.remember(voice(30), 30).nbytes
    made = small_and_quick(tmp_path, memory_bytes=2 * size)
    voices, remembered = [voice(30, seed=seed) for seed in range(4)], []
    for one in voices:
        made.decoder.warm(one)
    flow = made.decoder.flow
    remember = flow.remember
    monkeypatch.setattr(flow, "remember", lambda v, n: remembered.append(v.key) or remember(v, n))
    for one in voices:
        mels_of(made, one, some_codes(30), [0])
    assert remembered == [one.key for one in voices[2:]]


def test_where_no_memory_is_to_spare_a_stream_keeps_its_own(tmp_path, monkeypatch):
    made = small_and_quick(tmp_path, memory_bytes=1)
    flow = made.decoder.flow
    remembered = []
    remember = flow.remember
    monkeypatch.setattr(flow, "remember", lambda v, n: remembered.append(v.key) or remember(v, n))
    mels_of(made, voice(30), some_codes(60), [0, 15, 30])
    assert len(remembered) == 1
    mels_of(made, voice(30), some_codes(60), [0])
    assert len(remembered) == 2


def test_a_prompt_shorter_than_what_is_joined_on_to(quick):
    (mel,) = mels_of(quick, voice(5, seed=2), some_codes(20), [0])
    assert mel.shape == (80, 40)
    assert np.isfinite(mel).all()


def test_memory_that_loses_too_much_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(forms, "prompt_cache_error_db", lambda *_: 3.0)
    made = small_and_quick(tmp_path, afresh=True)
    assert "its prompt not cached since that is 3.00 dB off" in made.note
    assert isinstance(made.decoder.flow, PlainFlow)


def test_a_vocoder_that_8_bits_hurt_is_exact(tmp_path, monkeypatch):
    monkeypatch.setattr(forms, "WAVE_LIMIT_DB", 1000.0)
    made = small_and_quick(tmp_path, afresh=True)
    assert "vocoder exact, since in 8 bits it is" in made.note


@pytest.mark.parametrize("come", [1, 7, 60])
def test_a_repeatable_segment_has_the_same_samples_however_its_codes_come(quick, come):
    """Flow, vocoder, windows by table and seams together."""
    codes = some_codes(60).tolist()

    def spoken(step: int) -> np.ndarray:
        loop = VocodingLoop(quick.decoder, window_settings(), Counters())
        asked = Sequence(
            voice=voice(30, seed=3),
            prompt=FakePrompts().prefix(voice(30, seed=3)),
            text_chars=40,
            sampling=turbo_sampling(),
            max_tokens=1000,
            seed=0,
            index=0,
            outbox=Outbox(),
            playback=PlaybackClock(live=True),
            deterministic=True,
        )
        track = loop.open(asked)
        for start in range(0, len(codes), step):
            track.tokens.extend(codes[start : start + step])
            loop.step()
        track.finish(len(codes), "stop")
        while loop.step():
            pass
        pieces = []
        while isinstance(item := asked.outbox.take(), np.ndarray):
            pieces.append(item)
        assert isinstance(item, SegmentEnd)
        return np.concatenate(pieces)

    np.testing.assert_array_equal(spoken(come), spoken(13))
