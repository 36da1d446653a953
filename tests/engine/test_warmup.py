"""Voices are prepared when nobody needs the engine, one at a time; nobody waits for them all."""

import threading
import time

import numpy as np
import pytest
from engine.test_generation_loop import Bench, job, outcome
from fakes import FakeDecoder, FakeLanguageModel, FakePrompts, fake_voice, window_settings
from faults.harness import decode_children, fake_engine
from harness import ended
from voices.clips import babble, encoded

from chatterbox.engine.fairness import FairScheduler
from chatterbox.engine.model_calls import MAX_WAITING_VOICES, VoiceWarmup
from chatterbox.engine.sequence import SegmentEnd
from chatterbox.engine.stats import Counters
from chatterbox.engine.threads import CpuLock
from chatterbox.engine.vocoding_loop import VocodingLoop
from chatterbox.errors import GenerationFailed
from chatterbox.voices.sandbox import AudioDecoder

WARM_S = 0.1
VOICES = 50


def slow(model, events: list[str], seconds: float = WARM_S) -> None:
    """VoiceWarmup takes a while; `events` says when each voice was warmed, and each row begun."""
    prepare = "cache_prefix" if hasattr(model, "cache_prefix") else "warm"
    warm, prefill = getattr(model, prepare), getattr(model, "prefill", None)

    def warming(voice):
        events.append(getattr(voice, "prefix_key", None) or voice.key)
        time.sleep(seconds)
        warm(voice)

    def beginning(slot, prompt):
        events.append("begun")
        return prefill(slot, prompt)

    setattr(model, prepare, warming)
    model.prefill = beginning


@pytest.mark.parametrize("shared", [True, False])
def test_f86_a_segment_is_begun_within_one_warming_and_the_pulse_beats_between_them(shared):
    bench, events, beats = Bench(shared=shared), [], []
    slow(bench.model, events)
    warm = bench.model.cache_prefix
    bench.model.cache_prefix = lambda one: (beats.append(bench.loop.heartbeat.state), warm(one))
    for number in range(VOICES):
        bench.loop.warm(FakePrompts().prefix(fake_voice(f"voice {number}")))
    runs = threading.Thread(target=bench.loop.run, args=[pytest.fail])
    runs.start()
    try:
        while len(events) < 3:
            time.sleep(0.005)
        one = job()
        bench.loop.submit(one)
        while (end := outcome(one.outbox)) is None:
            time.sleep(0.005)
        done = events.index("begun")
    finally:
        bench.loop.close()
        runs.join()
    assert isinstance(end, SegmentEnd)
    assert done <= 4  # the third was being warmed, or the fourth
    assert len(set(beats)) == len(beats)  # each in a turn of its own


def test_f86_nothing_is_warmed_while_a_row_runs_or_waits():
    bench = Bench(slots=1)
    for number in range(3):
        bench.loop.warm(FakePrompts().prefix(fake_voice(f"voice {number}")))
    jobs = [job("a text", seed=number) for number in range(4)]
    for one in jobs:
        bench.loop.submit(one)
    while not all(one.outbox.ended for one in jobs):
        assert bench.loop.step()
        if not all(one.outbox.ended for one in jobs):
            assert bench.model.warmed == []
    bench.run()
    assert bench.model.warmed == [f"voice {number}" for number in range(3)]


def test_f86_the_decoder_warms_nothing_while_codes_are_made_for_a_first_sound():
    decoder, fairness = FakeDecoder(), FairScheduler(shared=True)
    cpu = CpuLock(shared=True)
    loop = VocodingLoop(decoder, window_settings(), Counters(), cpu=cpu, fairness=fairness)
    one = job()
    fairness.add(one)
    loop.warm(fake_voice("anna"))
    assert not loop.step()
    assert decoder.warmed == []
    one.outbox.end(GenerationFailed("no"))
    assert loop.step()
    assert decoder.warmed == ["anna"]


