"""Codes of many segments become sound while they come: in order, complete, the urgent first."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import VOCAB, FakeDecoder, FakePrompts, fake_voice, turbo_sampling, window_settings

from chatterbox.engine import vocoding_loop
from chatterbox.engine.fairness import MAX_DEFICIT_S, FairScheduler
from chatterbox.engine.sequence import (
    CAPACITY_SAMPLES,
    Outbox,
    PlaybackClock,
    SegmentEnd,
    Sequence,
    Take,
)
from chatterbox.engine.stats import Counters
from chatterbox.engine.threads import CpuLock
from chatterbox.engine.vocoding_loop import VocodingLoop
from chatterbox.engine.windows import START, LatencyModel
from chatterbox.errors import EngineDead, GenerationFailed
from chatterbox.runtime.decoder.s3gen import SAMPLES_PER_CODE, TAIL_SILENCE_CODES


def job(
    *,
    key: str = "v",
    index: int = 0,
    listening: bool = True,
    deterministic: bool = False,
    tenant: str | None = None,
) -> Sequence:
    return Sequence(
        voice=fake_voice(key),
        prompt=FakePrompts().prompt("w", fake_voice(key)),
        text_chars=40,
        sampling=turbo_sampling(),
        max_tokens=1000,
        seed=0,
        index=index,
        outbox=Outbox(),
        playback=PlaybackClock(live=listening),
        tenant=tenant,
        deterministic=deterministic,
    )


class Bench:
    def __init__(self, rows: int = 1, watermark=None, cpu: CpuLock | None = None) -> None:
        self.decoder = FakeDecoder(rows)
        self.counters = Counters()
        self.cpu = cpu or CpuLock(shared=False)
        self.fairness = FairScheduler(shared=self.cpu.shared)
        self.loop = VocodingLoop(
            self.decoder, window_settings(), self.counters, watermark, cpu, fairness=self.fairness
        )

    def rest(self) -> None:
        while self.loop.step():
            pass


def heard(outbox: Outbox):
    pieces = []
    while isinstance(item := outbox.take(), np.ndarray):
        pieces.append(item)
    return pieces, item


def codes_in(samples) -> list[int]:
    middle = samples.reshape(-1, SAMPLES_PER_CODE)[:, SAMPLES_PER_CODE // 2]
    return np.round(middle * VOCAB).astype(int).tolist()


@pytest.mark.parametrize("listening", [True, False])
@pytest.mark.parametrize("step", [1, 3, 50])
def test_every_code_sounds_once_however_they_come(step, listening):
    bench = Bench()
    one = job(listening=listening)
    track = bench.loop.open(one)
    codes = np.random.default_rng(0).integers(0, 6561, 200).tolist()
    for start in range(0, len(codes), step):
        track.tokens.extend(codes[start : start + step])
        bench.loop.step()
    track.finish(len(track.tokens), "stop")
    bench.rest()
    pieces, end = heard(one.outbox)
    assert codes_in(np.concatenate(pieces)) == [*codes, *[0] * TAIL_SILENCE_CODES]
    assert end == SegmentEnd(tuple(codes), "stop")
    assert bench.loop.open_sequences == []


@pytest.mark.parametrize("listening", [True, False])
@pytest.mark.parametrize("step", [1, 7, 200])
def test_a_repeatable_segment_is_decoded_in_the_same_windows_however_its_codes_come(
    step, listening
):
    bench = Bench()
    one = job(deterministic=True, listening=listening)
    track = bench.loop.open(one)
    for start in range(0, 200, step):
        track.tokens.extend(range(start, min(start + step, 200)))
        bench.rest()
    track.finish(200, "stop")
    bench.rest()
    pieces, _ = heard(one.outbox)
    cross_fade = window_settings().cross_fade_samples
    ends = np.cumsum([len(piece) for piece in pieces])[:-1] + cross_fade
    assert (ends / SAMPLES_PER_CODE).tolist() == ([10, 24, 44, 72, 112, 168] if listening else [])


@pytest.mark.parametrize("good", [5, 60, 71, 72, 99])
@pytest.mark.parametrize("step", [1, 7, 100])
def test_where_a_repeatable_segment_is_cut_does_not_depend_on_how_far_the_decoder_was(good, step):
    """The guard found out at code 100 that only `good` of them are speech."""
    bench = Bench()
    one = job(deterministic=True)
    track = bench.loop.open(one)
    for start in range(0, 100, step):
        track.tokens.extend(range(start, min(start + step, 100)))
        if step < 100:
            bench.rest()
    track.finish(good, "guard")
    bench.rest()
    pieces, end = heard(one.outbox)
    spoken = max(good, 72)  # windows of 10, 14, 20 and 28 were due
    assert codes_in(np.concatenate(pieces)) == [*range(spoken), *[0] * TAIL_SILENCE_CODES]
    assert (len(end.codes), end.finish_reason) == (good, "guard")
    assert not track.decoded


def test_nothing_leaves_before_the_end_where_nobody_listens():
    bench = Bench()
    one = job(listening=False)
    track = bench.loop.open(one)
    track.tokens.extend(range(200))
    bench.rest()
    assert bench.counters.snapshot().decoded_samples == 0
    assert track.decoded
    assert track.discard()
    bench.rest()
    assert heard(one.outbox) == ([], None)


def test_sound_leaves_long_before_the_segment_is_complete():
    bench = Bench()
    one = job()
    track = bench.loop.open(one)
    track.tokens.extend(range(16))
    bench.rest()
    pieces, end = heard(one.outbox)
    assert pieces
    assert end is None


def test_the_codes_that_do_not_count_are_not_heard():
    bench = Bench()
    one = job(listening=False)
    track = bench.loop.open(one)
    track.tokens.extend(range(100))
    track.finish(60, "guard")
    bench.rest()
    pieces, end = heard(one.outbox)
    assert codes_in(np.concatenate(pieces))[:60] == list(range(60))
    assert len(np.concatenate(pieces)) == 63 * SAMPLES_PER_CODE
    assert (len(end.codes), end.finish_reason) == (60, "guard")


def test_an_attempt_taken_back_is_never_heard():
    bench = Bench()
    one = job()
    first = bench.loop.open(one)
    first.tokens.extend([1, 2])
    bench.loop.step()
    assert first.discard()
    first.tokens.extend(range(50))
    one.retries = 1
    second = bench.loop.open(one)
    second.tokens.extend([7] * 20)
    second.finish(20, "stop")
    bench.rest()
    pieces, end = heard(one.outbox)
    assert codes_in(np.concatenate(pieces)) == [*[7] * 20, 0, 0, 0]
    assert end.retries == 1


def test_what_was_heard_cannot_be_taken_back():
    bench = Bench()
    track = bench.loop.open(job())
    track.tokens.extend(range(40))
    bench.rest()
    assert not track.discard()
    assert track.decoded


def test_rows_share_calls_where_the_decoder_gains_by_it():
    bench = Bench(rows=4)
    jobs = [job(key=f"v{i}") for i in range(6)]
    for one in jobs:
        bench.loop.open(one).tokens.extend(range(30))
    bench.rest()
    assert bench.decoder.calls[0] == 4


def test_a_row_that_fails_takes_no_other_with_it():
    bench = Bench(rows=4)
    bench.decoder.fail_for.add("bad")
    jobs = [job(key=key) for key in ("a", "bad", "c")]
    for one in jobs:
        track = bench.loop.open(one)
        track.tokens.extend(range(30))
        track.finish(30, "stop")
    bench.rest()
    ends = [heard(one.outbox)[1] for one in jobs]
    assert isinstance(ends[1], GenerationFailed)
    assert isinstance(ends[0], SegmentEnd)
    assert isinstance(ends[2], SegmentEnd)


def test_a_first_sound_goes_before_a_later_segment():
    bench = Bench()
    later, first = job(key="later", index=1), job(key="first")
    for one in (later, first):
        bench.loop.open(one).tokens.extend(range(20))
    bench.loop.step()
    assert heard(first.outbox)[0]
    assert not heard(later.outbox)[0]


def test_voices_are_warmed_when_there_is_nothing_to_decode():
    bench = Bench()
    track = bench.loop.open(job())
    track.tokens.extend(range(40))
    bench.loop.warm(fake_voice("anna"))
    assert bench.loop.step()
    assert bench.decoder.warmed == []
    bench.rest()
    assert bench.decoder.warmed == ["anna"]


def test_a_voice_that_cannot_be_warmed_harms_nobody(caplog):
    bench = Bench()
    bench.decoder.fail_for = {"anna"}
    bench.loop.warm(fake_voice("anna"))
    bench.rest()
    assert "could not be prepared" in caplog.text
    one = job()
    bench.loop.open(one).tokens.extend(range(40))
    bench.rest()
    assert heard(one.outbox)[0]


def test_a_reader_far_behind_is_not_decoded_for():
    bench = Bench()
    one = job()
    track = bench.loop.open(one)
    one.outbox.put(np.zeros(CAPACITY_SAMPLES, np.float32))
    track.tokens.extend(range(100))
    assert not bench.loop.step()
    one.outbox.take()
    assert bench.loop.step()


def test_a_watermark_is_put_on_the_segment_as_a_whole():
    marked = []

    def mark(samples):
        marked.append(len(samples))
        return samples + 1

    bench = Bench(watermark=mark)
    one = job()
    track = bench.loop.open(one)
    track.tokens.extend(range(100))
    bench.rest()
    assert not heard(one.outbox)[0]
    track.finish(100, "stop")
    bench.rest()
    pieces, _ = heard(one.outbox)
    assert marked == [103 * SAMPLES_PER_CODE]
    assert (np.concatenate(pieces) >= 1).all()


def test_closing_tells_every_listener():
    bench = Bench()
    jobs = [job() for _ in range(3)]
    for one in jobs:
        bench.loop.open(one).tokens.extend(range(5))
    bench.loop.close(EngineDead("over"))
    bench.loop.run(pytest.fail)
    assert all(isinstance(heard(one.outbox)[1], EngineDead) for one in jobs)


def test_the_cost_is_learnt():
    meter = LatencyModel()
    assert meter.estimate() == START
    for fed in (10, 20, 40, 80, 20, 10):
        meter.add(fed, 0.1 + 0.01 * fed)
    learnt = meter.estimate()
    assert learnt.fixed_s == pytest.approx(0.1, abs=0.01)
    assert learnt.per_frame_s == pytest.approx(0.01, abs=0.001)
    flat = LatencyModel()
    for _ in range(5):
        flat.add(30, 0.3)
    assert flat.estimate().seconds(30) == pytest.approx(0.3)


def test_playback_knows_how_long_sound_lasts():
    playback = PlaybackClock()
    assert playback.buffered_s(5.0) == 0.0
    playback.add(0, 1.0, 10.0)
    playback.add(0, 0.5, 10.5)
    assert playback.buffered_s(11.0) == pytest.approx(0.5)
    assert playback.buffered_s(12.0) == pytest.approx(-0.5)
    playback.add(0, 0.2, 13.0)
    assert playback.buffered_s(13.0) == pytest.approx(0.2), "a listener who waited plays on later"
    assert PlaybackClock(live=False).buffered_s(time.monotonic()) == float("inf")


def test_a_later_segment_is_no_sound_in_hand_until_the_ones_before_it_are_whole():
    playback = PlaybackClock(speed=2.0)
    playback.add(0, 2.0, 0.0)
    playback.add(2, 30.0, 0.0)
    playback.add(1, 0.5, 0.0)
    playback.add(1, 10.0, 0.0)
    assert playback.buffered_s(0.0) == pytest.approx(1.0), "at twice the speed"
    playback.complete(1, 0.0)
    assert (playback.segment, playback.buffered_s(0.0)) == (0, pytest.approx(1.0))
    playback.complete(0, 0.5)
    assert (playback.segment, playback.buffered_s(0.5)) == (2, pytest.approx(0.5 + 5.25 + 15.0))


# --- whose turn it is


@pytest.fixture(params=["much sound", "nobody listens"])
def patient(request):
    """Cores are shared with the language model, and a window is due for which nobody waits."""
    bench = Bench(cpu=CpuLock(shared=True))
    listening = request.param == "much sound"
    has_buffer = job(listening=listening)
    bench.loop.open(has_buffer).tokens.extend(range(400))
    bench.loop.step()
    if listening:
        has_buffer.playback.add(0, 4.0, time.monotonic())
    return bench


def test_a_window_nobody_waits_for_lets_first_sounds_be_made(patient):
    calls = len(patient.decoder.calls)
    silent = patient.loop.open(job())
    silent.tokens.extend(range(3))  # too few for a window yet
    assert not patient.loop.step()
    assert len(patient.decoder.calls) == calls
    silent.tokens.extend(range(20))
    assert patient.loop.step(), "the first sound"
    patient.rest()
    assert len(patient.decoder.calls) > calls + 1, "then the others again"


def test_but_not_for_whom_nobody_hopes_nor_for_long(patient, monkeypatch):
    calls = len(patient.decoder.calls)
    patient.loop.open(job(listening=False)).tokens.extend(range(3))
    patient.loop.open(job(index=1)).tokens.extend(range(3))
    assert patient.loop.step(), "these are not waited for"
    patient.loop.open(job()).tokens.extend(range(3))
    assert not patient.loop.step()
    monkeypatch.setattr("chatterbox.engine.fairness.MAX_DEFICIT_S", 0.0)
    assert patient.loop.step()
    assert len(patient.decoder.calls) == calls + 2


def test_a_window_that_is_wanted_no_more_stands_aside_no_more(patient):
    patient.loop.open(job()).tokens.extend(range(3))
    assert not patient.loop.step()
    for sequence in patient.loop.open_sequences:
        sequence.outbox.close()
    assert not patient.loop.step()
    fairness = patient.fairness
    # Lent time is not counted twice while a window stands aside.
    fairness.charge_step(fairness.snapshot([], 0.0), [], MAX_DEFICIT_S, buffered_left_out=True)
    assert not fairness.snapshot([job(), job()], 0.0).awaits_first


def test_the_first_window_of_a_whole_answer_is_nobodys_first_sound():
    bench = Bench()
    heard_at_once = job()
    bench.loop.open(job(listening=False)).tokens.extend(range(200))
    bench.loop.open(heard_at_once).tokens.extend(range(200))
    bench.loop.step()
    assert heard_at_once.outbox.take() is not None


def crowded(*keys: str) -> tuple[Bench, list[Sequence], Sequence]:
    """A bench, a flood's jobs with a window due for each, and a job of another party's."""
    bench = Bench(cpu=CpuLock(shared=True))
    crowd = [job(tenant="flood", key=key) for key in keys]
    modest = job(tenant="modest", key="modest")
    for one in [*crowd, modest]:
        bench.fairness.add(one)
    for one in crowd:
        bench.loop.open(one).tokens.extend(range(20))
    return bench, crowd, modest


def test_a_flood_lets_the_codes_of_others_be_made():
    bench, crowd, modest = crowded("a", "b", "c")
    track = bench.loop.open(modest)
    assert not bench.loop.step()
    track.tokens.extend(range(20))
    assert bench.loop.step()
    assert modest.outbox.take() is not None
    assert all(one.outbox.take() is None for one in crowd)
    modest.outbox.close()
    bench.rest()
    assert all(one.outbox.take() is not None for one in crowd), "then the flood"


def test_but_not_while_these_are_not_read_nor_for_long(monkeypatch):
    bench, _, modest = crowded("a", "b", "c")
    bench.loop.open(modest)
    modest.outbox.put(np.zeros(CAPACITY_SAMPLES, np.float32))
    assert bench.loop.step()
    modest.outbox.take()
    assert not bench.loop.step()
    monkeypatch.setattr("chatterbox.engine.fairness.MAX_DEFICIT_S", 0.0)
    assert bench.loop.step()


def test_on_a_gpu_nobody_lets_anybody_go_first():
    bench = Bench()
    bench.loop.open(job(listening=False)).tokens.extend(range(400))
    bench.loop.open(job()).tokens.extend(range(3))
    assert bench.loop.step()


def test_windows_stand_aside_for_who_is_still_at_the_engines_door(patient):
    door = [job()]
    for one in (patient.loop.open_sequences[0], *door):
        patient.fairness.add(one)
    patient.fairness.newcomers = lambda: door
    assert not patient.loop.step()
    door.clear()
    assert patient.loop.step()


# --- in the middle of a window


def comes_meanwhile(bench: Bench, what: Sequence, codes: int) -> list[Take]:
    """`what` comes once, with so many codes, when the next window is half done."""
    tracks: list[Take] = []

    def comes() -> None:
        if not tracks:
            tracks.append(bench.loop.open(what))
            tracks[0].tokens.extend(range(codes))

    bench.decoder.on_start = comes
    return tracks


def test_a_first_sound_goes_before_the_second_half_of_another_window(patient):
    newcomer, calls = job(key="newcomer"), decoded_in(patient)
    comes_meanwhile(patient, newcomer, 20)
    assert patient.loop.step()
    assert calls == ["newcomer", "v"]
    assert newcomer.outbox.take() is not None


def decoded_in(bench: Bench) -> list[str]:
    """Whose windows are decoded from now on, by their voices."""
    calls, run = [], bench.decoder.run
    bench.decoder.run = lambda jobs: (calls.append(jobs[0].stream.voice.key), run(jobs))[1]
    return calls


@pytest.mark.parametrize("keys", [("a", "b"), ("a", "b", "c")], ids=["two", "a flood"])
def test_the_first_sound_of_who_has_less_in_work_goes_before_a_second_half(keys):
    bench, _, modest = crowded(*keys)
    calls = decoded_in(bench)
    comes_meanwhile(bench, modest, 20)
    assert bench.loop.step()
    assert (calls[0], calls[-1]) == ("modest", "a")


def test_a_floods_window_waits_half_done_for_another_ones_next_window(monkeypatch):
    bench, _, modest = crowded("a", "b", "c")
    track = bench.loop.open(modest)
    track.tokens.extend(range(20))
    bench.loop.step()
    later = SimpleNamespace(monotonic=lambda: time.monotonic() + 9, sleep=time.sleep)
    monkeypatch.setattr(vocoding_loop, "time", later)  # it has run out of sound
    bench.fairness.tenants.charge(10)
    calls = decoded_in(bench)
    bench.decoder.on_start = lambda: (
        track.tokens.extend(range(20, 60)),
        bench.fairness.tenants.repay(10),
    )
    assert bench.loop.step()
    assert calls[0] == "modest"


def test_a_window_waits_half_done_while_a_first_sounds_codes_are_made(patient):
    newcomer, calls = job(), len(patient.decoder.calls)
    tracks = comes_meanwhile(patient, newcomer, 3)
    worker = threading.Thread(target=patient.loop.step)
    worker.start()
    until = time.monotonic() + 60
    while not (tracks and patient.loop.heartbeat.state is None):
        assert time.monotonic() < until, "it did not wait"
        time.sleep(0.001)
    with patient.cpu.for_model:
        assert len(patient.decoder.calls) == calls, "the cores are the language model's"
    tracks[0].tokens.extend(range(20))
    patient.loop.wake()
    worker.join(60)
    assert len(patient.decoder.calls) == calls + 2
    assert newcomer.outbox.take() is not None


def test_but_not_for_long(patient, monkeypatch):
    monkeypatch.setattr("chatterbox.engine.fairness.MAX_DEFICIT_S", 0.05)
    calls = len(patient.decoder.calls)
    comes_meanwhile(patient, job(), 3)
    assert patient.loop.step()
    assert len(patient.decoder.calls) == calls + 1


def test_who_leaves_while_a_window_is_half_done_gets_nothing_and_harms_nobody(patient):
    (leaving,) = patient.loop.open_sequences
    newcomer, failed = job(), patient.counters.snapshot().failed_segments
    tracks = comes_meanwhile(patient, newcomer, 20)
    come = patient.decoder.on_start
    patient.decoder.on_start = lambda: (leaving.outbox.close(), come())
    assert patient.loop.step()
    tracks[0].finish(20, "stop")
    patient.rest()
    assert heard(newcomer.outbox)[1] == SegmentEnd(tuple(range(20)), "stop")
    assert patient.loop.open_sequences == []
    assert patient.counters.snapshot().failed_segments == failed


def test_a_window_whose_batch_is_halved_is_not_overtaken_by_the_next_of_its_stream():
    """The halves of a batch, for which memory did not suffice, are handed out together; until then
    the first one's listener has heard nothing, and their next window may be due."""
    bench = Bench(rows=4, cpu=CpuLock(shared=True))
    first, has_buffer = job(key="first", deterministic=True), job(listening=False)
    for what in (first, has_buffer):
        track = bench.loop.open(what)
        track.tokens.extend(range(100))
        track.finish(100, "stop")
    run = bench.decoder.run

    def small(jobs):
        if len(jobs) > 1:
            raise RuntimeError("CUDA out of memory")
        return run(jobs)

    bench.decoder.run = small
    bench.rest()
    for what in (first, has_buffer):
        pieces, end = heard(what.outbox)
        assert end == SegmentEnd(tuple(range(100)), "stop")
        assert codes_in(np.concatenate(pieces))[:100] == list(range(100))


def test_on_a_gpu_a_window_is_decoded_at_one_go():
    bench = Bench()
    bench.loop.open(job(listening=False)).tokens.extend(range(400))
    newcomer = job()
    comes_meanwhile(bench, newcomer, 20)
    assert bench.loop.step()
    assert newcomer.outbox.take() is None


@pytest.mark.parametrize(("streams", "rows", "waits"), [(2, 4, [0.02]), (1, 4, []), (2, 1, [])])
def test_a_window_waits_as_long_as_is_set_for_one_to_share_its_call(
    streams, rows, waits, monkeypatch
):
    loop = VocodingLoop(FakeDecoder(rows), window_settings(), Counters(), gather_s=0.02)
    tracks = [loop.open(job(key=str(i))) for i in range(streams)]
    tracks[0].tokens.extend(range(200))
    waited: list[float] = []
    monkeypatch.setattr("chatterbox.engine.vocoding_loop.time.sleep", waited.append)
    assert loop.step()
    assert waited == waits
