"""The engine thread's work, step by step, on a fake model."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import CODES_PER_ID, FakeLanguageModel, FakePrompts, fake_voice, turbo_sampling
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chatterbox.engine.generation_loop import GenerationLoop
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
from chatterbox.errors import EngineDead, GenerationFailed
from chatterbox.families.turbo.spec import TURBO
from chatterbox.runtime.decoder.s3gen import SAMPLES_PER_CODE

SLOTS = 3
NOW_S = 1000.0
LONG = "a text of some length"


def job(
    text: str = "hi",
    *,
    key: str = "v",
    seed: int = 0,
    index: int = 0,
    cap: int = 200,
    deterministic: bool = False,
    listening: bool = True,
    tenant: str | None = None,
):
    return Sequence(
        voice=fake_voice(key),
        prompt=FakePrompts().prompt(text, fake_voice(key)),
        text_chars=len(text),
        sampling=turbo_sampling(),
        max_tokens=cap,
        seed=seed,
        index=index,
        outbox=Outbox(),
        playback=PlaybackClock(live=listening),
        tenant=tenant,
        deterministic=deterministic,
    )


@pytest.fixture
def frozen(monkeypatch):
    """Time stands still at NOW_S: nobody runs out of sound, however busy the machine is."""
    clock = SimpleNamespace(monotonic=lambda: NOW_S)
    monkeypatch.setattr("chatterbox.engine.generation_loop.time", clock)


class Sound:
    """Ended attempts land at once in their outboxes, as samples for their codes."""

    def __init__(self) -> None:
        self.open_tracks: list[tuple[Sequence, Take]] = []
        self.order: list[int] = []

    def open(self, sequence: Sequence) -> Take:
        track = Take(sequence.retries)
        self.open_tracks.append((sequence, track))
        return track

    def wake(self) -> None:
        for sequence, track in [pair for pair in self.open_tracks if pair[1].end is not None]:
            self.open_tracks.remove((sequence, track))
            self.order.append(sequence.index)
            codes = tuple(track.tokens[: track.end])
            sequence.outbox.put(np.zeros(len(codes) * SAMPLES_PER_CODE, np.float32))
            sequence.outbox.end(SegmentEnd(codes, track.finish_reason, track.retries))


class Bench:
    """A loop on a fake model and fake sound."""

    def __init__(self, slots: int = SLOTS, *, shared: bool = False) -> None:
        """`shared`: the cores are, as on a CPU."""
        self.model = FakeLanguageModel(slots)
        self.sound = Sound()
        self.counters = Counters()
        self.cpu = CpuLock(shared=shared)
        self.loop = GenerationLoop(self.model, self.sound, self.counters, TURBO, cpu=self.cpu)

    def run(self) -> None:
        for _ in range(10_000):
            if not self.loop.step():
                return
        raise AssertionError("the loop does not come to rest")


def outcome(outbox: Outbox):
    item = outbox.take()
    while isinstance(item, np.ndarray):
        item = outbox.take()
    return item


def solo(text: str, **kwargs) -> tuple[int, ...]:
    bench = Bench()
    one = job(text, **kwargs)
    bench.loop.submit(one)
    bench.run()
    end = outcome(one.outbox)
    assert isinstance(end, SegmentEnd)
    return end.codes


def test_a_segment_stops_by_itself():
    codes = solo("hello")
    assert len(codes) == CODES_PER_ID * (len("hello") + 2)


def test_twenty_rows_in_three_slots_have_the_codes_of_their_solo_runs():
    jobs = [job("text " * (i % 5 + 1), key=f"voice {i % 3}", seed=i) for i in range(20)]
    bench = Bench()
    for one in jobs:
        bench.loop.submit(one)
    bench.run()
    for i, one in enumerate(jobs):
        end = outcome(one.outbox)
        assert end.codes == solo("text " * (i % 5 + 1), key=f"voice {i % 3}", seed=i)
    assert not bench.model.held


def test_the_cap_ends_a_row_that_never_stops_and_loses_no_code():
    bench = Bench()
    bench.model.endless.add("v")
    one = job(cap=25)
    bench.loop.submit(one)
    bench.run()
    end = outcome(one.outbox)
    assert (len(end.codes), end.finish_reason) == (25, "length")
    assert bench.counters.snapshot().capped_segments == 1


def test_who_comes_while_a_window_is_decoded_is_seen_to_before_the_others_next_step():
    bench = Bench(shared=True)
    cpu = bench.cpu
    bench.loop.submit(job("one"))
    bench.loop.step()
    decoding = threading.Event()

    def decode() -> None:
        with cpu.for_decoder:
            decoding.set()
            while "model" not in cpu.waiting:
                time.sleep(0.001)
            bench.loop.submit(job("another"))

    decoder = threading.Thread(target=decode)
    decoder.start()
    assert decoding.wait(60)
    bench.loop.step()
    decoder.join(60)
    assert bench.model.begun == 2


def test_slots_are_kept_for_first_segments():
    """Whoever has heard nothing yet does not wait for what others say ahead."""
    bench = Bench(slots=16)
    for index in range(20):
        bench.loop.submit(job("a long text", index=index))
    for _ in range(20):
        bench.loop.step()
    assert len(bench.loop.used_slots) == 14
    newcomers = [job("hello", key="other") for _ in range(2)]
    for newcomer in newcomers:
        bench.loop.submit(newcomer)
        bench.loop.step()
    assert len(bench.loop.used_slots) == 16
    bench.run()
    assert outcome(newcomers[0].outbox).codes == solo("hello", key="other")


def test_first_segments_go_before_later_ones():
    bench = Bench(slots=1)
    for index in (2, 1, 0, 0):
        bench.loop.submit(job(index=index))
    bench.run()
    assert bench.sound.order == [0, 0, 2, 1]


def codes_of(bench: Bench, one: Sequence) -> int:
    (track,) = [take for sequence, take in bench.sound.open_tracks if sequence is one]
    return len(track.tokens)


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("shared", [True, False])
def test_on_shared_cores_a_first_sound_is_not_kept_by_who_has_time(shared):
    bench = Bench(slots=16, shared=shared)
    silent, late, ahead, whole = job(LONG), job(LONG), job(LONG), job(LONG, listening=False)
    next_of_silent = job(LONG, index=1)
    ahead.playback.add(0, 100.0, NOW_S)
    late.playback.add(0, 1.0, NOW_S)
    has_buffer = [whole, ahead]
    for one in (*has_buffer, late):
        bench.loop.submit(one)
        bench.loop.step()
    before = [codes_of(bench, one) for one in (*has_buffer, late)]
    bench.loop.submit(silent)
    bench.loop.submit(next_of_silent)
    for _ in range(6):
        bench.loop.step()
    gained = [
        codes_of(bench, one) - had for one, had in zip((*has_buffer, late), before, strict=True)
    ]
    assert gained == ([0, 0, 6] if shared else [6, 6, 6])
    assert codes_of(bench, silent) == 7
    begun = [one for one, _ in bench.sound.open_tracks if one is next_of_silent]
    assert len(begun) == (0 if shared else 1), "what comes after it is not begun before it"
    silent.playback.add(0, 0.04, NOW_S)
    bench.loop.step()
    assert codes_of(bench, whole) == before[0] + gained[0] + 1
    bench.run()
    for one in (silent, whole, late, ahead):
        assert outcome(one.outbox).codes == solo(LONG)


@pytest.mark.usefixtures("frozen")
def test_a_flood_waits_for_what_others_need():
    bench = Bench(slots=16, shared=True)
    flood = [job(LONG, tenant="flood") for _ in range(4)]
    flood[0].playback.add(0, 1.0, NOW_S)
    for one in flood[:3]:
        bench.loop.submit(one)
        bench.loop.step()
    before = [codes_of(bench, one) for one in flood[:3]]
    modest = job(LONG, tenant="modest", listening=False)
    bench.loop.submit(flood[3])
    bench.loop.submit(modest)
    for _ in range(6):
        bench.loop.step()
    assert codes_of(bench, modest) == 7
    assert [codes_of(bench, one) for one in flood[:3]] == before
    assert flood[3] not in [one for one, _ in bench.sound.open_tracks], "it is not begun"
    bench.run()
    for one in (*flood, modest):
        assert outcome(one.outbox).codes == solo(LONG)


def test_slots_go_to_the_party_that_has_the_fewest():
    bench = Bench(slots=2)
    flood = [job(LONG, tenant="flood") for _ in range(4)]
    for one in flood:
        bench.loop.submit(one)
    bench.loop.step()
    bench.loop.submit(modest := job(LONG, tenant="modest"))
    bench.loop.step()
    assert {one for one, _ in bench.sound.open_tracks} == {flood[0], modest}


def test_a_poisoned_row_fails_alone():
    bench = Bench()
    bench.model.poison.add("bad")
    good, bad = job("one two", key="good"), job("one two", key="bad")
    bench.loop.submit(good)
    bench.loop.submit(bad)
    bench.run()
    assert isinstance(outcome(bad.outbox), GenerationFailed)
    assert outcome(good.outbox).codes == solo("one two", key="good")
    assert not bench.model.held


@pytest.mark.parametrize("step", [1, 7])
def test_a_fault_of_the_model_tells_everyone_and_ends_the_loop(step):
    bench = Bench()
    bench.model.fail_at_step = step
    jobs = [job("some words", seed=i) for i in range(SLOTS + 2)]
    for one in jobs:
        bench.loop.submit(one)
    faults = []

    def nobody_knows_yet(fault: BaseException) -> None:
        faults.append(type(fault))
        assert not any(one.outbox.ended for one in jobs)

    bench.loop.run(nobody_knows_yet)
    assert faults == [RuntimeError]
    assert all(isinstance(outcome(one.outbox), EngineDead) for one in jobs)
    with pytest.raises(EngineDead):
        bench.loop.submit(job())


def test_a_closed_outbox_frees_its_slot_within_one_step():
    bench = Bench()
    one = job("a long text " * 9)
    bench.loop.submit(one)
    for _ in range(5):
        bench.loop.step()
    one.outbox.close()
    begun, steps = bench.model.begun, bench.model.steps
    bench.loop.step()
    assert not bench.model.held
    assert (bench.model.begun, bench.model.steps) == (begun, steps)


def test_a_job_left_while_waiting_is_never_begun():
    bench = Bench(slots=1)
    first, second = job("something long " * 5), job("never")
    bench.loop.submit(first)
    bench.loop.submit(second)
    bench.loop.step()
    second.outbox.close()
    bench.run()
    assert bench.model.begun == 1


def test_a_slow_reader_pauses_its_own_row_only():
    bench = Bench()
    slow, quick = job("same text here", key="slow"), job("same text here", key="quick")
    bench.loop.submit(slow)
    bench.loop.submit(quick)
    for _ in range(4):
        bench.loop.step()
    slow.outbox.put(np.zeros(CAPACITY_SAMPLES, np.float32))
    bench.run()
    assert outcome(quick.outbox).codes == solo("same text here", key="quick")
    assert slow.outbox.take() is not None  # the reader comes back
    bench.run()
    assert outcome(slow.outbox).codes == solo("same text here", key="slow")


def test_voices_are_warmed_on_the_engine_thread():
    bench = Bench()
    bench.loop.warm(FakePrompts().prefix(fake_voice("anna")))
    bench.run()
    assert bench.model.warmed == ["anna"]


def test_close_ends_everything():
    bench = Bench()
    one = job()
    bench.loop.submit(one)
    bench.loop.close()
    bench.loop.run(pytest.fail)
    assert isinstance(outcome(one.outbox), EngineDead)


def looping(bench: Bench, period: int, times: int) -> None:
    """From now on the model repeats itself in a row's first `times` attempts."""
    honest, attempts = bench.model.prefill, []

    def prefill(slot, prompt):
        attempts.append(1)
        bench.model.loop_period = period if len(attempts) <= times else None
        return honest(slot, prompt)

    bench.model.prefill = prefill


