"""A family of seven tokens a frame, whose sound is late by part of one, through both loops."""

import hashlib

import numpy as np
import pytest
from fakes import CODES_PER_ID, FakeDecoder, FakeLanguageModel, FakePrompts, fake_voice

from chatterbox.engine.generation_loop import GenerationLoop
from chatterbox.engine.runaway import RETRIES, TAIL_S, RunawayDetector, frames
from chatterbox.engine.sampler import Sampling
from chatterbox.engine.sequence import Outbox, PlaybackClock, SegmentEnd, Sequence
from chatterbox.engine.stats import Counters
from chatterbox.engine.vocoding_loop import VocodingLoop
from chatterbox.engine.windows import WindowSettings
from chatterbox.families.base import CodecSpec, Family, Rendered, TokenSpec
from chatterbox.families.sampling import repetition_penalty, temperature, top_k_top_p

PLACES, WIDTH, SAMPLES = 7, 50, 2048
STOP = PLACES * WIDTH
CODEC = CodecSpec(24_000, PLACES, SAMPLES, 2, 3, delay_samples=661, cross_fade_ms=0)
TOKENS = TokenSpec(
    vocabulary=STOP + 1,
    stop=frozenset({STOP}),
    starts=tuple(range(0, STOP, WIDTH)),
    width=WIDTH,
    processors=(repetition_penalty, temperature, top_k_top_p),
)
FAMILY = Family("frames", CODEC, TOKENS, frozenset(), ("en",))
SAMPLING = Sampling(temperature=0.6, top_p=0.9, repetition_penalty=1.1)
QUIET = 40
"""A frame whose first code is this or more sounds silent."""


