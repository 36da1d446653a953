"""ElevenLabs' own client against a live server."""

import base64
import itertools
import json
import re

import httpx
import numpy as np
import pytest
import soxr
from dialects.live import TEXT, Gate, clip, decoded, likeness, live
from elevenlabs import AsyncElevenLabs, ElevenLabs, UnprocessableEntityError
from elevenlabs.core import ApiError
from harness import PIECE_SAMPLES, FakeEngine

from chatterbox.dialects.elevenlabs.http import OUTPUT_FORMATS
from chatterbox.dialects.shared.voice_names import ELEVENLABS_VOICES
from chatterbox.errors import GenerationFailed

LONG = (
    "The first sentence is here, and it is about 12 words long. "
    "Dr. Smith paid $3.50 for it at 9:30. " * 3
).strip()
RAW = {"pcm": "s16le", "ulaw": "mulaw", "alaw": "alaw"}


@pytest.fixture
def client(address):
    with httpx.Client(timeout=60) as http:
        yield ElevenLabs(base_url=address, api_key="none", httpx_client=http)


def natively(address: str, text: str) -> np.ndarray:
    call = {"text": text, "voice_id": "slt", "response_format": "pcm", "seed": 11}
    data = httpx.post(f"{address}/tts", json=call).content
    return np.frombuffer(data, "<i2") / np.float32(32768)


@pytest.fixture(scope="module")
def said(address) -> np.ndarray:
    return natively(address, TEXT)


@pytest.fixture(scope="module")
def greeting(address) -> np.ndarray:
    return at_8_khz(natively(address, "Hello there."), 24000)


def heard(data: bytes, output_format: str) -> np.ndarray:
    """Decode at 8 kHz, which every format can be resampled to."""
    name, rate_hz = output_format.split("_")[:2]
    raw = (RAW[name], int(rate_hz)) if name in RAW else ()
    samples, rate = decoded(data, *raw)
    assert rate == int(rate_hz)
    return at_8_khz(samples, rate)