def test_a_loop_nobody_has_heard_is_tried_again():
    bench = Bench()
    looping(bench, period=5, times=2)
    one = job("a text that is long enough to loop in")
    bench.loop.submit(one)
    bench.run()
    end = outcome(one.outbox)
    assert (end.finish_reason, end.retries) == ("stop", 2)
    assert bench.counters.snapshot().retried_segments == 2


def test_after_three_retries_the_best_attempt_is_kept():
    bench = Bench()
    looping(bench, period=5, times=99)
    one = job("a text that is long enough to loop in")
    bench.loop.submit(one)
    bench.run()
    end = outcome(one.outbox)
    assert (end.finish_reason, end.retries) == ("guard", 3)
    assert bench.model.begun == 4
    assert bench.counters.snapshot().guarded_segments == 1
    assert not bench.model.held


def test_a_loop_that_was_heard_ends_at_the_last_good_code():
    bench = Bench()
    looping(bench, period=5, times=99)
    one = job("a text that is long enough to loop in")
    bench.loop.submit(one)
    for _ in range(20):
        bench.loop.step()
    assert bench.sound.open_tracks[0][1].commit()
    bench.run()
    end = outcome(one.outbox)
    assert (end.finish_reason, end.retries) == ("guard", 0)
    assert len(end.codes) < 32
    assert bench.model.begun == 1


