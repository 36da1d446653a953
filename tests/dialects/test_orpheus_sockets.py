"""Yap's socket, the MessagePack one, and Kyutai's, on a real server."""

import base64
import io
import json

import httpx
import msgpack
import numpy as np
import pytest
import soundfile
from dialects.live import live, talking
from harness import PIECE_SAMPLES, FakeEngine, until

from chatterbox.dialects.kyutai import OPUS
from chatterbox.errors import Cancelled

NEVER = 3600.0
YAP = "/ws/tts"
END = b"__END__"
KYUTAI = "/api/tts_streaming?format="


@pytest.fixture(scope="module")
def server():
    with live(FakeEngine(script=[PIECE_SAMPLES, PIECE_SAMPLES])) as server:
        yield server


@pytest.fixture
def said(server):
    """Texts that the engine has received since the test began."""
    before = len(server.engine.requests)
    return lambda: [request.text.strip() for request in server.engine.requests[before:]]


UTTERANCE_BYTES = 2 * 2 * PIECE_SAMPLES


# --- Yap


async def test_yap_first_revision(server, said):
    async with talking(server, YAP) as talk:
        for text in ("Hello from the first.", "And hello from the second."):
            await talk.say(text=text, voice="tara")
            heard = await talk.hear_until(lambda m: m == END)
            assert sum(map(len, heard[:-1])) == UTTERANCE_BYTES
            assert END not in b"".join(heard[:-1])
        assert server.engine.voices.looked_up[-1] == "slt"
    assert said() == ["Hello from the first.", "And hello from the second."]


async def test_yap_sends_end_only_when_the_queue_is_empty():
    engine = FakeEngine(script=[PIECE_SAMPLES, 0.2, PIECE_SAMPLES])
    with live(engine) as server:
        async with talking(server, YAP) as talk:
            for text in ("The first one.", "The second one.", "The third one."):
                await talk.say(text=text, voice="slt")
            heard = await talk.hear_until(lambda m: m == END)
            assert sum(map(len, heard[:-1])) == 3 * UTTERANCE_BYTES


@pytest.mark.parametrize("end", ["__END__", '{"end": true}', b"__END__"])
async def test_yap_second_revision(server, said, end):
    async with talking(server, YAP) as talk:
        await talk.say(voice="tara", temperature=0.6, top_p=0.9, trim_silence=True)
        await talk.socket.send("A bare string is spoken.")
        await talk.say(text="And an object.")
        await talk.socket.send(end)
        await talk.socket.send("After the end.")
        code, heard = await talk.closed()
        assert (code, heard[-1], heard.count(END)) == (1000, END, 1)
        assert sum(map(len, heard[:-1])) == 2 * UTTERANCE_BYTES
    assert said() == ["A bare string is spoken.", "And an object."]
    assert server.engine.requests[-1].sampling.temperature == 0.6


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ('{"text": "hello", "voice": "nobody"}', 1008),
        ('{"voice": "nobody"}', 1008),
        ('{"text": "hello", "temperature": 77}', 1008),
        ('{"text": ', 1007),
        (b"\x00\x01\x02", 1003),
    ],
)
async def test_yap_errors_are_close_codes_only(server, said, message, code):
    async with talking(server, YAP) as talk:
        await talk.socket.send(message)
        assert await talk.closed() == (code, [])
    assert said() == []


async def test_yap_text_without_words_is_an_empty_utterance(server, said):
    async with talking(server, YAP) as talk:
        await talk.say(text="", voice="slt")
        assert await talk.hear() == END
    assert said() == []


async def test_busy_and_not_ready_close_with_1013():
    engine = FakeEngine(capacity=1, queue_capacity=0, script=[PIECE_SAMPLES, NEVER])
    with live(engine) as server:
        async with talking(server, YAP) as one:
            await one.say(text="This never ends.", voice="slt")
            await until(lambda: engine.admission.active == 1)
            async with talking(server, YAP) as other:
                await other.say(text="Nor does this begin.", voice="slt")
                assert (await other.closed())[0] == 1013
            async with talking(server, KYUTAI + "PcmMessagePack") as other:
                assert msgpack.unpackb(await other.hear())["type"] == "Ready"
                await other.socket.send("No room here. ")
                await other.socket.send(b"\0")
                code, heard = await other.closed()
                assert code == 1013
                told = {"type": "Error", "message": "no free channels"}
                assert [msgpack.unpackb(m) for m in heard] == [told]
        await until(lambda: engine.admission.active == 0)
        engine.state = "loading"
        async with talking(server, YAP) as talk:
            assert (await talk.closed())[0] == 1013
        async with httpx.AsyncClient() as client:
            assert (await client.get(server.http + "/healthz")).status_code == 503
            engine.state = "ready"
            assert (await client.get(server.http + "/healthz")).status_code == 200


