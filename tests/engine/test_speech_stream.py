"""One request's way, on fakes: segments side by side, delivered in order, cancelled at once."""

import asyncio
import gc
import time

import numpy as np
import pytest
from fakes import (
    FakeDecoder,
    FakeEncoder,
    FakeLanguageModel,
    FakePrompts,
    fake_voice,
    turbo_sampling,
)

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.config import TTSConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.engine.generation_loop import GenerationLoop
from chatterbox.engine.sampler import Sampling
from chatterbox.engine.sequence import Outbox
from chatterbox.engine.speech_stream import SpeechRequest, SpeechStream
from chatterbox.errors import EmptyText, EngineDead, GenerationFailed, InvalidValue, NotReady
from chatterbox.families.model import LoadedModel, ModelInfo
from chatterbox.families.turbo.spec import TURBO
from chatterbox.runtime.decoder.s3gen import SAMPLES_PER_CODE, TAIL_SILENCE_CODES

NUMBERS = ("one", "two", "three", "four", "five")
LONG = " ".join(f"This is sentence number {number}." for number in NUMBERS)


def request(text: str = "Hello there.", *, key: str = "v", seed: int = 1, **more) -> SpeechRequest:
    return SpeechRequest(text, fake_voice(key), turbo_sampling(), seed, **more)


class Stage:
    """An engine on fakes."""

    def __init__(self, tmp_path, *, own_sampling=None, **settings) -> None:
        self.model = FakeLanguageModel(slots=4)
        self.decoder = FakeDecoder()
        self.engine = TTSEngine(
            TTSConfig(
                data_dir=tmp_path,
                first_segment_words=6,
                next_segment_words=6,
                tail_segment_words=1,
                **settings,
            )
        )
        info = ModelInfo("fake", {}, "cpu", None, ())
        self.engine.load(
            LoadedModel(
                info,
                TURBO,
                FakePrompts(),
                self.model,
                self.decoder,
                cloned=FakeEncoder(),
                sampling=own_sampling or {},
            )
        )


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path)
    yield stage
    stage.engine.close()


async def hear(engine: TTSEngine, asked: SpeechRequest):
    async with engine.speak(asked) as stream:
        pieces = [piece async for piece in stream]
    return np.concatenate(pieces), stream.report


async def test_every_segment_is_known_to_be_its_askers(stage, monkeypatch):
    jobs, submit = [], GenerationLoop.submit
    noted = lambda loop, job: (jobs.append(job), submit(loop, job))  # noqa: E731
    monkeypatch.setattr(GenerationLoop, "submit", noted)
    await hear(stage.engine, request(LONG, tenant="who asks"))
    assert len(jobs) > 1
    assert {job.tenant for job in jobs} == {"who asks"}