def test_a_repeatable_stream_is_not_tried_again_whether_or_not_it_was_heard():
    bench = Bench()
    looping(bench, period=5, times=1)
    one = job("a text that is long enough to loop in", deterministic=True)
    bench.loop.submit(one)
    bench.run()
    assert (outcome(one.outbox).finish_reason, bench.model.begun) == ("guard", 1)


def test_a_repeatable_answer_is_tried_again_where_nobody_listens():
    bench = Bench()
    looping(bench, period=5, times=1)
    one = job("a text that is long enough to loop in", deterministic=True, listening=False)
    bench.loop.submit(one)
    bench.run()
    end = outcome(one.outbox)
    assert (end.finish_reason, end.retries) == ("stop", 1)


def test_the_guard_can_be_switched_off():
    bench = Bench()
    bench.loop = GenerationLoop(bench.model, bench.sound, bench.counters, TURBO, guarded=False)
    bench.model.endless.add("v")
    looping(bench, period=5, times=99)
    one = job("short", cap=300)
    bench.loop.submit(one)
    bench.run()
    assert outcome(one.outbox).finish_reason == "length"


def test_without_a_guard_the_sound_of_an_attempt_is_not_kept_for_it():
    bench = Bench()
    bench.loop = GenerationLoop(bench.model, bench.sound, bench.counters, TURBO, guarded=False)
    bench.model.endless.add("v")
    bench.loop.submit(job("short", cap=300))
    kept = []
    for _ in range(200):
        bench.loop.step()
        heard = bench.sound.open_tracks[0][1].decoded
        heard.append((np.zeros(1, np.int64), np.zeros(960, np.float32)))
        kept.append(len(heard))
    assert max(kept) <= 2


