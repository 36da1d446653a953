"""`/tts` and `/tts/json`: content types, formats, streaming and errors."""

import io
import json

import av
import numpy as np
import pytest
from harness import PIECE_SAMPLES, SPEECH, FakeEngine, error_of, serving

from chatterbox.engine.sampler import Sampling
from chatterbox.errors import EngineDead, GenerationFailed, InvalidText

WAV = ("clip.wav", b"RIFF....", "audio/wav")
UNKNOWN_SIZE = 0xFFFFFFFF


def sound(response) -> np.ndarray:
    assert response.status_code == 200, response.text
    with av.open(io.BytesIO(response.content)) as file:
        return np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])


@pytest.mark.parametrize(
    "sent",
    [
        {"json": SPEECH},
        {"data": SPEECH},
        {"data": SPEECH, "files": {"voice_file": WAV}},
        {"files": {name: (None, str(value)) for name, value in SPEECH.items()}},
    ],
    ids=["json", "form", "multipart with a file", "multipart"],
)
async def test_every_content_type_gets_streamed_wav(sent):
    async with serving() as client:
        response = await client.post("/tts", **sent)
        assert response.headers["content-type"] == "audio/wav"
        assert response.headers["x-sample-rate"] == "24000"
        assert response.headers["x-seed"] == "7"
        assert response.headers["x-request-id"].startswith("req-")
        assert "content-length" not in response.headers
        assert int.from_bytes(response.content[40:44], "little") == UNKNOWN_SIZE
        assert len(response.content) == 44 + 2 * 2 * PIECE_SAMPLES
        [request] = client.engine.requests
        assert (request.text, request.seed) == (SPEECH["text"], 7)
        assert request.voice.key == (
            "temporary" if "voice_file" in sent.get("files", {}) else "slt"
        )
        assert client.engine.open_streams == 0
        assert client.engine.admission.active == 0


async def test_whole_response_has_true_sizes_and_report_headers():
    async with serving() as client:
        response = await client.post("/tts", json={**SPEECH, "stream": False})
        assert len(sound(response)) == 2 * PIECE_SAMPLES
        assert response.headers["content-length"] == str(len(response.content))
        assert int.from_bytes(response.content[40:44], "little") == 4 * PIECE_SAMPLES
        assert response.headers["x-audio-duration"] == "0.200"
        assert response.headers["x-generation-time"] == "0.020"
        assert response.headers["x-rtf"] == "0.1000"
        assert response.headers["x-tokens-generated"] == "10"


@pytest.mark.parametrize("stream", ["true", "false"])
async def test_other_formats(stream):
    async with serving() as client:
        form = {**SPEECH, "stream": stream}
        pcm = await client.post("/tts", data={**form, "response_format": "pcm"})
        assert pcm.headers["content-type"] == "audio/pcm"
        assert pcm.content == np.full(2 * PIECE_SAMPLES, round(0.25 * 32767), "<i2").tobytes()
        flac = await client.post("/tts", data={**form, "response_format": "flac"})
        assert flac.headers["content-type"] == "audio/flac"
        assert flac.headers["content-disposition"] == 'inline; filename="speech.flac"'
        assert len(sound(flac)) == 2 * PIECE_SAMPLES


async def test_json_report_without_audio():
    async with serving() as client:
        response = await client.post("/tts/json", data=SPEECH)
        body = response.json()
        assert body.pop("request_id") == response.headers["x-request-id"]
        assert body == {
            "audio_duration": 0.2,
            "generation_time": 0.02,
            "rtf": 0.1,
            "tokens_generated": 10,
            "segments": 1,
            "first_audio": 0.01,
            "finish_reason": "stop",
            "sample_rate": 24000,
            "seed": 7,
        }


async def test_sampling_fields_override_the_defaults():
    async with serving() as client:
        await client.post(
            "/tts", json={**SPEECH, "top_k": 5, "temperature": 0, "max_new_tokens": 9}
        )
        await client.post("/tts", data={**SPEECH, "top_k": "", "top_p": "0.5"})
        first, second = client.engine.requests
        assert first.sampling == Sampling(0.0, 5, 0.95, 1.2)
        assert first.max_new_tokens == 9
        assert second.sampling == Sampling(0.8, 1000, 0.5, 1.2)
        assert second.max_new_tokens is None


async def test_random_seed_is_reported():
    async with serving() as client:
        seeds = set()
        for _ in range(3):
            response = await client.post("/tts", json={"text": "Hello."})
            seeds.add(int(response.headers["x-seed"]))
        assert len(seeds) == 3
        assert {request.seed for request in client.engine.requests} == seeds


async def test_raw_utf8_in_a_form_is_decoded():
    async with serving() as client:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        await client.post("/tts", content="text=Grüße+%C3%BC".encode(), headers=headers)
        assert client.engine.requests[0].text == "Grüße ü"


