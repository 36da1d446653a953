"""The whole engine on the embedded model: real graphs, real voices, real text."""

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest
from fakes import turbo_sampling
from made import with_compiled_mini

from chatterbox.audio.shaping import Ceiling
from chatterbox.config import TTSConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.engine.preparation import WARMUP_TOKENS
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.errors import GenerationFailed, ModelError
from chatterbox.families.base import Voice
from chatterbox.families.turbo.spec import LOUDEST_SPEECH_RMS
from chatterbox.families.turbo.voice import VoiceTensors

TEXTS = (
    "Hello there.",
    "The quick brown fox jumps over the lazy dog.",
    "First this sentence is said. Then another one follows it! And does a third?",
)
VOICES = ("slt", "rms", "awb")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    data = with_compiled_mini(tmp_path_factory.mktemp("data"))
    engine = TTSEngine(
        TTSConfig(model="mini", device="cpu", threads=1, data_dir=data, first_segment_words=6)
    )
    engine.load()
    yield engine
    engine.close()


def request(engine: TTSEngine, text: str, voice: str, seed: int) -> SpeechRequest:
    return SpeechRequest(text, engine.voices.get(voice), turbo_sampling(), seed)


async def hear(engine: TTSEngine, asked: SpeechRequest):
    async with engine.speak(asked) as stream:
        pieces = [piece async for piece in stream]
    return np.concatenate(pieces), stream.report


async def test_six_at_once_in_three_voices_have_the_codes_of_their_solo_runs(engine):
    asked = [request(engine, TEXTS[i % len(TEXTS)], VOICES[i // 2], seed=i % 4) for i in range(6)]
    together = await asyncio.gather(*(hear(engine, one) for one in asked))
    for one, (_, report) in zip(asked, together, strict=True):
        _, solo = await hear(engine, one)
        assert report.segment_codes == solo.segment_codes
    stats = engine.stats()
    assert stats.stepped_rows > 1.5 * stats.steps  # they really shared steps


def test_one_text_is_prepared_at_a_time(engine, monkeypatch):
    """Texts are Python alone: two threads of it keep the event loop's from running."""
    together = threading.Barrier(2)
    met = []

    def prepare(*_, **__):
        try:
            together.wait(0.2)
        except threading.BrokenBarrierError:
            met.append(False)
        else:
            met.append(True)
        return []

    monkeypatch.setattr("chatterbox.engine.preparation.prepare", prepare)
    threads = [threading.Thread(target=engine.segments, args=["Hello."]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert met == [False, False]


def test_a_rehearsal_leaves_nothing_behind(engine, caplog):
    before = engine.stats()
    engine.warm_up()
    after = engine.stats()
    assert after.segments == before.segments + 1
    assert after.cancelled_segments == before.cancelled_segments
    assert after.capped_segments == before.capped_segments
    assert after.codes - before.codes <= WARMUP_TOKENS
    assert (after.running_rows, after.waiting_rows) == (0, 0)
    assert not caplog.records


def test_a_rehearsal_that_fails_is_said_and_does_no_harm(engine, caplog, monkeypatch):
    monkeypatch.setattr(engine.voices, "default_voice", "nobody")
    engine.warm_up()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "There is no voice 'nobody'" in caplog.text
    assert engine.state == "ready"


def test_a_rehearsal_whose_voice_breaks_a_graph_keeps_nobody_from_theirs(
    engine, caplog, monkeypatch
):
    def broken(_voice):
        raise RuntimeError("a node of the graph failed")

    monkeypatch.setattr(engine.voices, "get", broken)
    engine.warm_up()
    assert "a node of the graph failed" in caplog.text
    assert engine.state == "ready"


def test_a_model_that_cannot_speak_is_not_ready(engine, monkeypatch):
    def broken(_request):
        raise GenerationFailed("a node of the graph failed")

    monkeypatch.setattr(engine, "speak", broken)
    with pytest.raises(ModelError, match="the model cannot speak: a node of the graph failed"):
        engine.warm_up()


async def test_it_behaves_like_a_speaker(engine):
    short, brief = await hear(engine, request(engine, TEXTS[0], "slt", 1))
    longer, report = await hear(engine, request(engine, TEXTS[1], "slt", 1))
    assert brief.finish_reason == report.finish_reason == "stop"
    assert len(longer) > 2 * len(short)
    loudness = np.sqrt(np.mean(longer**2))
    assert 0.01 < loudness < 0.5
    assert np.abs(longer).max() < 1.0
    other, _ = await hear(engine, request(engine, TEXTS[1], "rms", 1))
    assert not np.array_equal(other[:10_000], longer[:10_000])


async def test_seeds_decide_the_codes(engine):
    runs = [await hear(engine, request(engine, TEXTS[1], "slt", seed)) for seed in (5, 5, 6)]
    first, again, different = (report.segment_codes for _, report in runs)
    assert first == again
    assert first != different


async def test_a_registered_recording_speaks_and_survives_a_restart(engine):
    from chatterbox.voices.folder_store import FolderStore
    from chatterbox.voices.library import VoiceLibrary

    clip = engine.voices.export("rms")
    voice = engine.voices.import_(clip)
    _, report = await hear(engine, request(engine, TEXTS[0], voice.voice_id, 1))
    assert report.codes > 0
    again = VoiceLibrary(
        FolderStore(engine.config.data_dir / "voices"),
        cloned=engine.model.cloned,
        encode=lambda *_: pytest.fail("encoded twice"),
        cache_size=10,
        cache_bytes=10**8,
        max_seconds=300,
        default_voice="slt",
    )
    again.start()
    tensors = again.get(voice.voice_id).data
    assert np.array_equal(tensors.speaker, engine.voices.get(voice.voice_id).data.speaker)
    again.close()


async def test_f94_a_voice_that_would_hurt_is_turned_down_and_speech_is_not_touched(
    engine, monkeypatch
):
    """Forged tensors and tonal references drive the vocoder to full scale."""
    own = [engine.voices.get("slt")]
    silence = {
        name: np.zeros_like(getattr(own[0].data, name))
        for name in ("features", "prompt_codes", "speaker", "prompt_mel")
    }
    hostile = [Voice("silence", VoiceTensors(**silence))]
    mel = own[0].data.prompt_mel + np.float32(8.0)
    hostile.append(Voice("shifted", replace(own[0].data, prompt_mel=mel)))

    async def heard(voices) -> list:
        asked = [
            SpeechRequest(text, voice, turbo_sampling(), seed=3, deterministic=True)
            for voice in voices
            for text in TEXTS[:2]
        ]
        return [(await hear(engine, one))[0] for one in asked]

    with monkeypatch.context() as unlimited:
        unlimited.setattr(Ceiling, "limit", lambda _, samples: samples)
        before, hurts = await heard(own), await heard(hostile)
    assert all(map(np.array_equal, before, await heard(own)))
    assert max(map(rms, hurts)) > 1.5 * LOUDEST_SPEECH_RMS
    assert max(map(rms, await heard(hostile))) < 1.3 * LOUDEST_SPEECH_RMS


def rms(samples) -> float:
    """As it is heard: every encoder cuts at full scale."""
    return float(np.sqrt(np.mean(np.square(np.clip(samples, -1, 1), dtype=np.float64))))