# --- MessagePack


class Packed:
    def __init__(self, talk) -> None:
        self.talk = talk

    async def say(self, **body) -> None:
        await self.talk.socket.send(msgpack.packb(body))

    async def hear_until(self, kind: str) -> list[dict]:
        heard = []
        while not (heard and heard[-1]["type"] == kind):
            heard.append(msgpack.unpackb(await self.talk.hear()))
        return heard


async def test_the_golden_transcript_of_speak(server, said):
    async with talking(server, "/ws") as talk:
        packed = Packed(talk)
        assert msgpack.unpackb(await talk.hear()) == {"type": "Ready"}
        await packed.say(type="Speak", text="The first words.", voice="tara")
        marker = {"type": "Marker", "id": 7, "data": b"\x00\xff", "at": [0.1, 1e300]}
        await packed.say(**marker)
        await packed.say(type="Speak", text="The second words.", voice="tara")
        heard = await packed.hear_until("EndSpeak") + await packed.hear_until("EndSpeak")
        order = [m["type"] for m in heard if m["type"] != "Audio"]
        assert order == ["EndSpeak", "Marker", "EndSpeak"]
        assert marker in heard  # no float has become single precision
        audio = b"".join(m["pcm"] for m in heard if m["type"] == "Audio")
        assert len(audio) == 2 * UTTERANCE_BYTES
        first = heard.index({"type": "EndSpeak"})
        assert all(m["type"] == "Audio" for m in heard[:first])
    assert said() == ["The first words.", "The second words."]


async def test_unmute_second_revision(server, said):
    async with talking(server, "/ws?ready=json") as talk:
        packed = Packed(talk)
        assert await talk.hear() == {"type": "Ready"}
        for word in ("Words ", "that arrive ", "one by one."):
            await packed.say(type="Text", text=word, voice="slt")
        await packed.say(type="Eos")
        heard = await packed.hear_until("Eos")
        assert {m["type"] for m in heard[:-1]} == {"Audio"}
    assert said() == ["Words that arrive one by one."]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("text", 1003),
        (b"\xc1", 1007),
        (msgpack.packb([1]), 1007),
        (msgpack.packb({"type": "Nonsense"}), 1008),
        (msgpack.packb({"type": "Speak"}), 1008),
        (msgpack.packb({"type": "Speak", "text": "a", "voice": "nobody"}), 1008),
    ],
)
async def test_unmute_errors(server, message, code):
    async with talking(server, "/ws") as talk:
        await talk.hear()
        await talk.socket.send(message)
        closed, heard = await talk.closed()
        assert closed == code
        assert [msgpack.unpackb(m)["type"] for m in heard] == ["Error"]


# --- Kyutai


async def test_the_golden_transcript_of_kyutai(server, said):
    async with talking(server, KYUTAI + "PcmMessagePack&voice=slt&cfg_alpha=1.5&seed=4") as talk:
        packed = Packed(talk)
        assert msgpack.unpackb(await talk.hear()) == {"type": "Ready"}
        for word in ("Hello", "to", "the", "world."):
            await packed.say(type="Text", text=word)
        await packed.say(type="Eos")
        await packed.say(type="Text", text="after the end")
        code, heard = await talk.closed()
    messages = [msgpack.unpackb(m) for m in heard]
    assert code == 1000
    words = [m for m in messages if m["type"] == "Text"]
    assert [w["text"] for w in words] == ["Hello", "to", "the", "world."]
    assert all(w["start_s"] < w["stop_s"] <= 0.2 + 1e-6 for w in words)
    audio = [m["pcm"] for m in messages if m["type"] == "Audio"]
    assert {len(block) for block in audio} == {1920}
    samples = np.concatenate(audio)
    assert samples[: 2 * PIECE_SAMPLES] == pytest.approx(np.full(2 * PIECE_SAMPLES, 0.25))
    assert not samples[2 * PIECE_SAMPLES :].any()
    assert said() == ["Hello to the world."]
    assert server.engine.requests[-1].seed == 4


