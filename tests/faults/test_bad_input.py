"""Fault table, section B: invalid JSON, numbers and texts."""

import json
import time
from contextlib import suppress

import psutil
import pytest
from faults.harness import LONG_TEXT, SECRET, SHORT, running
from harness import error_of

from chatterbox.audio.encode import FORMATS
from chatterbox.audio.shaping import Loudness
from chatterbox.errors import EmptyText
from chatterbox.text import SegmentLimits, prepare

JSON = {"content-type": "application/json"}
SAID = f"A {SECRET}."
ELEVEN = "/v1/text-to-speech/slt"
FLOATS = ["temperature", "top_p", "repetition_penalty", "speed", "loudness"]
NUMBERS = {  # path → the text's field, and its fields that are numbers
    "/tts": ("text", [*FLOATS, "top_k", "seed", "max_new_tokens"]),
    "/tts/json": ("text", FLOATS),
    "/v1/audio/speech": ("input", ["temperature", "top_p", "repetition_penalty", "speed"]),
    ELEVEN: ("text", ["voice_settings.speed"]),
    "/api/tts_streaming": ("text", ["temperature"]),
}
NO_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"]


def with_field(text_field: str, field: str, value: str) -> str:
    outer, _, inner = field.partition(".")
    told = f'{{"{inner}": {value}}}' if inner else value
    return f'{{"{text_field}": "{SAID}", "{outer}": {told}}}'


def strict(answer) -> dict:
    """Return the body, which must be strict JSON."""
    return json.loads(answer.content, parse_constant=lambda word: 1 / 0)


async def test_f06_invalid_numbers(rig):
    async with rig.fault():
        for path, (text_field, fields) in NUMBERS.items():
            for field in fields:
                for value in NO_NUMBERS:
                    raw = with_field(text_field, field, value)
                    answer = await rig.client.post(path, content=raw, headers=JSON)
                    assert answer.status_code == 422, (path, field, value)
                    named = field.split(".")[-1]
                    body = strict(answer)
                    if "error" in body:
                        assert body["error"]["code"] == "invalid_value"
                        assert body["error"]["param"] == field
                    else:
                        assert body["detail"][0]["loc"][-1] == named
        for field in NUMBERS["/tts"][1]:
            answer = await rig.client.post("/tts", data={"text": SAID, field: "NaN"})
            error_of(answer, 422, "invalid_value", field)


async def test_f07_lone_surrogates(rig):
    lone = '"\\ud800"'
    async with rig.fault():
        for path, field in (("/tts", "text"), ("/v1/audio/speech", "input"), (ELEVEN, "text")):
            raw = f'{{"{field}": "{SAID} \\udfff"}}'
            answer = await rig.client.post(path, content=raw, headers=JSON)
            assert answer.status_code == 422
            assert "invalid_text" in answer.text
        for field in ("seed", "temperature", "stream", "voice_id", "response_format"):
            raw = f'{{"text": "{SAID}", "{field}": {lone}}}'
            answer = await rig.client.post("/tts", content=raw, headers=JSON)
            code = "invalid_text" if field in ("voice_id", "response_format") else "invalid_value"
            error_of(answer, 422, code, field)
        answer = await rig.client.post("/tts", content=r'{"\ud800": 1}', headers=JSON)
        error_of(answer, 422, "unknown_field", r"\ud800")


BINARY = bytes(range(256)) + SECRET.encode()
NO_BODIES = [
    (BINARY, "application/json", 400),
    (b'{"text": "\xff' + SECRET.encode() + b'"}', "application/json", 400),
    (b"", "application/json", 400),
    (b"", "", 400),
    (BINARY, "multipart/form-data; boundary=x", 400),
    (b"--x\r\n" + BINARY, "multipart/form-data; boundary=x", 400),
    (BINARY, "multipart/form-data", 400),
    (BINARY, "application/x-www-form-urlencoded", 400),
    (BINARY, "application/octet-stream", 415),
    (b'{"text": "a"}', "text/plain", 415),
    (b'{"text": "a"}', "application/json/x", 415),
    (b"<text>a</text>", "application/xml", 415),
    (b"[1]", "application/json", 400),
    (b'"text"', "application/json; charset=utf8", 400),
    (b'"text"', "application/json; charset=latin-1", 415),
    (b"text=%FF", "application/x-www-form-urlencoded", 400),
    (b"&".join(b"f%d=1" % i for i in range(99)), "application/x-www-form-urlencoded", 400),
]