def test_f86_a_decoder_that_waits_to_warm_looks_again_by_itself():
    decoder, fairness = FakeDecoder(), FairScheduler(shared=False)
    cpu = CpuLock(shared=False)
    loop = VocodingLoop(decoder, window_settings(), Counters(), cpu=cpu, fairness=fairness)
    one = job()
    fairness.add(one)
    loop.warm(fake_voice("anna"))
    runs = threading.Thread(target=loop.run, args=[pytest.fail])
    runs.start()
    time.sleep(0.05)
    one.outbox.end(GenerationFailed("no"))  # by the engine's thread, which wakes nobody
    until = time.monotonic() + 60
    while not decoder.warmed and time.monotonic() < until:
        time.sleep(0.01)
    loop.close(GenerationFailed("over"))
    runs.join()
    assert decoder.warmed == ["anna"]


def test_f86_those_that_wait_have_a_bound_and_the_newest_stay():
    model = FakeLanguageModel()
    warming = VoiceWarmup(model.cache_prefix, lambda: True)
    for number in range(MAX_WAITING_VOICES + 5):
        warming.add(FakePrompts().prefix(fake_voice(str(number))))
    while warming.run_one():
        pass
    assert model.warmed == [str(number) for number in range(5, MAX_WAITING_VOICES + 5)]


@pytest.fixture
def engine(tmp_path):
    engine = fake_engine(tmp_path, model="mini", voice_cache_size=8)
    yield engine
    engine.close()


def registered(engine, count: int) -> None:
    for seed in range(count):
        engine.voices.register(encoded(babble(1.5, seed=seed)))


def until(condition) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


async def test_f86_preparing_stands_aside_for_requests_and_stops_at_what_memory_holds(
    engine, tmp_path
):
    events: list[str] = []
    registered(engine, 20)
    engine.close()
    engine = fake_engine(tmp_path, model="mini", voice_cache_size=8)
    slow(engine.parts.language_model, events, 0.02)
    async with engine.admission.permit(timeout_s=1):
        engine.prepare_voices()
        time.sleep(0.3)
        assert events == []
    assert ended("preparing voices")
    until(lambda: len(events) == 8)
    time.sleep(0.2)
    assert len(events) == 8  # as many as are held
    assert events[0].startswith("slt.")
    assert engine.voices.cache_usage[0] == 8  # so none was pushed out
    engine.close()


def test_f86_an_engine_that_prepares_voices_ends_at_once(engine):
    encode = engine.parts.cloned.encode
    engine.parts.cloned.encode = lambda audio, _: (time.sleep(0.05), encode(audio))[1]
    engine.prepare_voices()
    engine.close()
    assert not any(thread.name == "preparing voices" for thread in threading.enumerate())


def test_a_voice_whose_encoding_breaks_keeps_no_other_from_being_prepared(engine, caplog):
    encode, calls = engine.parts.cloned.encode, []

    def once_broken(audio, _transcript):
        calls.append(1)
        if len(calls) == 2:  # the first is of the registration that is rehearsed
            raise ValueError("a node of the graph failed")
        return encode(audio)

    engine.parts.cloned.encode = once_broken
    engine.prepare_voices()
    assert ended("preparing voices")
    assert "was not prepared" in caplog.text
    assert len(calls) >= 5  # every built-in voice
    assert engine.state == "ready"
    assert np.isfinite(engine.voices.get("rms").data.speaker).all()


def test_a_registration_is_rehearsed_before_the_first_one(engine):
    known = engine.voices.list()
    others = set(decode_children())  # of engines that other tests keep for their module
    engine.prepare_voices()
    assert ended("preparing voices")
    (child,) = set(decode_children()) - others
    assert engine.voices.list() == known
    engine.voices.register(encoded(babble(1.5)))
    assert set(decode_children()) - others == {child}


def test_a_rehearsal_that_fails_keeps_no_voice_from_being_prepared(monkeypatch, tmp_path):
    class Broken(AudioDecoder):
        def decode(self, data, *, max_seconds):
            raise OSError("no child can be started")

    monkeypatch.setattr("chatterbox.voices.library.guarded_decoder", Broken)
    engine = fake_engine(tmp_path, model="mini", voice_cache_size=8)
    engine.prepare_voices()
    assert ended("preparing voices")
    assert engine.voices.cache_usage[0] == 4
    engine.close()