@pytest.mark.parametrize("form", ["Pcm", "OggOpus", "OggOpusMessagePack"])
async def test_kyutai_formats(server, form):
    async with talking(server, KYUTAI + form) as talk:
        await talk.socket.send("A text frame is text, too.")
        await talk.socket.send(b"\0")
        code, heard = await talk.closed()
    assert code == 1000
    if form == "Pcm":
        samples = np.frombuffer(b"".join(heard), "<f4")
        assert len(samples) % 1920 == 0
        assert samples[100] == 0.25
        return
    if form == "OggOpusMessagePack":
        messages = [msgpack.unpackb(m) for m in heard]
        assert {m["type"] for m in messages} == {"Ready", "Text", "OggOpus"}
        heard = [m["data"] for m in messages if m["type"] == "OggOpus"]
    samples, rate = soundfile.read(io.BytesIO(b"".join(heard)))
    assert len(samples) / rate == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize(
    ("query", "message", "code", "kinds"),
    [
        ("PcmMessagePack&voice=nobody", None, 1008, ["Error"]),
        ("Nonsense", None, 1008, []),
        ("PcmMessagePack", msgpack.packb({"type": "Voice", "embeddings": []}), 1008, ["Error"]),
        ("PcmMessagePack", b"\xc1", 1007, ["Error"]),
        ("Pcm", msgpack.packb({"type": "Nonsense"}), 1008, []),
    ],
)
async def test_kyutai_errors(server, query, message, code, kinds):
    async with talking(server, KYUTAI + query) as talk:
        if message is not None:
            await talk.socket.send(message)
        closed, heard = await talk.closed()
        assert closed == code
        assert [k for m in heard if (k := msgpack.unpackb(m)["type"]) != "Ready"] == kinds


async def test_kyutai_closes_its_encoder_when_the_client_leaves(server, monkeypatch):
    closed = []

    class Encoder:
        def __init__(self):
            self.opus = OPUS.encoder()

        def __getattr__(self, name):
            return getattr(self.opus, name)

        def close(self):
            closed.append(self.opus.close())

    class Opus:
        encoder = Encoder

    async def leave(_socket, kind, **_fields):
        if kind == "OggOpus":
            raise Cancelled("The client left.")

    monkeypatch.setattr("chatterbox.dialects.kyutai.OPUS", Opus())
    monkeypatch.setattr("chatterbox.dialects.kyutai.send_packed", leave)
    async with talking(server, KYUTAI + "OggOpusMessagePack") as talk:
        await talk.socket.send("Hello there.")
        await talk.socket.send(b"\0")
        await talk.closed()
    assert len(closed) == 1


async def test_kyutai_over_http(server, said):
    async with httpx.AsyncClient(base_url=server.http) as client:
        body = {"text": ["Hello there.", "And there."], "voice": "slt", "seed": 1}
        answer = await client.post("/api/tts_streaming", json=body)
        assert answer.headers["content-type"] == "audio/wav"
        assert len(soundfile.read(io.BytesIO(answer.content))[0]) == 2 * PIECE_SAMPLES
        timed = await client.post("/api/tts_streaming", json={**body, "return_timestamps": True})
        assert base64.b64decode(timed.json()["wav"])[:4] == b"RIFF"
        words = timed.json()["transcript"]
        assert [w["text"] for w in words] == ["Hello", "there.", "And", "there."]
        assert words[0]["start_s"] == 0
        assert words[-1]["stop_s"] == pytest.approx(0.2, abs=1e-3)
        refused = await client.post("/api/tts_streaming", json={**body, "voice": "nobody"})
        assert refused.status_code == 404
        for path in ("/api/build_info", "/api/modules_info"):
            assert json.loads((await client.get(path)).text)
    assert said() == ["Hello there. And there."] * 2


# --- all