async def test_f08_invalid_bodies(rig):
    async with rig.fault():  # I6 looks for the bytes in the log
        for path in ("/tts", "/v1/audio/speech", ELEVEN, "/tts_to_audio/"):
            for content, kind, status in NO_BODIES:
                headers = {"content-type": kind}
                answer = await rig.client.post(path, content=content, headers=headers)
                assert answer.status_code == status, (path, content[:20], kind)
                assert SECRET not in answer.text


async def test_f09_deeply_nested_and_long_bodies(rig):
    async with rig.fault():
        for raw in ("[" * 100_000, '{"a":' * 20_000, '{"seed": ' + "9" * 5_000 + "}"):
            answer = await rig.client.post("/tts", content=raw, headers=JSON)
            error_of(answer, 400, "invalid_body")
        for seed in (2**64, 2**32, -1, 1.5, True, "7", [7], {"a": 7}):
            error_of(await rig.speak(seed=seed), 422, "invalid_value", "seed")
        for seed in ("18446744073709551616", "-1", "1.5", "9" * 400):
            answer = await rig.client.post("/tts", data={"text": SAID, "seed": seed})
            error_of(answer, 422, "invalid_value", "seed")
        for seed in (0, 2**32 - 1):
            assert (await rig.speak(seed=seed)).status_code == 200


EMOJI = "\U0001f600\U0001f44d\U0001f3fd\U0001f469\u200d\U0001f467"
NOTHING = [
    "",
    " \t\n",
    "...",
    "?!—",
    EMOJI,
    "\u200d\u200b",
    "\ufeff",
    "\u00ad",
    "(((",
    "[pause 1s]",
]


async def test_f10_texts_without_words(rig):
    async with rig.fault():
        for text in NOTHING:
            error_of(await rig.speak(text), 422, "empty_text", "text")
            answer = await rig.client.post("/v1/audio/speech", json={"input": text})
            if text.strip():  # clients that cut at punctuation send such pieces
                assert answer.status_code == 200
            else:
                error_of(answer, 422, "empty_text", "input")
    begun = rig.model.begun
    for text in NOTHING:
        await rig.speak(text)
    assert rig.model.begun == begun, "the engine was asked"


async def test_f11_too_long_texts(tmp_path):
    limit = len(LONG_TEXT)  # of the golden request
    async with running(tmp_path, max_text_length=limit) as rig, rig.fault():
        text = (f"{SECRET} " * limit)[:limit]
        assert (await rig.speak(text, max_new_tokens=8)).status_code == 200
        error_of(await rig.speak(text + "a"), 422, "text_too_long", "text")
        # What is counted are characters, however they are sent.
        escaped = json.dumps(SHORT | {"text": "\U0001f600" * (limit - 2) + "a."})
        answer = await rig.client.post("/tts", content=escaped, headers=JSON)
        assert answer.status_code == 200
        before = psutil.Process().memory_info().rss

        piece, count = b'{"text": "' + b"a" * 65_526, 763

        async def endless():
            for _ in range(count):  # 50 MB
                yield piece

        for length in ({}, {"content-length": str(count * len(piece))}):
            answer = await rig.client.post("/tts", content=endless(), headers=JSON | length)
            error_of(answer, 413, "body_too_large")
        assert psutil.Process().memory_info().rss - before < 16 * 2**20


HOSTILE = {
    "digits": "1",
    "dots": ".",
    "brackets": "(",
    "combining marks": "a" + "\u0301" * 9,
    "Zalgo": "h\u0300\u0316\u0345e\u0301\u0317\u0346 ",
    "one word": "a",
}


async def test_f12_hostile_texts(rig):
    async with rig.fault():
        for name, unit in HOSTILE.items():
            answer = await rig.speak((unit * 300)[:300], max_new_tokens=8)
            assert answer.status_code in (200, 422), name


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_f12_hostile_texts_take_linear_time(name):
    """With 16 times the text, quadratic work would take 256 times as long: a wide margin for a
    machine whose speed varies."""
    unit = HOSTILE[name]

    def least_s(chars: int) -> float:
        times = []
        for _ in range(5):
            began = time.process_time()
            with suppress(EmptyText):
                prepare((unit * chars)[:chars], SegmentLimits())
            times.append(time.process_time() - began)
        return min(times)

    assert least_s(200_000) <= 2.5 * 16 * least_s(12_500)


