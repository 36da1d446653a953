"""OpenAI's own client against a live server."""

import base64
import collections
import json
import time

import httpx
import httpx2
import numpy as np
import openai
import pytest
from dialects.live import TEXT, Gate, clip, decoded, likeness, live
from harness import PIECE_SAMPLES, FakeEngine, serving

from chatterbox.dialects.shared.voice_names import OPENAI_VOICES
from chatterbox.errors import GenerationFailed

FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm")
SEED = {"seed": 11}
JSON = {"content-type": "application/json"}


def client_of(address: str, **options) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", **options)


@pytest.fixture
def client(address):
    with client_of(address) as client:
        yield client


@pytest.fixture(scope="module")
def said(address) -> np.ndarray:
    """The samples of the equal native call."""
    call = {"text": TEXT, "voice_id": "slt", "response_format": "pcm", **SEED}
    response = httpx.post(f"{address}/tts", json=call)
    return np.frombuffer(response.content, "<i2") / np.float32(32768)


def heard(data: bytes, name: str) -> np.ndarray:
    """Decode and resample to 24 kHz."""
    samples, rate_hz = decoded(data, *(("s16le", 24000) if name == "pcm" else ()))
    return samples[:: rate_hz // 24000]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_the_same_speech(client, said, name):
    answer = client.audio.speech.create(
        model="tts-1", voice="slt", input=TEXT, response_format=name, extra_body=SEED
    )
    sound = heard(answer.read(), name)
    assert abs(len(sound) - len(said)) < 2500  # what codecs add at both ends
    assert likeness(sound, said) > 0.9


def test_mp3_is_the_default(client):
    answer = client.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input=TEXT)
    assert answer.response.headers["content-type"] == "audio/mpeg"
    assert answer.read()[:2] in (b"\xff\xf3", b"\xff\xfb")


async def test_async_and_streaming(address, said):
    async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none") as client:
        whole = await client.audio.speech.create(
            model="tts-1", voice="slt", input=TEXT, response_format="pcm", extra_body=SEED
        )
        async with client.audio.speech.with_streaming_response.create(
            model="tts-1", voice="slt", input=TEXT, response_format="pcm", extra_body=SEED
        ) as answer:
            pieces = [piece async for piece in answer.iter_bytes()]
    for data in (whole.content, b"".join(pieces)):
        assert likeness(heard(data, "pcm"), said) > 0.9


@pytest.mark.parametrize("name", FORMATS)
def test_the_first_chunk_comes_before_synthesis_ends(name):
    gate = Gate()
    engine = FakeEngine(script=[*[PIECE_SAMPLES] * 4, gate, PIECE_SAMPLES])
    with (
        live(engine) as server,
        client_of(server.http) as client,
        client.audio.speech.with_streaming_response.create(
            model="tts-1", voice="slt", input="Hello.", response_format=name
        ) as answer,
    ):
        pieces = answer.iter_bytes()
        first = next(pieces)
        while len(first) < 100:
            first += next(pieces)
        assert engine.delivered < 5
        gate.opened.set()
        sound = heard(first + b"".join(pieces), name)
    assert abs(len(sound) - 5 * PIECE_SAMPLES) < 2500


def events_of(client, **call) -> list[dict]:
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="slt", stream_format="sse", **call
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    return [json.loads(line[6:]) for line in lines]


@pytest.mark.parametrize("name", ["mp3", "wav", "opus"])
def test_events_join_to_one_file(client, said, name):
    events = events_of(client, input=TEXT, response_format=name, extra_body=SEED)
    *deltas, done = events
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    data = b"".join(base64.b64decode(event["audio"]) for event in deltas)
    assert likeness(heard(data, name), said) > 0.9
    usage = done["usage"]
    assert done["type"] == "speech.audio.done"
    assert usage["input_tokens"] > 0
    assert usage["output_tokens"] > 0
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_a_fault_in_mid_stream_is_an_event():
    engine = FakeEngine(script=[PIECE_SAMPLES, GenerationFailed("The model failed.")])
    with live(engine) as server, client_of(server.http) as client:
        lines: list[str] = []
        with (
            client.audio.speech.with_streaming_response.create(
                model="x", voice="slt", input="a", stream_format="sse", response_format="pcm"
            ) as answer,
            pytest.raises(httpx2.RemoteProtocolError),  # it ends without its last chunk
        ):
            collections.deque(map(lines.append, answer.iter_lines()))
    error = json.loads([line for line in lines if line][-1].removeprefix("data: "))
    assert error["type"] == "error"
    assert error["error"]["code"] == "generation_failed"
    assert {"message", "type", "param", "code"} <= error["error"].keys()


# --- what is asked beside it


def test_parameters_have_an_effect_or_are_named_as_ignored(client):
    raw = client.audio.speech.with_raw_response.create(
        model="tts-1",
        voice="slt",
        input="Hello.",
        instructions="Speak like a pirate.",
        speed=1.5,
        response_format="pcm",
        extra_body={"seed": 5, "temperature": 0.5, "top_p": 0.9, "volume": 2, "max_tokens": 30000},
    )
    assert raw.headers["x-ignored-params"] == "instructions, volume"
    assert raw.headers["x-seed"] == "5"
    raw = client.audio.speech.with_raw_response.create(
        model="tts-1", voice="slt", input="Hello.", speed=1.0, extra_body={"max_tokens": 20}
    )
    assert "x-ignored-params" not in raw.headers


