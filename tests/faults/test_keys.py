"""Fault table, F70 to F72, F80 and F103: API keys, and clients that guess them."""

import ast
import hashlib
import itertools
import re
from pathlib import Path

import pytest
from faults.calls import refusal_of
from faults.harness import KEY, SECRET, running
from harness import FakeEngine, error_of, server_config
from websockets.asyncio.client import connect

from chatterbox.dialects.registry import DIALECTS
from chatterbox.errors import ConfigError, TooManyAttempts
from chatterbox.server import auth as access
from chatterbox.server.auth import MAX_COUNTED, MAX_FAILURES, WINDOW_S, Keyring, LoginThrottle
from chatterbox.server.run import bind, serve

OTHER_KEY = f"other-{SECRET}-0123456789"
PAGE = {"accept": "text/html"}
PUBLIC = {"/health/live", "/health/ready", "/healthz", "/page/{name}"}


def routes(router) -> list[tuple[str, str]]:
    """Return (method, path) of every route; the method of sockets is WS."""
    found = []
    for route in router:
        if (inner := getattr(route, "original_router", None)) is not None:
            found += routes(inner.routes)
        else:
            methods = getattr(route, "methods", None) or {"WS"}
            found += [(method, route.path) for method in methods]
    return found


def refused(response, request: str) -> None:
    """Check for a 401 in the error shape of the path."""
    assert response.status_code == 401, request
    assert response.headers["www-authenticate"].startswith("Bearer"), request
    if response.request.method != "HEAD":
        text = response.text
        assert "invalid_api_key" in text or "key" in response.json()["detail"], request
        assert SECRET not in text


@pytest.fixture
async def locked(tmp_path):
    """Return a server that needs a key."""
    async with running(tmp_path, api_keys=f"{OTHER_KEY}, {KEY}") as rig:
        rig.headers = {"authorization": f"Bearer {KEY}"}
        yield rig


async def test_f70_f80_every_route_needs_a_key(locked):
    async with locked.fault():
        table = routes(locked.app.routes)
        assert len(table) > 70
        for method, pattern in table:
            path = re.sub(r"\{[^}]+\}", "slt", pattern)
            if method == "WS":
                status, body = await refusal_of(locked, path)
                assert (status, "invalid_api_key" in body) == (401, True), path
            elif pattern not in PUBLIC:
                refused(await locked.client.request(method, path, headers={}), path)
        for path in ("/nowhere", "/metrics", "/docs", "/openapi.json", "/page/%2e%2e/metrics"):
            url = locked.client.base_url.copy_with(raw_path=path.encode())
            response = await locked.client.get(url)
            assert response.status_code == (404 if "page" in path else 401), path


async def test_f70_probes_and_the_page_need_no_key(locked):
    async with locked.fault():
        for path in ("/health/live", "/health/ready", "/healthz", "/page/app.js"):
            assert (await locked.client.get(path)).status_code == 200
            assert (await locked.client.post(path)).status_code == 401
        for path in ("/", "/?reference", "/docs"):
            answer = await locked.client.get(path, headers=PAGE)
            assert answer.text.startswith("<!doctype html>")
            refused(await locked.client.get(path, headers={"accept": "*/*"}), path)


KEYS = (
    [("authorization", f"Bearer {KEY}")],
    [("authorization", f"bearer {KEY}")],
    [("authorization", f"Token {KEY}")],
    [("xi-api-key", KEY)],
    [("kyutai-api-key", OTHER_KEY)],
    [("authorization", "Basic cHJveHk6cHJveHk="), ("xi-api-key", KEY)],
    [("authorization", f"Bearer {KEY}"), ("xi-api-key", KEY)],
)
NO_KEYS = (
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": f"Bearer  {KEY}"},
    {"authorization": f"Bearer {KEY}x"},
    {"authorization": f"Bearer {KEY[:-1]}"},
    {"authorization": f"Bearer {KEY.upper()}"},
    {"authorization": KEY},
    {"authorization": f"Basic {KEY}"},
    {"authorization": f"Bearer {KEY}, Bearer {KEY}"},
    {"authorization": "Bearer ключ".encode()},
    {"authorization": b"Bearer \xff\xfe"},
    [("authorization", f"Bearer {KEY}"), ("authorization", "Bearer wrong")],
    [("authorization", f"Bearer {KEY}"), ("xi-api-key", OTHER_KEY)],
    {"x-api-key": KEY},
    {"cookie": f"key={KEY}"},
)


async def test_f70_key_in_each_dialect_s_header(locked):
    async with locked.fault():
        for headers in KEYS:
            assert (await locked.client.get("/voices", headers=headers)).status_code == 200
            path = f"ws://127.0.0.1:{locked.port}/ws/tts"
            async with connect(path, additional_headers=headers):
                pass


async def test_f70_browser_socket_sends_its_key_as_a_subprotocol(locked):
    async with locked.fault():
        url = f"ws://127.0.0.1:{locked.port}/v1/audio/speech/stream"
        words = ["realtime", f"openai-insecure-api-key.{KEY}"]
        async with connect(url, subprotocols=words) as socket:
            assert socket.subprotocol == "realtime"
        words = ["realtime", "openai-insecure-api-key.wrong"]
        assert (await refusal_of(locked, "/v1/audio/speech/stream", subprotocols=words))[0] == 401


