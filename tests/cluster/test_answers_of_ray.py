"""Ray's own errors reach clients in the server's error format."""

import asyncio

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from chatterbox.cluster.proxy import RayAnswers


def refused(status: int, **headers: str):
    return PlainTextResponse("Request dropped due to backpressure", status, headers)


async def nothing(scope, receive, send):
    """An application that ends without an answer."""


async def asked(app, path: str = "/tts") -> httpx.Response:
    transport = httpx.ASGITransport(RayAnswers(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get(path, headers={"X-Request-ID": "mine"})


@pytest.mark.parametrize(
    ("app", "status", "code", "retry"),
    [
        (refused(429, **{"Retry-After": "7"}), 429, "overloaded", "7"),
        (refused(503), 503, "not_ready", "5"),
        (refused(404), 503, "not_ready", "5"),
        (refused(408), 504, "deadline_exceeded", "5"),
        (nothing, 503, "engine_dead", "5"),
    ],
)
async def test_rays_refusals_have_our_format_and_retry_after(app, status, code, retry):
    answer = await asked(app)
    assert (answer.status_code, answer.headers["Retry-After"]) == (status, retry)
    error = answer.json()["error"]
    assert (error["code"], error["request_id"]) == (code, "mine")


async def test_rays_refusals_have_the_shape_of_the_dialect():
    answer = await asked(refused(429), "/v1/text-to-speech/slt")
    assert "detail" in answer.json()


async def test_answers_of_replicas_and_rays_own_paths_are_not_changed():
    ours = {"X-Content-Type-Options": "nosniff"}
    for app, path in ((refused(404, **ours), "/tts"), (refused(503), "/-/healthz")):
        answer = await asked(app, path)
        assert answer.text == "Request dropped due to backpressure"


async def test_a_request_has_one_id():
    answer = PlainTextResponse("fine")
    answer.raw_headers += [(b"x-request-id", b"a"), (b"X-Request-ID", b"b")]
    assert (await asked(answer)).headers.get_list("X-Request-ID") == ["a"]


async def test_a_replica_that_ends_in_mid_answer_cuts_the_connection():
    sent = []

    async def half(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async def send(message):
        sent.append(message)

    await RayAnswers(half)({"type": "http", "path": "/", "headers": []}, asyncio.Event().wait, send)
    assert [message.get("more_body") for message in sent] == [None, True]


def test_a_socket_whose_replica_ends_is_closed_with_1012():
    async def accepts(scope, receive, send):
        await WebSocket(scope, receive, send).accept()

    with TestClient(RayAnswers(accepts)).websocket_connect("/v1/x") as socket:
        with pytest.raises(WebSocketDisconnect) as told:
            socket.receive_text()
        assert told.value.code == 1012


@pytest.mark.parametrize(("app", "status"), [(refused(429), 429), (nothing, 503)])
def test_a_socket_is_refused_like_a_request(app, status):
    with pytest.raises(WebSocketDenialResponse) as denied:
        TestClient(RayAnswers(app)).websocket_connect("/v1/x").__enter__()
    assert denied.value.status_code == status