async def test_sampling_reaches_the_engine():
    engine = FakeEngine()
    with live(engine) as server, client_of(server.http) as client:
        extra = {
            "temperature": 0.3,
            "top_p": 0.7,
            "top_k": 7,
            "repetition_penalty": 1.5,
            "max_tokens": 50,
            "seed": -1,
        }
        client.audio.speech.create(model="a", voice="slt", input="Hello.", extra_body=extra)
        client.audio.speech.create(model="a", voice="slt", input="Hello.", speed=1.5)
    request, faster = engine.requests
    assert (request.speed, faster.speed) == (1.0, 1.5)
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.3, 0.7, 7)
    assert (sampling.repetition_penalty, request.max_new_tokens) == (1.5, 50)
    assert request.seed == 2**32 - 1


def test_openais_voice_names_speak():
    engine = FakeEngine()
    looked_up = engine.voices.looked_up
    with live(engine) as server, client_of(server.http) as client:
        for name in OPENAI_VOICES:
            client.audio.speech.create(model="tts-1", voice=name, input="Hello.")
            client.audio.speech.create(model="tts-1", voice=name.upper(), input="Hello.")
            assert looked_up[-1] == looked_up[-2]
        mine = client.audio.voices.create(
            name="nova", audio_sample=("me.wav", b"RIFF1234"), consent="cons_1"
        )
        client.audio.speech.create(model="tts-1", voice="nova", input="Hello.")
    assert looked_up[-1] == mine.id  # a real voice of that name goes first


def test_voice_names_map_to_existing_voices(engine):
    built_in = {info.voice_id for info in engine.voices.list() if info.built_in}
    assert set(OPENAI_VOICES.values()) <= built_in
    assert len(OPENAI_VOICES) == 13


# --- errors


def raised(kind, client, **call) -> openai.APIStatusError:
    with pytest.raises(kind) as caught:
        client.audio.speech.create(**{"model": "tts-1", "voice": "slt", "input": "Hello.", **call})
    error = caught.value
    assert {"message", "type", "param", "code"} <= error.body.keys()
    return error


def test_errors_raise_the_sdks_classes(client):
    error = raised(openai.NotFoundError, client, voice="nobody")
    assert (error.code, error.param) == ("voice_not_found", "voice")
    assert raised(openai.NotFoundError, client, voice={"id": "gone"}).code == "voice_not_found"
    error = raised(openai.UnprocessableEntityError, client, input="")
    assert (error.code, error.param, error.type) == (
        "empty_text",
        "input",
        "invalid_request_error",
    )
    error = raised(openai.UnprocessableEntityError, client, input="a" * 5001)
    assert (error.code, error.param) == ("text_too_long", "input")
    error = raised(openai.UnprocessableEntityError, client, response_format="wma")
    assert error.param == "response_format"
    assert raised(openai.UnprocessableEntityError, client, speed=9).param == "speed"
    assert raised(openai.UnprocessableEntityError, client, stream_format="x").code
    error = raised(openai.UnprocessableEntityError, client, input=None)
    assert (error.code, error.param) == ("invalid_value", "input")


def test_missing_bodies_and_unknown_paths_have_the_same_error_shape(address):
    for answer in (
        httpx.post(f"{address}/v1/audio/speech", content=b"{", headers=JSON),
        httpx.post(f"{address}/v1/audio/nothing"),
        httpx.put(f"{address}/v1/audio/speech"),
    ):
        assert answer.status_code in (400, 404, 405)
        assert {"message", "type", "param", "code"} <= answer.json()["error"].keys()


def test_the_sdk_retries_a_busy_server_after_the_stated_time_then_raises():
    engine = FakeEngine(capacity=1, queue_capacity=0, script=[PIECE_SAMPLES, Gate()])
    engine.admission.retry_after_s = lambda: 0.05
    seen = []
    http = openai.DefaultHttpxClient(event_hooks={"response": [seen.append]})
    with (
        live(engine) as server,
        client_of(server.http) as client,
        client_of(server.http, http_client=http, max_retries=2) as second,
        client.audio.speech.with_streaming_response.create(
            model="tts-1", voice="slt", input="Hello.", response_format="pcm"
        ) as holding,
    ):
        pieces = holding.iter_bytes()
        next(pieces)
        began = time.monotonic()
        error = raised(openai.RateLimitError, second)
        waited_s = time.monotonic() - began
        pieces.close()
    assert (error.code, error.type) == ("overloaded", "rate_limit_error")
    assert len(seen) == 3
    for response in seen:
        assert response.headers["retry-after-ms"] == "50"
        assert response.headers["x-should-retry"] == "true"
    assert waited_s >= 0.1  # by retry-after-ms; by retry-after it would have been 2 s


