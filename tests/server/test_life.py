"""Places, deadlines and disconnects, with a fake engine."""

import asyncio

import pytest
from harness import (
    PIECE_SAMPLES,
    SPEECH,
    FakeEngine,
    error_of,
    put_forward,
    server_config,
    serving,
    until,
)

from chatterbox.dialects.registry import DIALECTS
from chatterbox.server.app import create_app

NEVER = 3600.0


@pytest.mark.parametrize(
    ("stream", "limit"), [(True, "first_audio_timeout_s"), (False, "request_timeout_s")]
)
async def test_no_sound_before_the_deadline_is_504(stream, limit):
    engine = FakeEngine(script=[NEVER])
    async with serving(engine, **{limit: 0.05}) as client:
        response = await client.post("/tts", json={**SPEECH, "stream": stream})
        error_of(response, 504, "deadline_exceeded")
        assert (engine.open_streams, engine.admission.active) == (0, 0)


async def test_whole_response_has_no_first_sound_deadline():
    gate = asyncio.Event()
    engine = FakeEngine(script=[gate, PIECE_SAMPLES])
    async with serving(engine, first_audio_timeout_s=0.05) as client:
        whole = asyncio.create_task(client.post("/tts", json={**SPEECH, "stream": False}))
        await asyncio.sleep(0.1)
        gate.set()
        assert (await whole).status_code == 200


async def test_whole_response_past_its_deadline_is_504():
    engine = FakeEngine(script=[PIECE_SAMPLES, NEVER])
    async with serving(engine, request_timeout_s=0.05) as client:
        response = await client.post("/tts", json={**SPEECH, "stream": False})
        error_of(response, 504, "deadline_exceeded")
        error_of(await client.post("/tts/json", json=SPEECH), 504, "deadline_exceeded")


class Caller:
    """A raw ASGI request whose client can disconnect."""

    def __init__(self, app, body: bytes, path: str = "/tts", *, more_body: bool = False) -> None:
        self.messages: list[dict] = []
        self.left = asyncio.Event()
        self._body: list[dict] = [{"type": "http.request", "body": body, "more_body": more_body}]
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
        }
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> dict:
        if self._body:
            return self._body.pop()
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict) -> None:
        self.messages.append(message)

    async def leave(self) -> None:
        self.left.set()
        async with asyncio.timeout(60):
            await self.task


async def test_streamed_audio_extends_the_deadline():
    """A client that reads at the speed of speech is not cut off."""
    script = [PIECE_SAMPLES * 300, lambda: put_forward(35), PIECE_SAMPLES]
    async with serving(FakeEngine(script=script), request_timeout_s=10) as client:
        assert (await client.post("/tts", json=SPEECH)).status_code == 200


async def test_fault_in_mid_stream_is_logged_and_cuts_the_response(caplog):
    engine = FakeEngine(script=[PIECE_SAMPLES, ValueError("a bug")])
    caller = Caller(create_app(engine, server_config(), DIALECTS), b'{"text": "a"}')
    async with asyncio.timeout(60):
        await caller.task
    assert caller.messages[-1]["more_body"]
    assert "a bug" in caplog.text
    assert engine.admission.active == 0


async def test_stalled_body_is_408(monkeypatch):
    monkeypatch.setattr("chatterbox.server.body.STALL_S", 0.05)

    async def stalling():
        yield b'{"text": '
        await asyncio.sleep(NEVER)

    async with serving() as client:
        headers = {"content-type": "application/json"}
        response = await client.post("/tts", content=stalling(), headers=headers)
        error_of(response, 408, "body_timeout")


@pytest.mark.parametrize("path", ["/tts", "/tts/json"])
@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"text": "Hello.", "voice_id": "nobody"}, (404, "voice_not_found", "voice_id")),
        ({"text": "?!"}, (422, "empty_text", "text")),
    ],
)
async def test_invalid_request_is_refused_without_waiting_for_a_place(path, fields, error):
    gate = asyncio.Event()
    engine = FakeEngine(script=[gate, PIECE_SAMPLES], capacity=1, queue_capacity=1)
    async with serving(engine) as client:
        speaking = asyncio.create_task(client.post("/tts", json=SPEECH))
        await until(lambda: engine.requests)
        error_of(await client.post(path, json=fields), *error)
        assert engine.admission.queued == 0
        waiting = asyncio.create_task(client.post("/tts", json=SPEECH))
        await until(lambda: engine.admission.queued)
        error_of(await client.post("/tts", json=fields), 429, "overloaded")
        gate.set()
        assert [(await each).status_code for each in (speaking, waiting)] == [200, 200]
    assert len(engine.requests) == 2