class FrameModel(FakeLanguageModel):
    """Two frames for each text id, then the stop token wherever it may come."""

    vocab = STOP + 1

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self.loop_frames = 0  # every row repeats so many for ever
        self.silent_from: int | None = None  # as are the frames from this one on, for ever

    def logits(self, slot):
        stop_at, history = self.held[slot]
        ids = (stop_at - 1) // (1 + CODES_PER_ID)
        said = len(history) - 1 - ids
        frame = said // PLACES
        seen = said % (PLACES * self.loop_frames) if self.loop_frames else history
        digest = hashlib.sha256(repr(seen).encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        logits = ((20 if self.loop_frames else 2) * rng.standard_normal(self.vocab)).astype("f4")
        silent = self.silent_from is not None and frame >= self.silent_from
        logits[slice(0, QUIET) if silent else slice(QUIET, WIDTH)] = -100
        endless = self.loop_frames or self.silent_from is not None
        logits[STOP] = 100.0 if frame >= CODES_PER_ID * ids and not endless else -100.0
        return logits


class FrameDecoder(FakeDecoder):
    """A frame becomes 2048 samples, each of which depends on the frames that it lies between."""

    codec = CODEC

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self.windows: list[tuple[str, int, int]] = []  # voice, first frame, frames

    def _run(self, job):
        stream, window = job.stream, job.window
        assert window.fresh == stream.decoded, "windows come in order, each once"
        assert len(job.tokens) == PLACES * (window.stop - window.begin)
        self.windows.append((stream.voice.key, window.fresh, window.end - window.fresh))
        stream.decoded = window.end
        at = window.begin * SAMPLES
        return Rendered(sound(job.tokens, window.begin)[: window.end_sample - at], at)


def sound(tokens, begin: int = 0):
    """Of whole frames, the first of which is the stream's frame number `begin`."""
    rows = np.asarray(tokens).reshape(-1, PLACES)
    level = np.where(rows[:, 0] < QUIET, 0.1 + rows @ np.arange(1.0, 8.0) / 1e4, 0.0)
    steps = np.arange(len(rows) * SAMPLES) + begin * SAMPLES
    return (np.repeat(level, SAMPLES) * np.cos(steps)).astype(np.float32)


class Bench:
    def __init__(self, slots: int = 3, rows: int = 4) -> None:
        self.model, self.decoder, self.counters = FrameModel(slots), FrameDecoder(rows), Counters()
        self.vocoder = VocodingLoop(self.decoder, WindowSettings.of(CODEC), self.counters)
        self.loop = GenerationLoop(self.model, self.vocoder, self.counters, FAMILY)

    def run(self) -> None:
        while self.loop.step() or self.vocoder.step():
            self.vocoder.step()


def request(text: str = "hello", *, key: str = "v", seed: int = 0, **more) -> Sequence:
    more = {"text_chars": len(text), "max_tokens": 4000, "index": 0, **more}
    return Sequence(
        voice=fake_voice(key),
        prompt=FakePrompts().prompt(text, fake_voice(key)),
        sampling=SAMPLING,
        seed=seed,
        outbox=Outbox(),
        playback=PlaybackClock(),
        **more,
    )


def said(one: Sequence):
    """All its samples, and its end."""
    pieces = [np.zeros(0, np.float32)]
    while isinstance(item := one.outbox.take(), np.ndarray):
        pieces.append(item)
    return np.concatenate(pieces), item


def alone(**kwargs):
    bench, one = Bench(slots=1, rows=1), request(**kwargs)
    bench.loop.submit(one)
    bench.run()
    return said(one)


@pytest.mark.parametrize("deterministic", [False, True])
def test_rows_at_different_places_have_the_sound_that_they_have_alone(deterministic):
    texts = ["a", "some words", "hello", "x y", "another text", "b"]
    calls = [
        {"text": text, "key": text, "seed": i, "deterministic": deterministic}
        for i, text in enumerate(texts)
    ]
    bench, jobs = Bench(), [request(**call) for call in calls]
    for one in jobs:
        bench.loop.submit(one)
    bench.run()
    for one, call in zip(jobs, calls, strict=True):
        found, end = said(one)
        assert isinstance(end, SegmentEnd)
        assert len(end.codes) == PLACES * CODES_PER_ID * len(one.prompt.ids)
        np.testing.assert_array_equal(found, sound(end.codes))
        assert end.codes == alone(**call)[1].codes
        places = np.array(end.codes).reshape(-1, PLACES) // WIDTH
        assert (places == np.arange(PLACES)).all()


@pytest.mark.parametrize("steps", [1, 4])
def test_first_windows_go_first_in_few_frames_or_many_together(steps):
    """`steps` of the model for each look of the decoder. One request is prefilled a step, so that
    after four of them all four are due."""
    bench, jobs = Bench(slots=4), [request("x" * 30, key=key, seed=1) for key in "abcd"]
    for one in jobs:
        bench.loop.submit(one)
    while not all(one.outbox.ended for one in jobs):
        for _ in range(steps):
            bench.loop.step()
        bench.vocoder.step()
    first = [begin == 0 for _, begin, _ in bench.decoder.windows]
    assert sorted(first, reverse=True) == first
    most = WindowSettings.of(CODEC).first_most_frames
    assert all(count <= most for _, begin, count in bench.decoder.windows if begin == 0)
    if steps > 1:
        assert max(bench.decoder.calls) > 1, "several requests share a call"
    for one in jobs:
        found, end = said(one)
        np.testing.assert_array_equal(found, sound(end.codes))


def test_a_take_that_loops_is_thrown_away_in_whole_frames():
    bench = Bench()
    bench.model.loop_frames = 5
    one = request("a text that is long enough to loop in", deterministic=True)
    one.playback.live = False
    bench.loop.submit(one)
    bench.run()
    found, end = said(one)
    assert (end.finish_reason, end.retries) == ("guard", RETRIES)
    assert len(end.codes) % PLACES == 0
    np.testing.assert_array_equal(found, sound(end.codes))


def test_a_loop_that_was_heard_ends_after_a_whole_frame():
    bench = Bench()
    bench.model.loop_frames = 3
    one = request("a text that is long enough to loop in")
    bench.loop.submit(one)
    bench.run()
    found, end = said(one)
    assert (end.finish_reason, end.retries) == ("guard", 0)
    assert found.size % SAMPLES == len(end.codes) % PLACES == 0


def test_silence_after_the_text_is_heard_though_no_frame_comes_twice():
    bench = Bench()
    bench.model.silent_from = 20
    one = request("a short text", text_chars=12)
    bench.loop.submit(one)
    bench.run()
    found, end = said(one)
    assert end.finish_reason == "guard"
    cut = len(end.codes) // PLACES - 20 - frames(TAIL_S, CODEC)
    assert cut in (0, 1), "a frame late, since its sound is"
    assert not found[20 * SAMPLES :].any()


@pytest.mark.parametrize("period", range(1, 17))
def test_repeated_frames_are_found_whatever_their_period(period):
    rng = np.random.default_rng(period)
    intro, turn = rng.integers(0, 4096, (9, PLACES)), rng.integers(0, 4096, (period, PLACES))
    detector = RunawayDetector(600, CODEC)
    stream = [*intro.reshape(-1).tolist(), *(turn.reshape(-1).tolist() * 40)]
    verdicts = (detector.push(token) for token in stream)
    verdict = next(one for one in verdicts if one is not None)
    assert (verdict.fault, verdict.end) == ("loop", PLACES * (9 + period))


def test_the_budget_is_of_whole_frames_and_grows_with_the_text():
    budgets = [RunawayDetector(chars, CODEC).budget_tokens for chars in (0, 15, 150)]
    assert budgets == sorted(set(budgets))
    assert all(budget % PLACES == 0 for budget in budgets)
