"""Calls of xtts-api-server's and Coqui's clients, as in their sources."""

import base64
import io

import soundfile
from harness import FakeEngine, error_of, serving

CALL = {"text": "Hello there.", "speaker_wav": "slt", "language": "en"}


async def test_xtts_api_server():
    async with serving() as client:
        assert (await client.get("/speakers")).json() == [
            {"name": "slt", "voice_id": "slt", "preview_url": ""}
        ]
        assert (await client.get("/speakers_list")).json() == ["slt"]
        assert (await client.get("/languages")).json() == {"languages": {"English": "en"}}
        settings = await client.post("/set_tts_settings", json={"temperature": 1, "top_k": 5})
        assert settings.headers["x-ignored-params"] == "temperature, top_k"
        answer = await client.post("/tts_to_audio/", json={**CALL, "speaker_wav": "slt.wav"})
        assert len(soundfile.read(io.BytesIO(answer.content))[0]) == 4800
        for path in ("/tts_stream", "/tts_stream/"):
            answer = await client.get(path, params={**CALL, "language": "fr"})
            assert len(answer.content) == 44 + 9600
            assert answer.headers["x-ignored-params"] == "language"
        answer = await client.post("/tts_to_audio", json={**CALL, "speaker_wav": "gone"})
        assert (answer.status_code, list(answer.json())) == (404, ["detail"])


async def test_coqui():
    async with serving() as client:
        answer = await client.post("/clone_speaker", files={"wav_file": b"RIFF1234"})
        latents = answer.json()
        assert latents.keys() == {"gpt_cond_latent", "speaker_embedding"}
        call = {"text": "Hello.", "language": "en", "stream_chunk_size": "20", **latents}
        streamed = await client.post("/tts_stream", json=call)
        assert (streamed.content[:4], len(streamed.content)) == (b"RIFF", 44 + 9600)
        bare = await client.post("/tts_stream", json={**call, "add_wav_header": False})
        assert bare.content == streamed.content[44:]
        whole = await client.post("/tts", json=call)
        assert len(soundfile.read(io.BytesIO(base64.b64decode(whole.json())))[0]) == 4800
        assert client.engine.voices.looked_up[-3:] == ["v8"] * 3
        studio = (await client.get("/studio_speakers")).json()
        await client.post("/tts_stream", json={**call, **studio["slt"]})
        assert client.engine.voices.looked_up[-1] == "slt"


async def test_latents_of_another_server_are_refused():
    async with serving(FakeEngine()) as client:
        for numbers in ([0.5, 0.25], [], [1.0], [300.0], [115.0] * 65):
            call = {"text": "a", "speaker_embedding": numbers, "gpt_cond_latent": [numbers]}
            answer = await client.post("/tts_stream", json=call)
            assert (answer.status_code, list(answer.json())) == (422, ["detail"])
            error_of(
                await client.post("/tts", json=call), 422, "invalid_value", "speaker_embedding"
            )
        answer = await client.post("/clone_speaker", data={"a": "b"})
        assert answer.status_code == 422