LOOPED = "a text that is long enough to loop in"


def loops_at_once(bench: Bench, keys: set[str], takes: int = 2) -> list[str]:
    """Rows of voices `keys` repeat themselves in their first so many takes, to be noticed in the
    same step. Returns what the model is called for from now on, as it comes."""
    prefill, decode, logits = bench.model.prefill, bench.model.decode, bench.model.logits
    calls: list[str] = []
    begun: dict[str, int] = {}

    def prefilling(slot, prompt):
        calls.append("prefill")
        begun[prompt.prefix_key] = begun.get(prompt.prefix_key, 0) + 1
        return prefill(slot, prompt)

    def decoding(slots, codes):
        calls.append("decode")
        return decode(slots, codes)

    def looping_logits(slot):
        _, history = bench.model.held[slot]
        key = str(history[0])
        bench.model.loop_period = 5 if key in keys and begun.get(key, 1) <= takes else None
        return logits(slot)

    bench.model.prefill, bench.model.decode = prefilling, decoding
    bench.model.logits = looping_logits
    return calls


def test_a_retry_keeps_no_other_sequences_token_waiting_and_comes_one_at_a_step():
    bench = Bench(slots=4)
    calls = loops_at_once(bench, {"a", "b"})
    jobs = [job(LOOPED, key=key, seed=i) for i, key in enumerate(("a", "b", "good"))]
    for one in jobs:
        bench.loop.submit(one)
    for _ in jobs:
        bench.loop.step()
    calls.clear()
    good, prefill = jobs[2], bench.model.prefill

    def prefilling(slot, prompt):
        (history,) = (h for _, h in bench.model.held.values() if h[0] == "good")
        tokens_in_model = len(history) - 1 - len(good.prompt.ids)
        assert codes_of(bench, good) == tokens_in_model + 1, "its token waits for this prefill"
        return prefill(slot, prompt)

    bench.model.prefill = prefilling
    while not good.outbox.ended:
        bench.loop.step()
    assert calls.count("prefill") == 4, "two retries of each"
    assert "prefill,prefill" not in ",".join(calls)
    bench.run()
    ends = [outcome(one.outbox) for one in jobs]
    assert [end.retries for end in ends] == [2, 2, 0]
    assert ends[2].codes == solo(LOOPED, key="good", seed=2)