async def test_f70_malformed_keys_are_refused(locked):
    async with locked.fault():
        for headers in NO_KEYS:
            response = await locked.client.get("/voices", headers=headers)
            error_of(response, 401, "invalid_api_key")
            refused(response, repr(headers))
        in_address = f"/voices?api_key={KEY}&key={KEY}&authorization=Bearer%20{KEY}"
        error_of(await locked.client.get(in_address), 401, "invalid_api_key")
        assert (await refusal_of(locked, f"/api/tts_streaming?auth_id={KEY}"))[0] == 401


async def test_f70_refusal_has_each_dialect_s_shape(locked):
    async with locked.fault():
        post = locked.client.post
        assert (await post("/v1/text-to-speech/slt")).json()["detail"]["status"] == (
            "invalid_api_key"
        )
        error = (await post("/v1/audio/speech")).json()["error"]
        assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
        assert isinstance((await post("/tts_to_audio/")).json()["detail"], str)
        status, body = await refusal_of(locked, "/v1/text-to-speech/slt/stream-input")
        assert (status, '"status": "invalid_api_key"' in body) == (401, True)


async def test_f70_without_configured_keys_any_key_is_accepted(rig):
    async with rig.fault():
        for headers in ({}, {"authorization": "Bearer anything"}, {"xi-api-key": "anything"}):
            assert (await rig.client.get("/voices", headers=headers)).status_code == 200


def test_f70_wyoming_port_cannot_be_combined_with_keys():
    config = server_config(host="0.0.0.0", api_keys=KEY, wyoming_port=1)
    with bind("127.0.0.1", 0) as sock, pytest.raises(ConfigError, match="Wyoming"):
        serve(FakeEngine(), config, DIALECTS, sock, lambda address: None)


def test_f71_all_keys_are_compared_as_hashes_in_constant_time(monkeypatch):
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(access.hmac, "compare_digest", compare)
    keyring = Keyring(["first-key", "second-key", "third-key"])
    assert [keyring.find(key) for key in (b"first-key", b"third-key", b"none")] == [0, 2, None]
    assert len(compared) == 9, "it stopped at the first that fitted"
    assert all(len(one) == len(other) == hashlib.sha256().digest_size for one, other in compared)
    assert not any(b"key" in part for pair in compared for part in pair)


def test_f71_keys_are_compared_only_in_keyring():
    tree = ast.parse(Path(access.__file__).read_text())
    keyring = next(n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == "Keyring")
    assert "hmac.compare_digest" in ast.unparse(keyring)
    for node in ast.walk(keyring):
        assert not isinstance(node, ast.Break | ast.Return) or "find" not in ast.unparse(node)
        assert not isinstance(node, ast.Compare), ast.unparse(node)


async def test_f72_wrong_keys_are_rate_limited(locked):
    async with locked.fault():
        wrong = {"authorization": "Bearer wrong"}
        answers = [await locked.client.get("/voices", headers=wrong) for _ in range(30)]
        statuses = [answer.status_code for answer in answers]
        assert statuses == [401] * MAX_FAILURES + [429] * (30 - MAX_FAILURES)
        error_of(answers[-1], 429, "too_many_attempts")
        assert 1 <= int(answers[-1].headers["retry-after"]) <= WINDOW_S
        assert (await refusal_of(locked, "/ws", additional_headers=wrong))[0] == 429
        # Nobody who has a key is locked out by a neighbour, and who shows none is told so.
        for key in (OTHER_KEY, KEY):
            right = {"authorization": f"Bearer {key}"}
            assert (await locked.client.get("/voices", headers=right)).status_code == 200
        assert (await locked.client.get("/voices")).status_code == 401
        assert (await locked.client.get("/health/live")).status_code == 200


def test_f72_window_expires_and_table_size_is_limited():
    now, guesses = [0.0], itertools.count()
    attempts = LoginThrottle(now=lambda: now[0])

    def guess(address: str) -> None:
        attempts.note_wrong([address], b"%d begins anew" % next(guesses))

    for _ in range(MAX_FAILURES):
        guess("2001:db8::1")
    for address in ("2001:db8::1", "2001:db8::ffff"):  # one customer's network
        with pytest.raises(TooManyAttempts):
            guess(address)
    guess("2001:db8:1::1")
    guess("10.0.0.1")
    now[0] = WINDOW_S
    guess("2001:db8::1")
    for number in range(MAX_COUNTED + 50):
        guess(f"a proxy's word {number}" * 9)
    assert len(attempts) == MAX_COUNTED


async def test_f103_forwarded_addresses_give_no_extra_guesses(locked):
    """Any `X-Forwarded-For` from this machine is believed, but the peer address counts too."""
    async with locked.fault():
        statuses = []
        for number in range(60):
            guess = f"{number:03}-{SECRET}-{number}"
            headers = {"x-forwarded-for": f"198.51.100.{number}", "xi-api-key": guess}
            statuses.append((await locked.client.get("/voices", headers=headers)).status_code)
        assert statuses == [401] * MAX_FAILURES + [429] * (60 - MAX_FAILURES)
        for number in range(5):
            headers = {**locked.headers, "x-forwarded-for": f"198.51.100.{number}"}
            assert (await locked.client.get("/voices", headers=headers)).status_code == 200


def test_f103_many_addresses_share_the_limit_for_one_key_beginning():
    attempts = LoginThrottle()
    for number in range(MAX_FAILURES):
        attempts.note_wrong([f"10.0.0.{number}"], f"sk-known-{number}".encode())
    with pytest.raises(TooManyAttempts):
        attempts.note_wrong(["10.0.1.1"], b"sk-known-again")
    attempts.note_wrong(["10.0.1.1"], b"sk-other")