def at_8_khz(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    return soxr.resample(samples, rate_hz, 8000)


@pytest.mark.parametrize("name", [n for n in OUTPUT_FORMATS if n[-3:] not in ("_96", "192")])
def test_every_output_format_is_the_same_speech(client, greeting, name):
    pieces = client.text_to_speech.convert("slt", text="Hello there.", output_format=name, seed=11)
    assert likeness(heard(b"".join(pieces), name), greeting) > 0.9


def test_mp3_44100_128_is_the_default(address, said):
    answer = httpx.post(f"{address}/v1/text-to-speech/slt/stream", json={"text": TEXT, "seed": 11})
    assert answer.headers["content-type"] == "audio/mpeg"
    assert answer.headers["request-id"] == answer.headers["x-request-id"]
    assert answer.headers["character-cost"] == str(len(TEXT))
    assert answer.headers["maximum-concurrent-requests"] == "8"
    assert likeness(heard(answer.content, "mp3_44100_128"), at_8_khz(said, 24000)) > 0.9
    assert len(answer.content) * 8 / (len(said) / 24000) == pytest.approx(128_000, rel=0.1)


async def test_async_streaming(address, said):
    async with httpx.AsyncClient(timeout=60) as http:
        client = AsyncElevenLabs(base_url=address, api_key="none", httpx_client=http)
        stream = client.text_to_speech.stream(
            "slt", text=TEXT, output_format="pcm_24000", model_id="eleven_turbo_v2_5", seed=11
        )
        data = b"".join([piece async for piece in stream])
    assert likeness(heard(data, "pcm_24000"), at_8_khz(said, 24000)) > 0.9


def test_the_first_chunk_comes_before_synthesis_ends():
    gate = Gate()
    engine = FakeEngine(script=[*[PIECE_SAMPLES] * 4, gate, PIECE_SAMPLES])
    with live(engine) as server, httpx.Client() as http:
        client = ElevenLabs(base_url=server.http, api_key="x", httpx_client=http)
        pieces = client.text_to_speech.stream("slt", text="Hello.", output_format="pcm_24000")
        data = next(pieces)
        assert engine.delivered < 5
        gate.opened.set()
        data += b"".join(pieces)
    assert len(data) == 5 * PIECE_SAMPLES * 2


def test_premade_voices_stand_for_built_in_voices(client, address):
    """Call as ElevenLabs' quickstart does, at this server's address."""

    def spoken(voice_id: str) -> bytes:
        sound = client.text_to_speech.convert(
            voice_id=voice_id,
            text="Hello there.",
            model_id="eleven_multilingual_v2",
            output_format="pcm_24000",
            seed=11,
        )
        return b"".join(sound)

    for premade, ours in (("JBFqnCBsd6RMkjVDRZzb", "awb"), ("21m00Tcm4TlvDq8ikWAM", "slt")):
        assert spoken(premade) == spoken(ours)
        assert client.voices.get(premade).name == ours
        assert client.voices.settings.get(premade).stability == 0.5
    own = f"{address}/voices/rms/aliases/JBFqnCBsd6RMkjVDRZzb"
    httpx.put(own).raise_for_status()
    try:
        assert spoken("JBFqnCBsd6RMkjVDRZzb") == spoken("rms")
    finally:
        httpx.delete(own).raise_for_status()


def test_premade_ids_are_valid_and_map_to_built_in_voices():
    assert [voice for voice in ELEVENLABS_VOICES if not re.fullmatch(r"[a-z0-9]{20}", voice)] == []
    assert set(ELEVENLABS_VOICES.values()) == {"slt", "rms", "awb", "kal16"}


# --- times


def check(alignment, text: str, audio_s: float) -> None:
    assert "".join(alignment.characters) == text
    starts = alignment.character_start_times_seconds
    ends = alignment.character_end_times_seconds
    assert len(alignment.characters) == len(starts) == len(ends)
    assert starts == sorted(starts)
    assert all(start <= end for start, end in zip(starts, ends, strict=True))
    assert all(end == start for end, start in zip(ends, starts[1:], strict=False))
    assert audio_s - 0.002 <= ends[-1] <= audio_s


@pytest.mark.parametrize("text", [TEXT, LONG, "One. [pause:1s] Two. [pause:0.5s]"])
def test_whole_with_timestamps(client, text):
    answer = client.text_to_speech.convert_with_timestamps(
        "slt", text=text, output_format="pcm_24000"
    )
    audio_s = len(base64.b64decode(answer.audio_base_64)) / 48_000
    check(answer.alignment, text, audio_s)
    normalised = "".join(answer.normalized_alignment.characters)
    check(answer.normalized_alignment, normalised, audio_s)
    if text == LONG:
        assert "Doctor Smith paid three dollars" in normalised


@pytest.mark.parametrize("speed", [0.7, 1.2])
def test_times_at_another_speed(client, speed):
    answer = client.text_to_speech.convert_with_timestamps(
        "slt", text=TEXT, output_format="pcm_24000", voice_settings={"speed": speed}
    )
    check(answer.alignment, TEXT, len(base64.b64decode(answer.audio_base_64)) / 48_000)


@pytest.mark.parametrize(
    "name", ["mp3_44100_128", pytest.param("pcm_44100", marks=pytest.mark.slow)]
)
def test_streamed_with_timestamps(client, name):
    lines = list(client.text_to_speech.stream_with_timestamps("slt", text=LONG, output_format=name))
    data = b"".join(base64.b64decode(line.audio_base_64) for line in lines)
    samples, rate_hz = decoded(data, *(("s16le", 44100) if name.startswith("pcm") else ()))
    timed = [line.alignment for line in lines if line.alignment]
    assert len(timed) > 1  # each segment's as soon as it is known
    first = next(at for at, line in enumerate(lines) if line.alignment)
    heard = sum(len(base64.b64decode(line.audio_base_64)) for line in lines[:first])
    assert heard < len(data) / 2
    starts = [t for alignment in timed for t in alignment.character_start_times_seconds]
    ends = [t for alignment in timed for t in alignment.character_end_times_seconds]
    assert "".join(c for alignment in timed for c in alignment.characters) == LONG
    assert starts == sorted(starts)  # one clock, from the beginning of the answer
    assert ends[-1] == pytest.approx(len(samples) / rate_hz, abs=0.1)


@pytest.mark.slow
def test_lines_are_short_enough_for_aiohttp(address):
    call = {"text": LONG}
    query = "?output_format=pcm_48000"
    answer = httpx.post(
        f"{address}/v1/text-to-speech/slt/stream/with-timestamps{query}", json=call, timeout=60
    )
    lines = answer.content.splitlines()
    assert max(map(len, lines)) < 128 * 1024
    assert all(json.loads(line)["audio_base64"] for line in lines)


# --- errors, and what is ignored


def test_errors_have_elevenlabs_shape(client, address):
    with pytest.raises(ApiError) as caught:
        list(client.text_to_speech.convert("nobody", text="Hello."))
    assert caught.value.status_code == 404
    assert caught.value.body["detail"]["status"] == "voice_not_found"
    with pytest.raises(UnprocessableEntityError) as invalid:
        list(client.text_to_speech.convert("slt", text="Hello.", output_format="mp3_1_1"))
    (detail,) = invalid.value.body["detail"]
    assert detail["loc"] == ["body", "output_format"]
    assert "mp3_44100_128" in detail["msg"]
    for text, status in (("", "input_text_empty"), ("a" * 5001, "max_character_limit_exceeded")):
        with pytest.raises(ApiError) as caught:
            list(client.text_to_speech.stream("slt", text=text))
        assert caught.value.status_code == 400
        assert caught.value.body["detail"]["status"] == status
    missing = httpx.post(f"{address}/v1/text-to-speech/slt", json={})
    assert missing.status_code == 422
    assert missing.json()["detail"][0]["loc"] == ["body", "text"]
    assert httpx.get(f"{address}/v1/voices/x/y/z").json()["detail"]["status"] == "not_found"


def test_busy_and_broken():
    engine = FakeEngine(script=[PIECE_SAMPLES, GenerationFailed("The model failed.")])
    with live(engine) as server, httpx.Client() as http:
        client = ElevenLabs(base_url=server.http, api_key="x", httpx_client=http)
        with pytest.raises(httpx.RemoteProtocolError):  # not a short file
            list(client.text_to_speech.stream("slt", text="Hello."))
        with pytest.raises(ApiError) as caught:
            list(client.text_to_speech.convert("slt", text="Hello."))
        assert caught.value.body["detail"]["status"] == "generation_failed"
        engine.admission.active, engine.admission.queue_capacity = engine.admission.capacity, 0
        answer = http.post(f"{server.http}/v1/text-to-speech/slt", json={"text": "Hello."})
        assert (answer.status_code, answer.json()["detail"]["status"]) == (429, "system_busy")


def test_ignored_fields_are_named(address):
    call = {
        "text": "Hello.",
        "model_id": "eleven_v3",
        "voice_settings": {"stability": 0.4, "speed": 1.1, "style": None},
        "previous_text": "Before.",
        "next_request_ids": None,
        "apply_text_normalization": "auto",
        "language_code": "de",
    }
    answer = httpx.post(f"{address}/v1/text-to-speech/slt", json=call)
    assert answer.headers["x-ignored-params"] == (
        "previous_text, voice_settings.stability, language_code"
    )
    call = {"text": "Hello.", "language_code": "en-US", "voice_settings": {"speed": 1.0}}
    answer = httpx.post(f"{address}/v1/text-to-speech/slt", json=call)
    assert "x-ignored-params" not in answer.headers


# --- voices, models, user


def test_a_voice_is_created_edited_and_deleted(client):
    made = client.voices.ivc.create(
        name="eleven", files=[("a.wav", clip("rms"), "audio/wav"), ("b.wav", b"x", "audio/wav")]
    )
    assert made.requires_verification is False
    voice = client.voices.get(made.voice_id)
    assert (voice.name, voice.category, voice.settings.speed) == ("eleven", "cloned", 1.0)
    data = b"".join(client.text_to_speech.convert(made.voice_id, text="Hello."))
    assert len(data) > 5000
    assert client.voices.update(made.voice_id, name="twelve").status == "ok"
    assert client.voices.get("twelve").voice_id == made.voice_id
    found = client.voices.search(search="TWEL", voice_type="personal", category="cloned")
    assert [one.voice_id for one in found.voices] == [made.voice_id]
    assert client.voices.delete(made.voice_id).status == "ok"
    with pytest.raises(ApiError):
        client.voices.get(made.voice_id)


def test_lists_and_pages(client):
    everyone = [voice.voice_id for voice in client.voices.get_all().voices]
    pages, token = [], None
    while True:
        page = client.voices.search(page_size=2, next_page_token=token)
        assert page.total_count == len(everyone)
        pages.append([voice.voice_id for voice in page.voices])
        token = page.next_page_token
        if not page.has_more:
            break
    assert list(itertools.chain(*pages)) == everyone
    names = [voice.name for voice in client.voices.search(sort="name", page_size=100).voices]
    assert names == sorted(names)
    with pytest.raises(UnprocessableEntityError):
        client.voices.search(next_page_token="x")
    with pytest.raises(UnprocessableEntityError):
        client.voices.search(page_size=0)


def test_calls_that_clients_make_before_they_speak(client):
    (model,) = client.models.list()
    assert (model.model_id, model.can_do_text_to_speech) == ("mini", True)
    assert model.languages[0].language_id == "en"
    assert client.user.get().subscription.character_limit > 10**6
    assert client.user.subscription.get().status == "active"
    assert client.voices.settings.get("slt").stability == 0.5
    assert client.voices.settings.get_default().stability == 0.5
    assert client.voices.settings.update("slt", request={"stability": 0.1}).status == "ok"
    with pytest.raises(ApiError) as caught:
        client.voices.delete("slt")
    assert caught.value.body["detail"]["status"] == "voice_protected"
