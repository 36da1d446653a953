"""End-to-end tests without fakes: the embedded model behind the real routes."""

import asyncio
import io
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from harness import error_of, server_config
from made import with_compiled_mini

from chatterbox.config import TTSConfig
from chatterbox.dialects.registry import DIALECTS
from chatterbox.engine.engine import TTSEngine
from chatterbox.server.app import create_app

BUILT_IN = Path(__file__).resolve().parents[2] / "chatterbox" / "voices" / "builtin"
LONG = "The first sentence is here. " + "Then comes one more of them, and it goes on a little. " * 4


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    return with_compiled_mini(tmp_path_factory.mktemp("data"))


def loaded(data_dir: Path) -> TTSEngine:
    engine = TTSEngine(TTSConfig(model="mini", data_dir=data_dir, _env_file=None))
    engine.load()
    return engine


@pytest.fixture(scope="module")
def engine(data_dir) -> Iterator[TTSEngine]:
    engine = loaded(data_dir)
    yield engine
    engine.close()


@asynccontextmanager
async def calling(engine: TTSEngine):
    transport = httpx.ASGITransport(create_app(engine, server_config(), DIALECTS))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


def recording(name: str = "kal16", seconds: float = 6.0) -> dict:
    samples, rate = soundfile.read(BUILT_IN / f"{name}.flac")
    file = io.BytesIO()
    soundfile.write(file, samples[: int(seconds * rate)], rate, format="WAV")
    return {"voice_file": ("me.wav", file.getvalue(), "audio/wav")}


SAME = 0.9
"""Least correlation of two decodings of the same codes, which differ because the graphs draw noise.
Measured: above 0.99 for the same codes, below 0.3 for others."""


def same_speech(one: np.ndarray, other: np.ndarray) -> bool:
    return len(one) == len(other) and np.corrcoef(one, other)[0, 1] > SAME


def pcm(response: httpx.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    return np.frombuffer(response.content, "<i2")


async def test_registered_voice_survives_a_restart(engine, data_dir):
    async with calling(engine) as client:
        registered = await client.post("/voices/register", files=recording(), data={"name": "me"})
        assert registered.status_code == 201, registered.text
        voice_id = registered.json()["voice_id"]
        assert (await client.post("/voices/register", files=recording())).status_code == 200
        form = {"text": "Hello from my own voice.", "voice_id": "me", "seed": 3}
        spoken = await client.post("/tts", data=form)
        samples, rate = soundfile.read(io.BytesIO(spoken.content))
        assert rate == 24_000
        assert len(samples) > rate / 2
        assert np.abs(samples).max() > 0.01
    restarted = loaded(data_dir)
    try:
        async with calling(restarted) as client:
            assert (await client.get("/voices/me")).json()["voice_id"] == voice_id
            again, _ = soundfile.read(io.BytesIO((await client.post("/tts", data=form)).content))
            assert same_speech(again, samples)
    finally:
        restarted.close()


async def test_streamed_whole_and_one_time_voice_sound_the_same(engine):
    form = {"text": "One sound, three ways.", "seed": 5, "response_format": "pcm"}
    async with calling(engine) as client:
        streamed = pcm(await client.post("/tts", data=form))
        answer = await client.post("/tts", data={**form, "stream": "false"})
        assert same_speech(pcm(answer), streamed)
        assert float(answer.headers["x-audio-duration"]) == pytest.approx(
            len(streamed) / 24_000, abs=1e-3
        )
        facts = (await client.post("/tts/json", data=form)).json()
        assert facts["tokens_generated"] == int(answer.headers["x-tokens-generated"])
        assert facts["finish_reason"] in ("stop", "length")
        once = await client.post("/tts", data=form, files=recording("rms", 11.0))
        assert len(pcm(once)) > 0
        assert not same_speech(pcm(once), streamed)


@pytest.mark.slow
async def test_batching_does_not_change_the_sound(engine):
    calls = [
        {"text": f"Sentence number {n}.", "seed": n, "voice_id": voice, "response_format": "pcm"}
        for n, voice in enumerate(["slt", "rms", "awb"] * 2)
    ]
    async with calling(engine) as client:
        together = await asyncio.gather(*(client.post("/tts", json=call) for call in calls))
        for call, answer in zip(calls, together, strict=True):
            alone = await client.post("/tts", json=call)
            assert same_speech(pcm(answer), pcm(alone))
        metrics = (await client.get("/metrics")).json()
        assert metrics["batch"]["mean_rows"] > 1
        assert (metrics["active"], metrics["queued"]) == (0, 0)


async def test_long_text_is_spoken_to_its_end(engine):
    async with calling(engine) as client:
        facts = (await client.post("/tts/json", json={"text": LONG, "seed": 1})).json()
        assert facts["segments"] > 1
        assert facts["audio_duration"] > 10
        assert facts["first_audio"] > 0  # generation_time excludes the time of a slow reader


async def test_unspeakable_text_and_unreadable_recording_are_refused(engine):
    async with calling(engine) as client:
        for text in ("?!…", "\ufeff\u200d", "🙂🙂"):
            error_of(await client.post("/tts", json={"text": text}), 422, "empty_text", "text")
        upload = {"voice_file": ("x.wav", b"RIFF but not really")}
        answer = await client.post("/voices/register", files=upload)
        assert answer.status_code in (415, 422), answer.text
        short = await client.post("/voices/register", files=recording(seconds=0.3))
        error_of(short, 422, "audio_too_short", short.json()["error"]["param"])
        error_of(await client.delete("/voices/slt"), 403, "voice_protected", "voice_id")
        error_of(await client.get("/voices/..%2f..%2fetc"), 404, "not_found")
        too_many = await client.post("/tts", json={"text": "a", "max_new_tokens": 4096})
        assert too_many.status_code in (200, 422)


async def test_disconnect_frees_the_row_at_once(engine):
    app = create_app(engine, server_config(), DIALECTS)
    left = asyncio.Event()
    body = [{"type": "http.request", "body": b'{"text": "%s"}' % LONG.encode(), "more_body": False}]
    begun = asyncio.Event()

    async def receive():
        if body:
            return body.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        begun.set()

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/tts", "headers": headers}
    task = asyncio.create_task(app({**scope, "query_string": b""}, receive, send))
    async with asyncio.timeout(60):
        await begun.wait()
        left.set()
        await task
        while engine.stats().running_rows or engine.stats().waiting_rows:
            await asyncio.sleep(0.01)
    assert engine.admission.active == 0
