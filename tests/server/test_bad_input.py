"""FAULTS B: what is not JSON, not a number, not a field, not a body."""

import json
import logging

import pytest
from harness import SPEECH, error_of, serving
from pydantic.fields import FieldInfo

from chatterbox.audio.encode import FORMATS
from chatterbox.config import TTSConfig
from chatterbox.server.schemas import SpeechFields

JSON = {"content-type": "application/json"}
NUMBERS = ["temperature", "top_k", "top_p", "repetition_penalty", "seed", "max_new_tokens"]


async def post_json(client, raw: str | bytes):
    content = raw.encode() if isinstance(raw, str) else raw
    return await client.post("/tts", content=content, headers=JSON)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("field", NUMBERS)
async def test_f06_numbers_that_are_none(field, value):
    async with serving() as client:
        response = await post_json(client, f'{{"text": "a", "{field}": {value}}}')
        error_of(response, 422, "invalid_value", field)
        response = await client.post("/tts", data={"text": "a", field: value})
        error_of(response, 422, "invalid_value", field)
        assert client.engine.requests == []


async def test_f07_lone_surrogates():
    async with serving() as client:
        response = await post_json(client, r'{"text": "a\ud800b"}')
        error_of(response, 422, "invalid_text", "text")
        response = await post_json(client, r'{"text": "a", "voice_id": "\udfff"}')
        error_of(response, 422, "invalid_text", "voice_id")
        response = await post_json(client, r'{"text": "a", "seed": "\ud800"}')
        error_of(response, 422, "invalid_value", "seed")
        response = await post_json(client, r'{"text": "a", "\ud800": 1}')
        error_of(response, 422, "unknown_field", r"\ud800")


@pytest.mark.parametrize(
    ("content", "kind", "status", "code"),
    [
        (b"\x80\xff\x00", "application/json", 400, "invalid_body"),
        (b'{"text": "\xff"}', "application/json", 400, "invalid_body"),
        (b"", "application/json", 400, "invalid_body"),
        (b"{", "application/json", 400, "invalid_body"),
        (b"[1]", "application/json", 400, "invalid_body"),
        (b'"text"', "application/json; charset=utf8", 400, "invalid_body"),
        (b'"text"', "application/json; charset=latin-1", 415, "unsupported_media_type"),
        (b"[" * 100_000, "application/json", 400, "invalid_body"),
        (b'{"seed": ' + b"9" * 5_000 + b"}", "application/json", 400, "invalid_body"),
        (b'{"text": "a"}', "text/plain", 415, "unsupported_media_type"),
        (b'{"text": "a"}', "image/png", 415, "unsupported_media_type"),
        (b'{"text": "a"}', "", 415, "unsupported_media_type"),
        (b"", "", 400, "invalid_body"),
        (b"text=%FF", "application/x-www-form-urlencoded", 400, "invalid_body"),
        (b"text=\xff", "application/x-www-form-urlencoded", 400, "invalid_body"),
        (
            b"&".join(b"f%d=1" % i for i in range(99)),
            "application/x-www-form-urlencoded",
            400,
            "invalid_body",
        ),
        (b"text=a&text=b", "application/x-www-form-urlencoded", 422, "invalid_value"),
        (b"nothing here", "multipart/form-data", 400, "invalid_body"),
        (b"nothing here", "multipart/form-data; boundary=x", 400, "invalid_body"),
    ],
)
async def test_f08_f09_bodies_that_are_none(content, kind, status, code, caplog):
    caplog.set_level(logging.DEBUG)
    async with serving() as client:
        response = await client.post("/tts", content=content, headers={"content-type": kind})
        param = "text" if code == "invalid_value" else None
        error_of(response, status, code, param)
        assert "nothing here" not in caplog.text
        assert len([r for r in caplog.records if r.name == "chatterbox.requests"]) == 1


async def test_f56_compressed_bodies_are_not_read():
    async with serving() as client:
        response = await client.post("/tts", json=SPEECH, headers={"content-encoding": "gzip"})
        error_of(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "seed", ["18446744073709551616", "4294967296", "-1", "1.5", "true", '"7"', "9" * 400]
)
async def test_f09_seeds_out_of_bounds(seed):
    async with serving() as client:
        response = await post_json(client, f'{{"text": "a", "seed": {seed}}}')
        error_of(response, 422, "invalid_value", "seed")
        if seed != '"7"':  # in a form every value is a string
            response = await client.post("/tts", data={"text": "a", "seed": seed})
            error_of(response, 422, "invalid_value", "seed")


