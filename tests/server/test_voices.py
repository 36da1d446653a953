"""Voices over HTTP: long lists, and registrations interrupted by a shutdown or a deletion."""

import asyncio
import json
import threading
import time
from pathlib import Path

import pytest
from harness import FakeEngine, error_of, report_of, serving, until
from starlette.responses import Response

from chatterbox.errors import VoiceNotFound
from chatterbox.server import voice_service
from chatterbox.server.request_log import PART_BYTES, RequestLog, native_shape
from chatterbox.server.status_routes import without_directories
from chatterbox.server.voice_service import to_json
from chatterbox.voices.names import VoiceInfo

WAV = {"voice_file": ("me.wav", b"RIFFfour", "audio/wav")}
LISTS = (
    "/voices",
    "/v1/voices",
    "/v1/audio/voices",
    "/v1/audio/voices?format=names",
    "/speakers",
    "/speakers_list",
    "/studio_speakers",
    "/get_reference_files",
)


def many(engine: FakeEngine, count: int) -> None:
    for number in range(count):
        name = f"voice {number} ü"
        aliases = (f"a {number}", f"b {number}")
        report = report_of(("x: y",))
        info = VoiceInfo(f"v-{number:020x}", name, aliases, 2.0, False, report)
        engine.voices.infos[info.voice_id] = info


# --- interrupted registrations


async def test_f90_registration_running_at_sigterm_is_answered():
    async with serving() as client:
        register, begun = client.engine.voices.register, []

        def slow(*given):
            begun.append(1)
            while not client.lifecycle.is_draining:
                time.sleep(0.001)
            return register(*given)

        client.engine.voices.register = slow
        asked = asyncio.create_task(client.post("/voices/register", files=WAV))
        await until(lambda: begun)
        client.lifecycle.drain()
        answer = await asked
        assert (answer.status_code, answer.json()["voice_id"]) == (201, "v8")
        late = await client.post("/voices/register", files=WAV)
        error_of(late, 503, "draining")


@pytest.mark.parametrize(
    "path",
    ["/voices/register", "/v1/audio/voices", "/v1/voices/add", "/clone_speaker"],
)
async def test_f90_voice_deleted_right_after_registration_counts_as_registered(path):
    fields = {
        "/voices/register": "voice_file",
        "/v1/audio/voices": "audio_sample",
        "/v1/voices/add": "files",
        "/clone_speaker": "wav_file",
    }
    async with serving() as client:

        def gone(_wanted):
            raise VoiceNotFound("There is no such voice.", param="voice_id")

        client.engine.voices.get = gone
        files = {fields[path]: ("me.wav", b"RIFFfour", "audio/wav")}
        data = {} if path == "/clone_speaker" else {"name": "me"}
        answer = await client.post(path, files=files, data=data)
        assert answer.status_code in (200, 201)


async def test_f87_voice_file_size_is_limited_before_it_is_read():
    async with serving() as client:
        files = {"voice_file": ("x.voice", b"x" * (9 << 20))}
        error_of(await client.post("/voices/import", files=files), 413, "body_too_large")
        assert client.engine.admission.active == 0


# --- lists


@pytest.mark.parametrize("path", LISTS)
async def test_cached_list_follows_every_change(path):
    async with serving() as client:
        many(client.engine, 2)
        first = await client.get(path)
        assert first.headers["content-type"] == "application/json"
        assert first.content == (await client.get(path)).content
        info = client.engine.voices.infos.pop("v-00000000000000000000")
        assert (await client.get(path)).content != first.content
        client.engine.voices.infos[info.voice_id] = info  # now the last one
        again = (await client.get(path)).content
        assert sorted(again) == sorted(first.content)


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"a": []},
        [{}, [], "x", None, 1.5, {"a": {"b": [1, {"c": "ü"}]}}],
        {"a": [1, 2], "ü": {"b": None, 'q"': True}},
        "alone",
        [[[[1]]]],
    ],
)
def test_piecewise_json_equals_json_dumps(value):
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert to_json(value) == written.encode()