def test_who_leaves_while_waiting_for_another_prefill_is_forgotten_once():
    bench = Bench(slots=2)
    loops_at_once(bench, {"v"}, takes=9)
    one = job(LOOPED)
    bench.loop.submit(one)
    while not bench.counters.snapshot().retried_segments:
        bench.loop.step()
    assert bench.loop.used_slots == set(bench.model.held) == set(), "it holds no slot meanwhile"
    assert bench.counters.snapshot().waiting_rows == 1
    one.outbox.close()
    bench.run()
    assert (bench.model.begun, bench.model.held) == (1, {})
    stats = bench.counters.snapshot()
    assert (stats.cancelled_segments, stats.failed_segments, stats.waiting_rows) == (1, 0, 0)
    bench.loop.submit(later := job("hello", key="later"))
    bench.run()
    assert outcome(later.outbox).codes == solo("hello", key="later")


def test_a_retry_goes_before_who_waits_for_a_slot():
    bench = Bench(slots=1)
    loops_at_once(bench, {"v"}, takes=1)
    first, second = job(LOOPED), job("hello", key="second")
    for one in (first, second):
        bench.loop.submit(one)
    bench.run()
    assert outcome(first.outbox).at_s < outcome(second.outbox).at_s
    assert bench.model.begun == 3


@pytest.mark.parametrize("outcome_of", ["stop", "left", "poison", "guard"])
def test_a_slot_that_cannot_be_released_does_not_end_the_engine(outcome_of):
    bench = Bench()
    free = bench.model.free

    def failing(slot):
        free(slot)
        raise KeyError(slot)

    bench.model.free = failing
    bench.model.poison.add("bad")
    one = job(LONG, key="bad" if outcome_of == "poison" else "v")
    if outcome_of == "guard":
        looping(bench, period=5, times=99)
    bench.loop.submit(one)
    bench.loop.step()
    if outcome_of == "left":
        one.outbox.close()
    bench.run()
    bench.model.free = free
    later = job("hello", key="later")
    bench.loop.submit(later)
    if outcome_of == "guard":
        bench.model.loop_period, bench.model.prefill = (
            None,
            type(bench.model).prefill.__get__(bench.model),
        )
    bench.run()
    assert outcome(later.outbox).codes == solo("hello", key="later")


