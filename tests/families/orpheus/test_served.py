"""Clients hear Orpheus by HTTP and by the sockets of its own servers.

Knows a small Orpheus with random weights behind a real server.
"""

import json
import re

import httpx
import msgpack
import numpy as np
import openai
import pytest
from dialects.live import live, talking
from elevenlabs.client import AsyncElevenLabs

from chatterbox.families.base import DecodeJob, Window

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


@pytest.mark.slow
async def test_the_libraries_of_openai_and_elevenlabs(server, client):
    sdk = openai.AsyncOpenAI(base_url=server.http + "/v1", api_key="none", http_client=client)
    drawn = {"temperature": 0.4, "top_p": 0.8, "repetition_penalty": 1.3, "max_tokens": 140}
    said = {"model": "orpheus", "input": "Hello.", "response_format": "pcm", "extra_body": drawn}
    heard = await sdk.audio.speech.create(voice="leo", **said)
    assert 0 < len(heard.content) <= 2 * 20 * FRAME
    with pytest.raises(openai.NotFoundError):
        await sdk.audio.speech.create(voice="julia", **said)
    other = AsyncElevenLabs(base_url=server.http, api_key="none", httpx_client=client)
    names = [voice.voice_id for voice in (await other.voices.get_all()).voices]
    assert names[:2] == ["tara", "leah"]
    sound = other.text_to_speech.stream("dan", text="Hello.", output_format="pcm_24000")
    assert sum([len(piece) async for piece in sound]) > FRAME


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


@pytest.mark.slow
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


@pytest.mark.slow
async def test_unmute(server):
    async with talking(server, "/ws") as talk:
        assert msgpack.unpackb(await talk.hear()) == {"type": "Ready"}
        speak = {"type": "Speak", "text": "The first words.", "voice": "dan"}
        await talk.socket.send(msgpack.packb(speak))
        heard = [msgpack.unpackb(await talk.hear())]
        while heard[-1]["type"] != "EndSpeak":
            heard.append(msgpack.unpackb(await talk.hear()))
    assert sum(len(m["pcm"]) for m in heard if m["type"] == "Audio") > FRAME


# --- llama-server: clients that decode SNAC themselves


PROMPT = "<|audio|>leo: Well, that was quick.<|eot_id|>"


def tokens_of(events: str) -> list[int]:
    """As such clients read them: one from each event, until the last line."""
    lines = [line.removeprefix("data: ") for line in events.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    choices = [json.loads(line)["choices"][0] for line in lines[:-1]]
    assert [choice["finish_reason"] for choice in choices[:-1]] == [None] * (len(choices) - 1)
    assert choices[-1]["finish_reason"] == "length"
    texts = [choice["text"] for choice in choices[:-1]]
    assert all(re.fullmatch(r"<custom_token_\d+>", text) for text in texts)
    return [int(text[14:-1]) for text in texts]


async def test_completions_stream_one_token_an_event(client):
    body = {"prompt": PROMPT, "max_tokens": 140, "temperature": 0.6, "top_p": 0.9, "seed": 3}
    extras = {"repeat_penalty": 1.1, "n_probs": 0, "cache_prompt": True}
    answer = await client.post("/v1/completions", json=body | extras | {"stream": True})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-ignored-params"] == "n_probs, cache_prompt"
    tokens = tokens_of(answer.text)
    assert len(tokens) == 140
    codes = [token - 10 - place % 7 * 4096 for place, token in enumerate(tokens)]
    assert all(0 <= code < 4096 for code in codes)
    whole = (await client.post("/v1/completions", json=body | extras)).json()
    assert whole["choices"][0]["text"] == "".join(f"<custom_token_{n}>" for n in tokens)
    assert whole["usage"]["completion_tokens"] == 140


async def test_completions_are_the_tokens_of_the_sound(client, engine):
    body = {"prompt": PROMPT, "max_tokens": 70, "seed": 4, "stream": True}
    tokens = tokens_of((await client.post("/v1/completions", json=body)).text)
    data = {"text": "Well, that was quick.", "voice_id": "leo", "max_new_tokens": "70", "seed": "4"}
    data |= {"response_format": "pcm", "stream": "false"}
    sound = np.frombuffer((await client.post("/tts", data=data)).content, np.int16)
    decoder = engine.model.decoder
    stream = decoder.open(engine.voices.get("leo"), 4)
    window = Window(0, 0, 10, 10, True, decoder.codec)
    job = DecodeJob(stream, window, np.array(tokens) - 10, 0, window.end_sample)
    samples = decoder.run([job])[0].samples
    # The ends of a segment are faded by the server.
    assert np.abs(samples[2000:-2000] * 32767 - sound[2000:-2000]).max() < 2


async def test_completions_end_with_several_segments(client):
    text = " ".join(["The tide came in slowly over the flat sand."] * 12)
    body = {"prompt": f"zoe: {text}", "max_tokens": 14, "stream": True}
    tokens = tokens_of((await client.post("/v1/completions", json=body)).text)
    assert len(tokens) > 14
    assert len(tokens) % 14 == 0


@pytest.mark.parametrize(
    ("prompt", "status", "code"),
    [
        ("<|audio|>julia: Hi.<|eot_id|>", 404, "voice_not_found"),
        ("<|audio|>tara: <|eot_id|>", 422, "empty_text"),
        (7, 422, "invalid_value"),
    ],
)
async def test_prompts_that_cannot_be_spoken(client, prompt, status, code):
    answer = await client.post("/v1/completions", json={"prompt": prompt, "stream": True})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text


async def test_a_prompt_without_a_voice_is_the_default_one(client):
    body = {"prompt": "Just a text.", "max_tokens": 21, "seed": 5}
    named = body | {"prompt": "tara: Just a text."}
    one, other = [(await client.post("/v1/completions", json=b)).json() for b in (body, named)]
    assert one["choices"] == other["choices"]
