"""The sockets with the embedded model instead of a fake engine."""

import base64
import io

import httpx
import msgpack
import numpy as np
import pytest
import soundfile
from dialects.live import talking
from harness import until

NATIVE = "/v1/audio/speech/stream"
TEXT = "Hello from the other side. I have come a long way."
SENTENCES = ["One", "sentence", "here,", "and", "it", "costs", "$5.", "Another", "one", "there."]
LONG = "This goes on and on, for quite a while, and it does not seem to come to any end. " * 12


@pytest.fixture
def server(mini):
    return mini


async def test_text_sent_in_pieces_is_spoken(server):
    async with talking(server, NATIVE) as talk:
        await talk.say(
            type="session.config", voice="slt", response_format="wav", file_per="turn", seed=3
        )
        for word in TEXT.split(" "):
            await talk.say(type="input.text", text=word + " ")
        await talk.say(type="input.done")
        heard = await talk.hear_until(lambda m: not isinstance(m, bytes) and "total" in str(m))
        sound = b"".join(m for m in heard if isinstance(m, bytes))
        samples, rate = soundfile.read(io.BytesIO(sound))
        assert len(samples) / rate == pytest.approx(heard[-1]["audio_s"], abs=1e-3)
        assert np.abs(samples).max() > 0.01


async def test_a_model_without_audio_tokens_answers_404(server):
    async with httpx.AsyncClient(base_url=server.http) as client:
        answer = await client.post("/v1/completions", json={"prompt": "tara: Hello."})
    assert answer.status_code == 404
    assert "CHATTERBOX_MODEL=orpheus" in answer.json()["error"]["message"]


async def test_an_interruption_frees_rows_and_place(server):
    engine = server.engine
    async with talking(server, NATIVE) as talk:
        await talk.say(type="session.config", response_format="pcm")
        await talk.say(type="input.text", text=LONG)
        await talk.say(type="input.flush")
        await until(lambda: engine.stats().running_rows > 0)
        await talk.say(type="input.cancel")
        await talk.hear_until(lambda m: not isinstance(m, bytes) and m["type"] == "input.cancelled")
        assert engine.admission.active == 0
        await until(lambda: not engine.stats().running_rows + engine.stats().waiting_rows)


async def test_elevenlabs_alignment_is_as_long_as_the_audio(server):
    path = "/v1/text-to-speech/rms/stream-input?output_format=pcm_16000&sync_alignment=true"
    async with talking(server, path) as talk:
        await talk.say(text=" ")
        await talk.say(text="One sentence here, and it costs $5. ", flush=True)
        await talk.say(text="Another one there. ")
        await talk.say(text="")
        code, heard = await talk.closed()
    assert code == 1000
    times = [m["alignment"] for m in heard if m["alignment"]]
    assert "".join(c for t in times for c in t["chars"]).split() == SENTENCES
    sound = b"".join(base64.b64decode(m["audio"]) for m in heard if m["audio"])
    end_ms = times[-1]["charStartTimesMs"][-1] + times[-1]["charDurationsMs"][-1]
    assert end_ms == pytest.approx(len(sound) / 32, abs=5)


async def test_kyutai_words_and_blocks(server):
    async with talking(server, "/api/tts_streaming?format=PcmMessagePack") as talk:
        for word in ("Numbers", "like", "42", "are", "words", "too."):
            await talk.socket.send(msgpack.packb({"type": "Text", "text": word}))
        await talk.socket.send(msgpack.packb({"type": "Eos"}))
        code, heard = await talk.closed()
    messages = [msgpack.unpackb(m) for m in heard]
    assert code == 1000
    words = [m for m in messages if m["type"] == "Text"]
    assert [w["text"] for w in words] == ["Numbers", "like", "42", "are", "words", "too."]
    blocks = [m["pcm"] for m in messages if m["type"] == "Audio"]
    assert words[-1]["stop_s"] <= len(blocks) * 0.08 + 1e-6


async def test_yap_twice_on_one_socket(server):
    async with talking(server, "/ws/tts") as talk:
        for _ in range(2):
            await talk.say(text="Hello there, dear listener.", voice="tara", seed=5)
            heard = await talk.hear_until(lambda m: m == b"__END__")
            assert len(b"".join(heard[:-1])) > 24_000
