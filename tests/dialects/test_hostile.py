"""Invalid input to every dialect: a status below 500, in its error shape, without the input."""

import json

import pytest
from harness import FakeEngine, serving

from chatterbox.dialects import sillytavern
from chatterbox.dialects.elevenlabs import http as elevenlabs
from chatterbox.dialects.openai import speech as openai

SPEECH = {
    "/v1/audio/speech": openai.SpeechFields,
    "/v1/text-to-speech/slt": elevenlabs.SpeechFields,
    "/v1/text-to-speech/slt/stream/with-timestamps": elevenlabs.SpeechFields,
    "/tts_to_audio/": sillytavern.SpeechFields,
    "/tts_stream": sillytavern.SpeechFields,
    "/tts": sillytavern.SpeechFields,
}
BASE = {"text": "Hello.", "input": "Hello.", "output_format": "wav", "speaker_embedding": [115.0]}
VALUES = [
    "null",
    "true",
    "-1",
    "NaN",
    "1e999",
    "99999999999999999999999",
    '""',
    '"\\ud800"',
    '"\\u0000\\r\\nX-Evil: 1"',
    "[]",
    "{}",
    '{"id": {"id": 1}}',
    '{"speed": [], "stability\\r\\n": 1, "\\ud800": 2}',
    '["/etc/shadow"]',
]
FORMS = (
    "/v1/audio/voices",
    "/v1/audio/voice_consents",
    "/v1/voices/add",
    "/v1/voices/slt/edit",
    "/upload_reference",
    "/clone_speaker",
    "/set_tts_settings",
)


def check(answer) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        body = answer.json()
        assert body.keys() in ({"error"}, {"detail"})
        assert "shadow" not in answer.text
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize("path", SPEECH)
async def test_any_value_in_any_field(path):
    fields = [*SPEECH[path].model_fields, "unknown", "model_id\r\n"]
    async with serving(FakeEngine()) as client:
        for field in fields:
            for value in VALUES:
                rest = {name: said for name, said in BASE.items() if name != field}
                raw = json.dumps(rest)[:-1] + f", {json.dumps(field)}: {value}}}"
                headers = {"content-type": "application/json"}
                check(await client.post(path, content=raw, headers=headers))
        assert client.engine.open_streams == 0


@pytest.mark.parametrize("path", [*SPEECH, *FORMS])
async def test_invalid_bodies(path):
    async with serving(FakeEngine()) as client:
        for content, kind in (
            (b"", "application/json"),
            (b"[1]", "application/json"),
            (b"\xff", "application/json"),
            (b"x", "text/plain"),
            (b"text=%FF", "application/x-www-form-urlencoded"),
            (b"x", "multipart/form-data; boundary=y"),
        ):
            answer = await client.post(path, content=content, headers={"content-type": kind})
            check(answer)
            assert answer.status_code >= 400


@pytest.mark.parametrize("path", FORMS[:-1])
async def test_forms_with_a_missing_or_wrong_file(path):
    async with serving(FakeEngine()) as client:
        check(await client.post(path, data={"name": "x", "labels": "{" * 500}))
        check(await client.post(path, files={"wrong": ("../../a", b"RIFF")}, data={"name": "x"}))
        check(await client.post(path, files={"files": ("\x00\n../..", b"RIFF")}, data={"name": ""}))
        check(await client.post(path, files=[("files", ("a", b"RIFF"))] * 40))


@pytest.mark.parametrize("path", ["/v2/voices", "/v1/audio/voice_consents", "/tts-stream"])
async def test_invalid_addresses(path):
    async with serving(FakeEngine()) as client:
        for query in (
            "page_size=x&limit=-1",
            "limit=0",
            "after=nothing",
            "text=a&text=b",
            "next_page_token=" + "9" * 300,
            "search=%00%FF",
            "seed=" + "9" * 5000,
            "sort=1",
        ):
            check(await client.get(f"{path}?{query}"))


async def test_invalid_ids():
    async with serving(FakeEngine()) as client:
        for name in ("..%2f..%2fetc", "%00", "a" * 5000, "%F0%9F%98%80", "slt%20"):
            for path in ("/v1/voices/", "/v1/audio/voices/", "/v1/audio/voice_consents/"):
                check(await client.get(path + name))
                check(await client.delete(path + name))
            check(await client.post(f"/v1/text-to-speech/{name}", json={"text": "a"}))
            check(await client.get(f"/v1/models/{name}"))
