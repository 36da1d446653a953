"""Invalid requests (section B of the fault table)."""

import pytest
from harness import error_of, serving
from pydantic.fields import FieldInfo

from chatterbox.config import TTSConfig
from chatterbox.server.schemas import SpeechFields


def bounds(field: FieldInfo) -> list[object]:
    return [m for m in field.metadata if type(m).__name__ in ("Ge", "Gt", "Le", "Lt")]


@pytest.mark.parametrize("name", ["temperature", "top_k", "top_p", "repetition_penalty"])
def test_call_fields_have_the_same_bounds_as_settings(name):
    assert bounds(SpeechFields.model_fields[name]) == bounds(TTSConfig.model_fields[name])


async def test_too_large_recording_is_refused():
    async with serving(max_voice_file_size=2048) as client:
        post = client.post
        too_big = {"voice_file": ("a.wav", b"RIFF" + bytes(2048))}
        error_of(await post("/voices/register", files=too_big), 413, "body_too_large", "voice_file")
        huge = {"voice_file": ("a.wav", b"RIFF" + bytes(300_000))}
        error_of(await post("/voices/register", files=huge), 413, "body_too_large")


async def test_body_without_content_length_is_limited():
    async def endless():
        while True:
            yield b"text=" + b"a" * 4096

    async with serving() as client:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        response = await client.post("/tts", content=endless(), headers=headers)
        error_of(response, 413, "body_too_large")


@pytest.mark.parametrize("charset", ["rot13", "idna", "punycode", "utf-7", "undefined", "nonsense"])
async def test_unknown_charset_is_refused(charset):
    body = b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\n\xff\xfe--x\r\n--x--\r\n'
    headers = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
    async with serving() as client:
        response = await client.post("/tts", content=body, headers=headers)
        error_of(response, 415, "unsupported_media_type")
