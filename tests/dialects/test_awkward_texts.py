"""Calls of all dialects with texts that once caused errors, and with texts without words."""

import io

import httpx
import numpy as np
import openai
import pytest
import soundfile
from elevenlabs.client import ElevenLabs

AWKWARD = [
    "Is this the chapter I've lost?",
    "The Super Bowl LIX's halftime show began.",
    "That is Part IIII of it, and Section IV.B too.",
    "King James VI.The next one came.",
    "Hello" + "–" * 274 + "world.",
    "Look: \\frac{1}{² and $x_{ too.",
]
WORDLESS = ["---", "😀", "**", "|---|", "…", "```\nx = 1\n```", "<think>Hm.</think>", "[pause:1s]"]
SILENT_SAMPLES = 2400


@pytest.mark.parametrize(
    "text", [AWKWARD[0], *(pytest.param(text, marks=pytest.mark.slow) for text in AWKWARD[1:])]
)
def test_every_call_speaks_an_awkward_text(address, text):
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none") as client:
        call = {"model": "tts-1", "voice": "slt", "input": text, "response_format": "pcm"}
        assert np.abs(np.frombuffer(client.audio.speech.create(**call).content, "<i2")).max() > 500
    with httpx.Client(timeout=60) as http:
        client = ElevenLabs(base_url=address, api_key="none", httpx_client=http)
        form = {"voice_id": "slt", "text": text, "output_format": "pcm_24000"}
        sound = b"".join(client.text_to_speech.convert(**form))
        assert np.abs(np.frombuffer(sound, "<i2")).max() > 500
    assert httpx.post(f"{address}/tts", json={"text": text}).status_code == 200


def silent_calls(text: str) -> dict[str, dict]:
    wav = {"output_format": "wav", "voice_mode": "predefined", "predefined_voice_id": "slt"}
    return {
        "/v1/audio/speech": {"input": text, "voice": "slt", "response_format": "wav"},
        "/v1/text-to-speech/slt?output_format=wav_24000": {"text": text},
        "/v1/text-to-speech/slt/stream?output_format=wav_24000": {"text": text},
        "/tts": {"text": text, **wav},
        "/tts_to_audio/": {"text": text, "speaker_wav": "slt", "language": "en"},
        "/api/tts_streaming": {"text": text},
    }


@pytest.mark.parametrize("text", WORDLESS)
def test_text_without_words_is_a_short_silence_in_compatible_calls(address, text):
    for path, call in silent_calls(text).items():
        answer = httpx.post(address + path, json=call)
        assert answer.status_code == 200, (path, answer.text)
        samples, rate_hz = soundfile.read(io.BytesIO(answer.content))
        assert (len(samples), rate_hz, np.abs(samples).max()) == (SILENT_SAMPLES, 24_000, 0), path
    timed = httpx.post(f"{address}/v1/text-to-speech/slt/with-timestamps", json={"text": text})
    assert (timed.status_code, timed.json()["alignment"]) == (200, None)
    query = {"text": text, "speaker_wav": "slt", "language": "en"}
    assert httpx.get(f"{address}/tts_stream", params=query).status_code == 200


def test_text_without_words_is_an_error_in_native_calls_and_empty_text_everywhere(address):
    for text in (*WORDLESS, "", " \n"):
        answer = httpx.post(f"{address}/tts", json={"text": text})
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "empty_text")
    for path, call in silent_calls(" ").items():
        assert httpx.post(address + path, json=call).status_code in (400, 422), path


def test_an_unknown_voice_is_an_error_whatever_the_text(address):
    call = {"input": "---", "voice": "nobody"}
    assert httpx.post(f"{address}/v1/audio/speech", json=call).status_code == 404


def test_silence_is_a_file_in_every_format_and_in_events(address):
    for form in ("mp3", "opus", "flac", "aac", "wav", "pcm"):
        call = {"input": "---", "response_format": form}
        assert httpx.post(f"{address}/v1/audio/speech", json=call).content, form
    call = {"input": "---", "stream_format": "sse"}
    events = httpx.post(f"{address}/v1/audio/speech", json=call).text
    assert "speech.audio.done" in events