def test_the_sdk_does_not_retry_permanent_errors():
    engine = FakeEngine(script=[GenerationFailed("The model failed.")])
    with live(engine) as server, client_of(server.http, max_retries=2) as client:
        error = raised(openai.InternalServerError, client)
    assert error.code == "generation_failed"
    assert engine.closed_streams == 1


# --- voices, models


def test_a_cloned_voice_speaks_and_is_deleted(client, address):
    consent = client.audio.voice_consents.create(
        name="Me", language="en-US", recording=("yes.wav", clip("rms", 3.0), "audio/wav")
    )
    voice = client.audio.voices.create(
        name="mine", audio_sample=("me.wav", clip(), "audio/wav"), consent=consent.id
    )
    assert (voice.object, voice.name, voice.type) == ("audio.voice", "mine", "audio_sample")
    for wanted in ({"id": voice.id}, voice.id, "mine"):
        answer = client.audio.speech.create(
            model="tts-1", voice=wanted, input="Hello.", response_format="pcm"
        )
        assert len(answer.read()) > 10_000
    assert voice.id in [one["id"] for one in httpx.get(f"{address}/v1/audio/voices").json()["data"]]
    gone = client.audio.voices.delete(voice.id)
    assert (gone.deleted, gone.object) == (True, "audio.voice.deleted")
    assert raised(openai.NotFoundError, client, voice="mine").code == "voice_not_found"
    client.audio.voice_consents.delete(consent.id)


def test_voices_need_a_recording(client):
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.audio.voices.create(name="x", type="prompt", prompt="A deep voice.")
    assert caught.value.param == "type"
    with pytest.raises(openai.APIStatusError) as caught:
        client.audio.voices.create(name="x", audio_sample=("a.wav", b"no audio"), consent="c")
    assert caught.value.status_code == 415
    with pytest.raises(openai.PermissionDeniedError):
        client.audio.voices.delete("slt")


def test_every_known_client_can_read_the_list_of_voices(address):
    listed = httpx.get(f"{address}/v1/audio/voices").json()
    assert {voice["id"]: voice["name"] for voice in listed["voices"]}["slt"] == "slt"  # Open WebUI
    assert [voice["name"] for voice in listed["data"] if voice["id"]]  # Marinara, mlx-audio
    for query in ("?model=tts-1", "?format=names"):  # llama-swap
        assert "slt" in httpx.get(f"{address}/v1/audio/voices{query}").json()["voices"]
    listed = httpx.get(f"{address}/v1/audio/voices?model=tts-1&format=objects").json()
    assert listed["voices"][0]["id"]
    assert httpx.get(f"{address}/v1/audio/voices/slt").json()["object"] == "audio.voice"


def test_consents_are_stored(client, address):
    made = [
        client.audio.voice_consents.create(
            name=f"Speaker {n}", language="en-GB", recording=("yes.wav", b"RIFF" + bytes([n]))
        )
        for n in range(3)
    ]
    page = client.audio.voice_consents.list(limit=2)
    assert [one.id for one in page] == [one.id for one in reversed(made)]  # two pages
    renamed = client.audio.voice_consents.update(made[0].id, name="Another")
    assert client.audio.voice_consents.retrieve(made[0].id) == renamed
    assert (renamed.name, renamed.language) == ("Another", "en-GB")
    for one in made:
        assert client.audio.voice_consents.delete(one.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.audio.voice_consents.retrieve(made[0].id)
    assert httpx.get(f"{address}/v1/audio/voice_consents").json()["data"] == []


def test_models(client, address):
    names = [model.id for model in client.models.list()]
    assert names == ["mini", "tts-1", "tts-1-hd", "gpt-4o-mini-tts"]
    assert client.models.retrieve("tts-1").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-17")
    listed = httpx.get(f"{address}/v1/audio/models").json()["models"]
    assert [model["id"] for model in listed] == names


async def test_models_list_parameters_with_bounds_and_defaults():
    async with serving() as client:
        model, alias, *_ = (await client.get("/v1/models")).json()["data"]
        assert "laugh" in model["tags"]
        assert model["languages"] == ["en"]
        assert "mp3" in model["formats"]
        for name, row in model["settings"].items():
            assert row["minimum"] <= row["default"] <= row["maximum"], name
        assert model["settings"]["temperature"]["default"] == 0.8
        assert "tags" not in alias
        assert (await client.get(f"/v1/models/{model['id']}")).json() == model


async def test_events_name_the_part_of_the_text_that_begins_if_requested():
    async with serving() as client:
        call = {"input": TEXT, "stream_format": "sse", "response_format": "pcm"}
        plain = await client.post("/v1/audio/speech", json=call)
        assert "speech.segment" not in plain.text
        timed = await client.post("/v1/audio/speech", json=call | {"timings": True})
        first = json.loads(timed.text.split("\n\n")[0].removeprefix("data: "))
        part = {"index": 0, "of": 1, "start_s": 0.0, "text": TEXT}
        assert first == {"type": "speech.segment", **part}
        assert timed.text.count("speech.segment") == 1
