"""Do clients hear Orpheus: by HTTP, and by the sockets of its own servers?

Knows a small Orpheus with random weights behind a real server.
"""

import httpx
import msgpack
import numpy as np
import pytest
from dialects.live import live, talking

FRAME = 2048


@pytest.fixture(scope="module")
def server(engine):
    with live(engine) as made:
        yield made


@pytest.fixture
async def client(server):
    async with httpx.AsyncClient(base_url=server.http, timeout=60) as made:
        yield made


async def test_tts(client):
    data = {"text": "Well. [laugh]", "voice_id": "leo", "max_new_tokens": "70", "seed": "1"}
    whole, again = [
        await client.post("/tts", data=data | {"response_format": "pcm", "stream": stream})
        for stream in ("false", "true")
    ]
    assert whole.status_code == 200, whole.text
    sound, streamed = (np.frombuffer(answer.content, np.int16) for answer in (whole, again))
    assert len(sound) == 10 * FRAME
    assert np.abs(sound.astype(int) - streamed).max() <= 1  # windows differ by rounding


async def test_openai(client):
    body = {"model": "orpheus", "input": "Hello.", "voice": "zoe", "response_format": "pcm"}
    answer = await client.post("/v1/audio/speech", json=body)
    assert answer.status_code == 200, answer.text
    assert len(answer.content) > FRAME
    models = (await client.get("/v1/models")).json()
    assert models["data"][0]["id"] == "orpheus-3b-0.1-ft-ONNX"


async def test_what_is_loaded_and_how_fast_it_is(client):
    health = (await client.get("/health")).json()
    assert health["model"] == "orpheus-3b-0.1-ft-ONNX"
    assert health["default_voice"] == "tara"
    assert health["expected_rtf"] > 0
    names = [voice["voice_id"] for voice in (await client.get("/voices")).json()["voices"]]
    assert names == ["tara", "leah", "jess", "leo", "dan", "mia", "zac", "zoe"]


@pytest.mark.parametrize("call", ["/tts", "/v1/audio/speech"])
async def test_an_unknown_voice_is_404(call, client):
    body = {"text": "Hi.", "voice_id": "julia"}
    answer = (
        await client.post(call, data=body)
        if call == "/tts"
        else await client.post(call, json={"input": "Hi.", "voice": "julia"})
    )
    assert answer.status_code == 404
    assert "julia" in answer.json()["error"]["message"]


async def test_an_upload_is_422_with_the_reason(client):
    files = {"voice_file": ("me.wav", b"RIFF....", "audio/wav")}
    for path, data in (("/tts", {"text": "Hi."}), ("/voices/register", {"name": "me"})):
        answer = await client.post(path, data=data, files=files)
        assert answer.status_code == 422
        assert answer.json()["error"]["code"] == "cloning_unavailable"
        assert "tara" in answer.json()["error"]["message"]


async def test_yap(server):
    async with talking(server, "/ws/tts") as talk:
        await talk.say(voice="leah", temperature=0.5, top_p=0.9, repetition_penalty=1.2)
        await talk.say(text="Hello there.")
        await talk.socket.send("__END__")
        heard = []
        while (message := await talk.socket.recv()) != b"__END__":
            heard.append(message)
    assert sum(map(len, heard)) > FRAME


async def test_yap_with_an_unknown_voice_is_closed(server):
    async with talking(server, "/ws/tts") as talk:
        await talk.say(voice="julia")
        code, _ = await talk.closed()
    assert code not in (1000, None)


async def test_unmute(server):
    async with talking(server, "/ws") as talk:
        assert msgpack.unpackb(await talk.hear()) == {"type": "Ready"}
        speak = {"type": "Speak", "text": "The first words.", "voice": "dan"}
        await talk.socket.send(msgpack.packb(speak))
        heard = [msgpack.unpackb(await talk.hear())]
        while heard[-1]["type"] != "EndSpeak":
            heard.append(msgpack.unpackb(await talk.hear()))
    assert sum(len(m["pcm"]) for m in heard if m["type"] == "Audio") > FRAME