STRANGE = [
    f"{SECRET}\x00 one",
    f"{SECRET}\x1b[31m one",
    f"{SECRET}\r\nSet-Cookie: a=b\r\n\r\none",
    f"\u202e{SECRET} one\u202c",
    f"{SECRET}\u2028one\u2029two",
    f"{SECRET}\x85one\x0bone\x0c",
]


async def test_f13_control_characters(rig):
    async with rig.fault():
        for text in STRANGE:
            answer = await rig.speak(text)
            assert answer.status_code == 200, repr(text)
            assert "set-cookie" not in answer.headers
        for name in ("a\r\nX-Evil: 1", "a\x00", "a\u2028b", "\x1b[31m"):
            answer = await rig.speak(voice_id=name)
            error_of(answer, 404, "voice_not_found", "voice_id")
            assert "x-evil" not in answer.headers
        for word in ("a b", "é", "a" * 65, 'x"y'):
            answer = await rig.client.get("/voices", headers={"x-request-id": word.encode()})
            assert answer.headers["x-request-id"].startswith("req-")
        assert not [line for line in rig.log.lines if set(line) & set("\n\r\x00\x1b\u2028\x85")]


MARKUP = [
    "<speak><break time='9999s'/>hello</speak>",
    "<script>alert(1)</script> hello",
    "hello <|endoftext|> hello",
    "hello [STOP] [START] [laugh] <s> </s>",
    "{{hello}} ${hello} %s %n hello",
    "'; DROP TABLE voices; -- hello",
]


async def test_f14_markup_is_read_as_text(rig):
    async with rig.fault():
        for text in MARKUP:
            assert (await rig.speak(text)).status_code == 200, text


async def test_f15_unknown_fields(rig):
    async with rig.fault():
        error = error_of(await rig.speak(tempreture=1), 422, "unknown_field", "tempreture")
        assert error["message"] == "There is no field 'tempreture'; did you mean 'temperature'?"
        long = "<script>" * 50
        error_of(await rig.speak(**{long: 1}), 422, "unknown_field", long[:61] + "...")
        answer = await rig.client.post("/tts", data={"text": SAID, "voice_url": "file:///etc"})
        error_of(answer, 422, "unknown_field", "voice_url")
        body = {"input": SAID, "model": "tts-1", "voice": "alloy", "tempreture": 1}
        answer = await rig.client.post("/v1/audio/speech", json=body)
        assert (answer.status_code, answer.headers["x-ignored-params"]) == (200, "tempreture")


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.slow)])
async def test_f16_shortest_texts(rig, count):
    cap_samples = 24_000 * rig.engine.max_tokens / 25
    async with rig.fault():
        for number in range(count):
            answer = await rig.speak(("a", "Hi!", "I", "7")[number % 4], seed=number)
            assert answer.status_code == 200
            assert 0 < len(answer.content) / 2 <= cap_samples


BOUNDS = {  # field → inside, outside
    "sampling": {
        "temperature": ((0, 0.001, 5), (-0.001, 5.001)),
        "top_p": ((0.001, 0.5, 1), (0, -1, 1.001)),
        "top_k": ((0, 6563), (-1, 1_000_001, 1.5)),
        "repetition_penalty": ((0.5, 5), (0.49, 5.01)),
        "max_new_tokens": ((8,), (7, 4097)),
        "seed": ((0, 2**32 - 1), (-1, 2**32)),
    },
    "sound": {
        "speed": ((0.5, 2), (0, -1, 100)),
        "loudness": ((-50, -5), (-50.1, -4.9)),
        "sample_rate": ((8000, 24000, 44100), (0, -1, 44101, 1e9)),
        "stream": ((True, False), (1, "maybe")),
    },
    "formats": {"response_format": (FORMATS, ("WAV", "exe", ""))},
}


@pytest.mark.parametrize("kind", BOUNDS)
async def test_f19_values_out_of_range(rig, kind):
    Loudness(-20.0)  # what it imports when first needed takes seconds on a busy machine
    async with rig.fault():
        for field, (inside, outside) in BOUNDS[kind].items():
            for value in inside:
                answer = await rig.speak("Hi!", **{field: value})
                assert answer.status_code == 200, (field, value, answer.text)
            for value in outside:
                error_of(await rig.speak("Hi!", **{field: value}), 422, "invalid_value", field)