class EngineMachine(RuleBasedStateMachine):
    """Submit, step, cancel, stall, resume, fail a row, drain, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(shared=True)
        self.bench.model.poison.add("bad")
        self.open: list[tuple[str, str, int, Sequence]] = []
        self.stalled: list[Sequence] = []
        self.submitted = 0

    @rule(
        words=st.integers(1, 6),
        key=st.sampled_from(["a", "b", "bad"]),
        later=st.booleans(),
        heard_s=st.sampled_from([None, 0.0, 1.0, 100.0]),
    )
    def submit(self, words: int, key: str, later: bool, heard_s: float | None) -> None:
        """`heard_s`: how much sound their listener has; none: nobody listens."""
        text = "w" * words
        listening = heard_s is not None
        one = job(text, key=key, seed=self.submitted, index=int(later), listening=listening)
        one.playback.add(0, heard_s or 0.0, time.monotonic())
        self.bench.loop.submit(one)
        self.open.append((text, key, int(later), one))
        self.submitted += 1

    @rule(count=st.integers(1, 8))
    def step(self, count: int) -> None:
        for _ in range(count):
            self.bench.loop.step()

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def cancel(self, data) -> None:
        entry = data.draw(st.sampled_from(self.open))
        entry[3].outbox.close()
        self.open.remove(entry)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def stall(self, data) -> None:
        one = data.draw(st.sampled_from(self.open))[3]
        if not one.outbox.ended and not one.outbox.full:
            one.outbox.put(np.zeros(CAPACITY_SAMPLES, np.float32))
            self.stalled.append(one)

    @precondition(lambda self: self.stalled)
    @rule()
    def resume(self) -> None:
        self.stalled.pop().outbox.take()

    @rule()
    def drain(self) -> None:
        while self.stalled:
            self.stalled.pop().outbox.take()
        self.bench.run()
        for text, key, index, one in self.open:
            end = outcome(one.outbox)
            if key == "bad":
                assert isinstance(end, GenerationFailed)
            else:
                assert end.codes == solo(text, key=key, seed=one.seed, index=index)
        self.open.clear()
        assert not self.bench.model.held
        stats = self.bench.counters.snapshot()
        assert (stats.running_rows, stats.waiting_rows) == (0, 0)

    @invariant()
    def slots_are_conserved(self) -> None:
        assert self.bench.loop.used_slots == set(self.bench.model.held)
        assert len(self.bench.loop.used_slots) <= SLOTS

    @invariant()
    def only_bad_rows_end_in_errors(self) -> None:
        for _, key, _, one in self.open:
            if one.outbox.ended and key != "bad":
                assert isinstance(outcome(one.outbox), SegmentEnd)

    def teardown(self) -> None:
        self.drain()


TestEngineMachine = EngineMachine.TestCase
TestEngineMachine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


@pytest.mark.parametrize(
    ("shared", "listening", "steps_more"),
    [(False, False, False), (False, True, True), (True, False, True)],
    ids=["nobody listens", "somebody waits", "on a CPU"],
)
def test_several_are_prefilled_at_once_where_nobody_would_notice(shared, listening, steps_more):
    bench, calls = Bench(slots=8, shared=shared), []
    prefill, decode = bench.model.prefill, bench.model.decode
    bench.model.prefill = lambda *given: calls.append("prefill") or prefill(*given)
    bench.model.decode = lambda *given: calls.append("decode") or decode(*given)
    jobs = [job(LONG, seed=i, listening=listening) for i in range(6)]
    for one in jobs:
        bench.loop.submit(one)
    bench.run()
    assert calls.count("prefill") == len(jobs)
    assert ("decode" in calls[: calls.index("prefill", 3)]) is steps_more
    for one in jobs:
        assert outcome(one.outbox).codes == solo(LONG, seed=one.seed)


def test_who_comes_while_others_are_prefilled_waits_for_one_of_them():
    bench, order = Bench(slots=8), []
    prefill, late = bench.model.prefill, job("now", key="late")

    def prefilling(slot, prompt):
        order.append(prompt.prefix_key)
        if len(order) == 2:
            bench.loop.submit(late)
        return prefill(slot, prompt)

    bench.model.prefill = prefilling
    for i in range(5):
        bench.loop.submit(job(LONG, key=str(i), index=1, listening=False))
    bench.run()
    assert order[:3] == ["0", "1", "late"]