async def test_a_request_becomes_sound_of_its_codes(stage):
    samples, report = await hear(stage.engine, request())
    assert report.segments == 1
    assert report.finish_reason == "stop"
    assert len(samples) == (report.codes + TAIL_SILENCE_CODES) * SAMPLES_PER_CODE
    assert report.audio_s == pytest.approx(len(samples) / SAMPLE_RATE_HZ)
    levels = samples[: report.codes * SAMPLES_PER_CODE].reshape(-1, SAMPLES_PER_CODE)
    middle = levels[:, SAMPLES_PER_CODE // 2]
    assert np.round(middle * 6563).astype(int).tolist() == list(report.segment_codes[0])


async def test_long_text_is_delivered_in_order_with_pauses(stage):
    samples, report = await hear(stage.engine, request(LONG))
    assert report.segments == 5
    spoken = sum(len(codes) + TAIL_SILENCE_CODES for codes in report.segment_codes)
    pauses = 4 * round(0.12 * SAMPLE_RATE_HZ)
    assert len(samples) == spoken * SAMPLES_PER_CODE + pauses
    first = round(float(samples[SAMPLES_PER_CODE // 2]) * 6563)
    assert first == report.segment_codes[0][0]


async def test_the_report_says_where_each_segment_lies(stage):
    heard, ends = 0, []
    async with stage.engine.speak(request(LONG)) as stream:
        report = stream.report
        assert len(report.segment_texts) == 5
        async for piece in stream:
            heard += len(piece)
            if len(report.segment_ends_s) > len(ends):  # its last piece is the one just passed on
                ends.append(heard / SAMPLE_RATE_HZ)
    assert report.segment_ends_s == pytest.approx(ends)
    assert report.segment_starts_s == pytest.approx([0.0, *(end + 0.12 for end in ends[:-1])])
    lengths = [len(codes) + TAIL_SILENCE_CODES for codes in report.segment_codes]
    for start, end, length in zip(report.segment_starts_s, ends, lengths, strict=True):
        assert end - start == pytest.approx(length / 25)
    assert report.text_ids == sum(len(text.encode()) + 2 for text in report.segment_texts)


async def test_the_first_segment_sounds_before_the_second_is_begun(stage):
    async with stage.engine.speak(request(LONG)) as stream:
        pieces = aiter(stream)
        await anext(pieces)
        assert stream.report.segment_codes == []
        at_once = stage.engine.config.max_inflight_segments
        begun = stream.report.segment_texts[:at_once]
        assert stream.report.text_ids == sum(len(text.encode()) + 2 for text in begun)
        assert at_once < stream.report.segments


async def test_requests_in_company_have_the_codes_of_their_solo_runs(stage):
    asked = [request(LONG[: 30 + 10 * i], key=f"voice {i % 3}", seed=i) for i in range(8)]
    together = await asyncio.gather(*(hear(stage.engine, one) for one in asked))
    for one, (samples, report) in zip(asked, together, strict=True):
        alone, solo = await hear(stage.engine, one)
        assert report.segment_codes == solo.segment_codes
        assert np.array_equal(samples, alone)


async def test_leaving_frees_every_slot(stage):
    stage.model.endless.add("v")
    async with stage.engine.speak(request(LONG)):
        await wait_until(lambda: stage.model.held)
    await wait_until(lambda: not stage.model.held)
    await hear(stage.engine, request(key="next"))


async def test_a_bad_row_ends_its_request_only(stage):
    stage.model.poison.add("bad")
    stage.decoder.fail_for.add("worse")
    results = await asyncio.gather(
        hear(stage.engine, request(LONG, key="good")),
        hear(stage.engine, request(LONG, key="bad")),
        hear(stage.engine, request(LONG, key="worse")),
        return_exceptions=True,
    )
    assert results[0][1].segments == 5
    assert isinstance(results[1], GenerationFailed)
    assert isinstance(results[2], GenerationFailed)
    await wait_until(lambda: not stage.model.held)


async def test_a_dead_engine_tells_everyone(tmp_path):
    stage = Stage(tmp_path)
    died = asyncio.Event()
    loop = asyncio.get_running_loop()
    stage.engine.on_death = lambda: loop.call_soon_threadsafe(died.set)
    stage.model.fail_at_step = 5
    results = await asyncio.gather(
        *(hear(stage.engine, request(LONG, seed=i)) for i in range(6)), return_exceptions=True
    )
    assert all(isinstance(result, EngineDead) for result in results)
    await asyncio.wait_for(died.wait(), 60)
    assert stage.engine.state == "dead"
    assert "the device is gone" in (stage.engine.fault or "")
    with pytest.raises(EngineDead):
        stage.engine.speak(request())
    stage.engine.close()


def test_nothing_speakable_and_too_many_codes_are_refused_before_any_work(stage):
    with pytest.raises(EmptyText):
        stage.engine.speak(request("…"))
    with pytest.raises(InvalidValue):
        stage.engine.speak(request(max_new_tokens=99_999))
    assert stage.model.begun == 0


@pytest.mark.parametrize("speed", [0.5, 2.0])
async def test_speed_changes_the_length_and_the_times_of_segments(stage, speed):
    usual, report = await hear(stage.engine, request(LONG))
    changed, other = await hear(stage.engine, request(LONG, speed=speed))
    assert other.segment_codes == report.segment_codes
    assert len(changed) == pytest.approx(len(usual) / speed, rel=0.02)
    assert other.audio_s == pytest.approx(len(changed) / SAMPLE_RATE_HZ, rel=0.02)
    assert other.segment_ends_s == pytest.approx([t / speed for t in report.segment_ends_s])


async def test_loudness_is_what_was_asked_for(stage):
    quiet, _ = await hear(stage.engine, request(LONG, loudness_lufs=-40.0))
    loud, _ = await hear(stage.engine, request(LONG, loudness_lufs=-20.0))
    assert np.square(loud).mean() > 10 * np.square(quiet).mean()


def test_hours_of_pauses_are_refused(stage):
    with pytest.raises(InvalidValue, match="pauses add up"):
        stage.engine.speak(request("Well [pause:9s] so. " * 20))


async def test_a_slow_reader_is_not_generation_time(stage):
    began = time.monotonic()
    async with stage.engine.speak(request()) as stream:
        done = lambda: stage.engine.stats().segments and not stage.engine.vocoding.open_sequences  # noqa: E731
        await wait_until(done)
        token_s = time.monotonic() - began
        await asyncio.sleep(0.01)
        async for _ in stream:
            pass
    assert 0 < stream.report.generation_s <= token_s


async def test_max_new_tokens_caps_each_segment(stage):
    stage.model.endless.add("v")
    _, report = await hear(stage.engine, request(LONG, max_new_tokens=20))
    assert [len(codes) for codes in report.segment_codes] == [20] * 5
    assert report.finish_reason == "length"


async def test_pauses_asked_for_are_silent_and_long_enough(stage):
    short, _ = await hear(stage.engine, request("One here. Two there."))
    longer, report = await hear(stage.engine, request("One here. [pause:2s] Two there."))
    assert report.segments == 2
    assert len(longer) >= 2 * SAMPLE_RATE_HZ
    assert len(longer) > len(short)


def test_the_engine_says_when_it_is_not_ready(tmp_path):
    engine = TTSEngine(TTSConfig(data_dir=tmp_path))
    with pytest.raises(NotReady):
        engine.speak(request())
    with pytest.raises(NotReady):  # GET /voices while a large model loads
        _ = engine.voices
    engine.close()


async def wait_until(true, timeout_s: float = 60.0) -> None:
    until = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < until, "it did not happen"
        await asyncio.sleep(0.005)


def test_a_call_goes_before_the_settings_and_they_before_the_model(tmp_path):
    said = {"temperature": 0.3, "top_p": 0.9, "repetition_penalty": 1.0}
    stage = Stage(tmp_path, own_sampling=said, repetition_penalty=1.1)
    assert stage.engine.sampling() == Sampling(0.3, 1000, 0.9, 1.1)
    assert stage.engine.sampling({"temperature": 0, "top_p": None}) == Sampling(0, 1000, 0.9, 1.1)
    stage.engine.close()


@pytest.mark.parametrize("together", [1, 3])
async def test_f82_a_request_that_is_over_leaves_nothing_though_no_other_follows(stage, together):
    gc.collect()
    gc.freeze()  # of other tests
    await asyncio.gather(*(hear(stage.engine, request(seed=i)) for i in range(together)))
    held = lambda: [o for o in gc.get_objects() if isinstance(o, Outbox | SpeechStream)]  # noqa: E731
    await wait_until(lambda: not held())
    gc.unfreeze()