@pytest.mark.parametrize("path", LISTS)
async def test_f92_long_list_does_not_block_the_event_loop(path, monkeypatch):
    """A thread encodes it piece by piece, so that the event loop can run in between."""
    sizes, threads, dumped = [], set(), voice_service.dump

    def noted(value):
        sizes.append(len(dumped(value)))
        threads.add(threading.current_thread())
        return dumped(value)

    monkeypatch.setattr(voice_service, "dump", noted)
    async with serving() as client:
        many(client.engine, 1000)
        answers = await asyncio.gather(*(client.get(path) for _ in range(4)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert max(sizes) < 1000
        assert sum(sizes) < 1.1 * len(answers[0].content)  # once
        assert threading.main_thread() not in threads


async def test_f92_list_is_encoded_once_for_concurrent_requests():
    calls = []

    def render(voices):
        calls.append(1)
        return [info.name for info in voices]

    async with serving() as client:
        many(client.engine, 3)
        voices = client.app.services.voices
        bodies = await asyncio.gather(*(voices.list_json("names", render) for _ in range(9)))
        assert len(set(bodies)) == len(calls) == 1


async def test_f92_large_response_is_sent_in_parts():
    sent = []

    async def send(message):
        sent.append(message)

    body = b"x" * (3 * PART_BYTES + 1)
    scope = {"type": "http", "path": "/", "query_string": b"", "http_version": "1.1", "headers": []}
    log = RequestLog(
        Response(body), on_end=lambda record: None, shape_for=lambda path: native_shape
    )
    await log(scope, None, send)
    assert sent[0]["status"] == 200
    assert (b"content-length", str(len(body)).encode()) in sent[0]["headers"]
    assert [len(part["body"]) for part in sent[1:]] == [*[PART_BYTES] * 3, 1]
    assert [part["more_body"] for part in sent[1:]] == [True, True, True, False]


async def test_pages_of_voices():
    async with serving() as client:
        many(client.engine, 7)
        everyone = [one["voice_id"] for one in (await client.get("/voices")).json()["voices"]]
        found, query = [], "?limit=3"
        while query:
            page = (await client.get(f"/voices{query}")).json()
            assert page["default_voice"] == "slt"
            found += [one["voice_id"] for one in page["voices"]]
            query = f"?limit=3&after={found[-1]}" if page["has_more"] else ""
        assert found == everyone
        error_of(await client.get("/voices?limit=0"), 422, "invalid_value", "limit")
        error_of(await client.get("/voices?limit=9999"), 422, "invalid_value", "limit")
        error_of(await client.get("/voices?after=nobody"), 404, "voice_not_found", "after")
        assert "has_more" not in (await client.get("/voices?anything=else")).json()


# --- facts about the server


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("/srv/data/models/a--b/onnx/x.onnx is missing", "models/a--b/onnx/x.onnx is missing"),
        ("/opt/m/x.onnx is no ONNX file; delete it", "x.onnx is no ONNX file; delete it"),
        ("Load model from '/a/b c.onnx' failed", "Load model from 'b c.onnx' failed"),
        ("a/b cannot be reached at https://hub.example/a/b", None),
        ("either/or, 24 kHz/16 bits, and/or", None),
        (r"C:\data\models\x.onnx is missing", "x.onnx is missing"),
    ],
)
def test_f95_paths_are_reduced_to_file_names(said, told):
    assert without_directories(said, Path("/srv/data")) == (told or said)


async def test_f95_health_has_no_paths_and_few_skipped_voices():
    import dataclasses

    engine = FakeEngine()
    reason = f"{engine.config.data_dir}/models/x/onnx/model.onnx is missing"
    engine.info = dataclasses.replace(engine.info, fallback=reason, notes=("see /opt/x/y.log",))
    engine.voices.skipped = tuple((f"bad {n}", "meta.json is empty") for n in range(5000))
    async with serving(engine) as client:
        body = (await client.get("/health")).json()
        assert body["fallback"] == "models/x/onnx/model.onnx is missing"
        assert body["notes"] == ["see y.log"]
        assert len(body["skipped_voices"]) == 100


async def test_recording_of_a_voice_can_be_downloaded():
    async with serving() as client:
        answer = await client.get("/voices/slt/recording")
        assert (answer.headers["content-type"], answer.content) == ("audio/flac", b"fLaCslt")
        error_of(await client.get("/voices/nobody/recording"), 404, "voice_not_found", "voice_id")
