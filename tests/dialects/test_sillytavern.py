"""Calls of SillyTavern's Chatterbox provider, as in its source."""

import io

import numpy as np
import pytest
import soundfile
from dialects.live import decoded
from harness import FakeEngine, error_of, serving

CALL = {
    "text": "Hello there.",
    "voice_mode": "predefined",
    "temperature": 0.8,
    "exaggeration": 0.5,
    "cfg_weight": 0.5,
    "seed": 77,
    "speed_factor": 1.0,
    "language": "en",
    "split_text": True,
    "chunk_size": 120,
    "output_format": "wav",
    "predefined_voice_id": "slt",
}


async def test_json_on_tts_is_told_from_native_json():
    async with serving() as client:
        answer = await client.post("/tts", json=CALL)
        assert answer.headers["content-type"] == "audio/wav"
        samples, rate_hz = soundfile.read(io.BytesIO(answer.content))  # with its true length
        assert (len(samples), rate_hz) == (4800, 24000)
        assert answer.headers["x-ignored-params"] == "exaggeration, cfg_weight"
        (request,) = client.engine.requests
        assert (request.seed, request.sampling.temperature) == (77, 0.8)
        error_of(
            await client.post("/tts", json={"text": "a", "exaggeration": 1}),
            422,
            "unknown_field",
            "exaggeration",
        )


@pytest.mark.parametrize("output_format", ["wav", "opus", "mp3"])
async def test_streaming_has_its_fields_in_the_address(output_format):
    query = {name: str(value) for name, value in CALL.items()}
    query |= {"seed": "-1", "output_format": output_format}
    async with serving() as client:
        answer = await client.get("/tts-stream", params=query)
        samples, rate_hz = decoded(answer.content)
        assert np.abs(samples).max() > 0.2
        assert abs(len(samples) * 24000 / rate_hz - 4800) < 2500
        assert client.engine.requests[0].seed == int(answer.headers["x-seed"])


async def test_voice_names_may_have_a_file_suffix():
    async with serving() as client:
        mine = ("files", ("My Voice.wav", b"RIFF1234", "audio/wav"))
        answer = await client.post("/upload_reference", files=[mine])
        assert answer.json()["uploaded_files"] == ["My Voice"]
        assert (await client.get("/get_predefined_voices")).json() == [
            {"display_name": "slt", "filename": "slt"}
        ]
        assert (await client.get("/get_reference_files")).json() == ["My Voice"]
        voices = client.engine.voices
        for given, wanted in (
            ({"predefined_voice_id": "slt.wav"}, "slt"),
            ({"predefined_voice_id": "S1"}, None),
            ({"voice_mode": "clone", "reference_audio_filename": "My Voice"}, "v8"),
            ({"voice_mode": "clone", "reference_audio_filename": "My Voice.mp3"}, "v8"),
        ):
            assert (await client.post("/tts", json={**CALL, **given})).status_code == 200
            assert voices.looked_up[-1] == wanted


async def test_fields_without_effect_are_named():
    asked = {
        **CALL,
        "speed_factor": 1.5,
        "language": "de",
        "exaggeration": None,
        "cfg_weight": None,
    }
    async with serving() as client:
        answer = await client.post("/tts", json=asked)
        assert answer.headers["x-ignored-params"] == "language"
        assert client.engine.requests[0].speed == 1.5


async def test_errors():
    async with serving(FakeEngine()) as client:
        answer = await client.get("/tts-stream", params={**CALL, "predefined_voice_id": "gone"})
        assert answer.status_code == 404
        assert isinstance(answer.json()["detail"], str)
        answer = await client.get("/tts-stream", params={"text": ["a", "b"]})
        assert (answer.status_code, list(answer.json())) == (422, ["detail"])
        assert (await client.get("/")).status_code == 200  # its check that the server is there
        assert (await client.post("/upload_reference", data={"a": "b"})).status_code == 422