async def test_f15_an_unknown_field_is_named_with_the_one_that_was_meant():
    async with serving() as client:
        response = await client.post("/tts", json={**SPEECH, "tempreture": 1})
        error = error_of(response, 422, "unknown_field", "tempreture")
        assert error["message"] == "There is no field 'tempreture'; did you mean 'temperature'?"
        response = await client.post("/tts", data={**SPEECH, "voice_url": "file:///etc/passwd"})
        error_of(response, 422, "unknown_field", "voice_url")
        long_name = "<script>" * 50
        error = error_of(
            await client.post("/tts", json={**SPEECH, long_name: 1}),
            422,
            "unknown_field",
            long_name[:61] + "...",
        )


@pytest.mark.parametrize(
    ("field", "inside", "outside"),
    [
        ("temperature", [0, 5, 0.0], [-0.001, 5.001, "x", None.__class__.__name__]),
        ("top_k", [0, 6563], [-1, 6564, 1.5]),
        ("top_p", [0.0001, 1], [0, 1.0001]),
        ("repetition_penalty", [0.5, 5], [0.49, 5.01]),
        ("max_new_tokens", [8, 4096], [7, 4097]),
        ("seed", [0, 2**32 - 1], [-1, 2**32]),
        ("response_format", list(FORMATS), ["WAV", "exe", ""]),
        ("sample_rate", [8000, 24000, 44100], [0, -1, 44101, 1e9]),
        ("stream", [True, False], [1, "maybe"]),
    ],
)
async def test_f19_bounds(field, inside, outside):
    async with serving() as client:
        for value in inside:
            response = await client.post("/tts", json={"text": "a", field: value})
            assert response.status_code == 200, (field, value, response.text)
        for value in outside:
            response = await client.post("/tts", json={"text": "a", field: value})
            error_of(response, 422, "invalid_value", field)


def bounds(field: FieldInfo) -> list[object]:
    return [m for m in field.metadata if type(m).__name__ in ("Ge", "Gt", "Le", "Lt")]


@pytest.mark.parametrize("name", ["temperature", "top_k", "top_p", "repetition_penalty"])
def test_a_calls_bounds_are_those_of_the_settings(name):
    assert bounds(SpeechFields.model_fields[name]) == bounds(TTSConfig.model_fields[name])


async def test_f67_forms():
    wav = ("voice_file", ("a.wav", b"RIFF", "audio/wav"))
    async with serving(max_voice_file_size=2048) as client:
        post = client.post
        response = await post("/voices/register", files=[wav, wav])
        error_of(response, 422, "invalid_value", "voice_file")
        response = await post("/voices/register", data={"name": "x"})
        error_of(response, 422, "invalid_value", "voice_file")
        response = await post("/voices/register", files=[wav, ("other", ("b", b"x"))])
        error_of(response, 422, "unknown_field", "other")
        response = await post("/voices/register", files=[wav], data={"nam": "x"})
        error_of(response, 422, "unknown_field", "nam")
        response = await post("/voices/register", files={"voice_file": (None, "RIFF")})
        error_of(response, 422, "unknown_field", "voice_file")
        parts = [(f"f{i}", (None, "1")) for i in range(40)]
        error_of(await post("/tts", files=parts), 400, "invalid_body")
        too_big = {"voice_file": ("a.wav", b"RIFF" + bytes(2048))}
        error_of(await post("/voices/register", files=too_big), 413, "body_too_large", "voice_file")
        huge = {"voice_file": ("a.wav", b"RIFF" + bytes(300_000))}
        error_of(await post("/voices/register", files=huge), 413, "body_too_large")
        response = await post("/voices/register", files=[wav], data={"name": "x" * 70_000})
        error_of(response, 413, "body_too_large")


async def test_a_body_without_a_length_is_bounded_too():
    async def endless():
        while True:
            yield b"text=" + b"a" * 4096

    async with serving() as client:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        response = await client.post("/tts", content=endless(), headers=headers)
        error_of(response, 413, "body_too_large")


@pytest.mark.parametrize("charset", ["rot13", "idna", "punycode", "utf-7", "undefined", "nonsense"])
async def test_a_strange_charset_is_no_crash(charset):
    body = b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\n\xff\xfe--x\r\n--x--\r\n'
    headers = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
    async with serving() as client:
        response = await client.post("/tts", content=body, headers=headers)
        error_of(response, 415, "unsupported_media_type")


async def test_f79_a_value_is_never_repeated():
    async with serving() as client:
        for field in SpeechFields.model_fields:
            sent = {"text": "a", field: {"secret": "/etc/shadow"}}
            response = await client.post("/tts", content=json.dumps(sent), headers=JSON)
            error_of(response, 422, "invalid_value", field)
            assert "secret" not in response.text