async def test_control_characters_do_not_reach_headers():
    text = "a\x00b\x1b[31mc\r\nX-Evil: 1\u202e\u2028d"
    async with serving() as client:
        response = await client.post("/tts", json={"text": text})
        assert response.status_code == 200
        assert "x-evil" not in response.headers
        assert client.engine.requests[0].text == text


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (GenerationFailed("no"), 500),
        (EngineDead("gone", retry_after_s=1.2), 503),
        (ValueError("secret /path"), 500),
    ],
)
async def test_error_before_the_first_sound_has_its_status(stream, fault, status):
    async with serving(FakeEngine(script=[fault])) as client:
        response = await client.post("/tts", json={**SPEECH, "stream": stream})
        code = getattr(fault, "code", "internal_error")
        error_of(response, status, code)
        assert "secret" not in response.text
        if code == "engine_dead":
            assert response.headers["retry-after"] == "2"
        assert client.engine.open_streams == 0
        assert client.engine.admission.active == 0


async def test_error_after_leading_silence_has_its_status():
    engine = FakeEngine()

    class Pausing:
        """A stream that raises after a leading pause."""

        def __init__(self, stream):
            self._stream = stream
            self.report = stream.report

        async def __aenter__(self):
            return self

        async def __aexit__(self, *exception):
            pass

        async def __aiter__(self):
            yield np.zeros(100, np.float32)
            raise GenerationFailed("no")

    speak = engine.speak
    engine.speak = lambda *given: Pausing(speak(*given))
    async with serving(engine) as client:
        error_of(await client.post("/tts", json=SPEECH), 500, "generation_failed")


async def test_no_sound_is_an_error():
    async with serving(FakeEngine(script=[])) as client:
        error_of(await client.post("/tts", json=SPEECH), 500, "generation_failed")


async def test_text_and_voice_errors():
    async with serving(max_text_length=50) as client:
        post = client.post
        error_of(await post("/tts", json={"text": "..."}), 422, "empty_text", "text")
        error_of(await post("/tts", json={"text": " \n"}), 422, "empty_text", "text")
        error_of(await post("/tts", data={"text": ""}), 422, "empty_text", "text")
        error_of(await post("/tts", json={"text": "a" * 51}), 422, "text_too_long", "text")
        assert (await post("/tts", json={"text": "a" * 50})).status_code == 200
        error_of(await post("/tts", json={"text": "a" * 9999}), 422, "text_too_long", "text")
        error_of(await post("/tts", json={"text": "a" * 200_000}), 413, "body_too_large")
        unknown = {"text": "a", "voice_id": "../x"}
        error_of(await post("/tts", json=unknown), 404, "voice_not_found", "voice_id")
        both = {"data": {**SPEECH, "voice_id": "slt"}, "files": {"voice_file": WAV}}
        error_of(await post("/tts", **both), 422, "invalid_value", "voice_id")
        bad = {"data": SPEECH, "files": {"voice_file": ("x.txt", b"no audio")}}
        error_of(await post("/tts", **bad), 415, "unsupported_audio", "voice_file")
        nothing = {"data": SPEECH, "files": {"voice_file": ("x.wav", b"")}}
        error_of(await post("/tts", **nothing), 422, "invalid_value", "voice_file")
        client.engine.text_error = InvalidText("no", param="text")
        error_of(await post("/tts", json=SPEECH), 422, "invalid_text", "text")


async def test_openapi_describes_the_calls():
    async with serving() as client:
        paths = (await client.get("/openapi.json")).json()["paths"]
        body = paths["/tts"]["post"]["requestBody"]["content"]
        assert set(body) == {
            "application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
        }
        assert "voice_file" in body["multipart/form-data"]["schema"]["properties"]
        assert "voice_file" not in body["application/json"]["schema"]["properties"]
        assert (
            "422" not in paths["/voices/{voice_id}"]["get"]["responses"]
        )  # not FastAPI's own error shape
        assert "detail" not in json.dumps(paths)


async def test_code_blocks_field_is_passed_on():
    async with serving() as client:
        for wanted in ("skip", "speak", None):
            fields = {"code_blocks": wanted} if wanted else {}
            assert (await client.post("/tts", json={"text": "a"} | fields)).status_code == 200
            assert (await client.post("/tts", data={"text": "a"} | fields)).status_code == 200
            answer = await client.post("/v1/audio/speech", json={"input": "a"} | fields)
            assert answer.status_code == 200
            assert answer.headers.get("x-ignored-params") is None
            assert client.engine.code_blocks[-3:] == [wanted] * 3
        for path, name in (("/tts", "text"), ("/v1/audio/speech", "input")):
            answer = await client.post(path, json={name: "a", "code_blocks": "read"})
            error_of(answer, 422, "invalid_value", "code_blocks")


@pytest.mark.parametrize(("path", "field"), [("/tts", "text"), ("/v1/audio/speech", "input")])
@pytest.mark.parametrize("stream", [True, False])
async def test_unknown_tags_are_listed_in_a_header(path, field, stream):
    async with serving() as client:
        text = "[giggle] Well, [laugh] and [Sigh]."
        answer = await client.post(path, json={field: text, "stream": stream})
        assert answer.headers["x-unknown-tags"] == "giggle, Sigh"
        answer = await client.post(path, json={field: "[laugh] Well.", "stream": stream})
        assert "x-unknown-tags" not in answer.headers
