"""Calls of each dialect use the model that they name; `a` is the default model."""

import asyncio
import json
from dataclasses import replace

import msgpack
import pytest
from dialects.live import live
from dialects.test_wyoming import listening
from several_models import pool_of, serving_models, spoken_by
from wyoming.audio import AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.info import Describe, Info
from wyoming.tts import Synthesize, SynthesizeVoice

from chatterbox.dialects.sillytavern import latents
from chatterbox.families.turbo.spec import TURBO

TEXT = "Hello there."
SPEAKER = {"text": TEXT, "speaker_wav": "slt", "language": "en"}
LATENTS = {"text": TEXT, **latents("slt"), "language": "en"}
ORPHEUS = replace(TURBO, token_text=lambda code: f"<custom_token_{code}>")
CALLS = {
    "native": ("/tts", {"text": TEXT, "model": "b"}),
    "native, figures": ("/tts/json", {"text": TEXT, "model": "b"}),
    "native, in the address": ("/tts?model=b", {"text": TEXT}),
    "openai": ("/v1/audio/speech", {"input": TEXT, "model": "b"}),
    "openai, events": ("/v1/audio/speech", {"input": TEXT, "model": "b", "stream_format": "sse"}),
    "elevenlabs": ("/v1/text-to-speech/slt", {"text": TEXT, "model_id": "b"}),
    "elevenlabs, streamed": ("/v1/text-to-speech/slt/stream", {"text": TEXT, "model_id": "b"}),
    "llama-server": ("/v1/completions", {"prompt": f"slt: {TEXT}", "model": "b"}),
    "sillytavern": ("/tts", {"text": TEXT, "output_format": "wav", "model": "b"}),
    "sillytavern, streamed": (f"/tts-stream?text={TEXT}&model=b", None),
    "xtts": ("/tts_to_audio/", {**SPEAKER, "model": "b"}),
    "xtts, streamed": (f"/tts_stream?text={TEXT}&speaker_wav=slt&language=en&model=b", None),
    "coqui": ("/tts_stream", {**LATENTS, "model": "b"}),
    "coqui, whole": ("/tts", {**LATENTS, "model": "b"}),
    "kyutai": ("/api/tts_streaming", {"text": TEXT, "model": "b"}),
}


def orpheus(engine) -> None:
    engine.family = ORPHEUS


@pytest.fixture
async def client():
    async with serving_models("a,b", orpheus, load_models="first_use") as client:
        yield client


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_chooses_its_model(client, name):
    path, body = CALLS[name]
    answer = await (client.get(path) if body is None else client.post(path, json=body))
    assert answer.status_code == 200, answer.text
    assert spoken_by(client.pool) == ["b"]
    assert "model" not in answer.headers.get("x-ignored-params", "")
    other = [part.replace("model=b", "model=nobody") for part in (path, json.dumps(body))]
    for field in ("model", "model_id"):
        other[1] = other[1].replace(f'"{field}": "b"', f'"{field}": "nobody"')
    path, body = other[0], json.loads(other[1])
    answer = await (client.get(path) if body is None else client.post(path, json=body))
    assert answer.status_code == 404 and "the models are: a, b" in answer.text


async def test_lists_are_for_the_model_in_the_address(client):
    for engine in client.pool.made:
        assert engine.info.name == "a"
    voices = (await client.get("/voices?model=b")).json()  # it is loaded for that
    assert voices["default_voice"] == "slt"
    client.pool.made[1].voices.infos = {}
    assert (await client.get("/v1/audio/voices?model=b")).json()["data"] == []
    assert (await client.get("/v1/audio/voices?model=some-proxy-s-name")).json()["data"] != []


async def test_elevenlabs_clients_get_their_own_list_of_models(client):
    models = (await client.get("/v1/models", headers={"xi-api-key": "x"})).json()
    assert [model["model_id"] for model in models] == ["a", "b"]
    assert "unloaded" in models[1]["description"]


ELEVENLABS = [json.dumps({"text": " "}), json.dumps({"text": TEXT}), json.dumps({"text": ""})]
NATIVE = [{"type": "input.text", "text": TEXT}, {"type": "input.done"}]
NATIVE_CONFIG = {"type": "session.config", "model": "b", "context": "one"}
SOCKETS = {
    "native": ("/v1/audio/speech/stream?model=b", [*map(json.dumps, NATIVE)]),
    "native, a context": (
        "/v1/audio/speech/stream",
        [json.dumps(m | {"context": "one"}) for m in (NATIVE_CONFIG, *NATIVE)],
    ),
    "elevenlabs": ("/v1/text-to-speech/slt/stream-input?model_id=b", ELEVENLABS),
    "elevenlabs, contexts": (
        "/v1/text-to-speech/slt/multi-stream-input?model_id=b",
        [json.dumps({"text": TEXT, "flush": True}), json.dumps({"close_socket": True})],
    ),
    "kyutai": (
        "/api/tts_streaming?format=Pcm&model=b",
        [msgpack.packb({"type": "Text", "text": TEXT}), msgpack.packb({"type": "Eos"})],
    ),
    "unmute": (
        "/ws?model=b",
        [msgpack.packb({"type": "Speak", "text": TEXT}), msgpack.packb({"type": "Eos"})],
    ),
    "yap": ("/ws/tts?model=b", [json.dumps({"text": TEXT}), "__END__"]),
}


async def test_sockets_choose_their_model():
    with pool_of("a,b") as pool:
        await pool.start()
        with live(pool) as server:
            await picked(server)


async def picked(server) -> None:
    for name, (path, messages) in SOCKETS.items():
        before = len(spoken_by(server.engine))
        async with asyncio.timeout(60), server.connect(path) as socket:
            for message in messages:
                await socket.send(message)
            while len(spoken_by(server.engine)) == before:
                await asyncio.sleep(0.005)
        assert spoken_by(server.engine)[before:] == ["b"], name
    async with asyncio.timeout(60), server.connect("/ws?model=nobody") as socket:
        await socket.wait_closed()
        assert (socket.close_code, socket.close_reason) == (1008, "model_not_found")


async def test_wyoming_voices_name_their_model():
    with pool_of("a,b") as pool:
        await pool.start()
        async with listening(pool) as (_, port), AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(Describe().event())
            info = Info.from_event(await client.read_event())
            assert [voice.name for voice in info.tts[0].voices] == ["slt", "b/slt"]
            for voice in ("b/slt", "slt"):
                call = Synthesize(TEXT, voice=SynthesizeVoice(voice))
                await client.write_event(call.event())
                while not AudioStop.is_type((await client.read_event()).type):
                    pass
        assert sorted(spoken_by(pool)) == ["a", "b"]
