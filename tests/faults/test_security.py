"""FAULTS H: keys, guesses, foreign names and pages, ids that are paths."""

import ast
import asyncio
import hashlib
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import websockets
from faults.harness import KEY, SECRET, SHORT, Rig, running
from server.harness import FakeEngine, error_of, server_config
from voices.clips import babble, encoded
from websockets.asyncio.client import connect

import chatterbox
from chatterbox.console import exposure_notice
from chatterbox.errors import ConfigError, TooManyAttempts
from chatterbox.server import access
from chatterbox.server.access import Keyring
from chatterbox.server.attempts import MOST_ADDRESSES, MOST_FAILURES, WINDOW_S, Attempts
from chatterbox.server.hosts import host_of
from chatterbox.server.run import bind, serve

OTHER_KEY = f"other-{SECRET}-0123456789"
PAGE = {"accept": "text/html"}
PUBLIC = {"/health/live", "/health/ready", "/healthz", "/page/{name}"}


def routes(router) -> list[tuple[str, str]]:
    """(method, path) of every route there is; WS for sockets."""
    found = []
    for route in router:
        if (inner := getattr(route, "original_router", None)) is not None:
            found += routes(inner.routes)
        else:
            methods = getattr(route, "methods", None) or {"WS"}
            found += [(method, route.path) for method in methods]
    return found


def refused(response, request: str) -> None:
    """401, in the shape of the path's clients."""
    assert response.status_code == 401, request
    assert response.headers["www-authenticate"].startswith("Bearer"), request
    if response.request.method != "HEAD":
        text = response.text
        assert "invalid_api_key" in text or "key" in response.json()["detail"], request
        assert SECRET not in text


async def refusal_of(rig: Rig, path: str, **more) -> tuple[int, str]:
    """How a socket is refused before it is accepted."""
    with pytest.raises(websockets.InvalidStatus) as refusal:
        async with connect(f"ws://127.0.0.1:{rig.port}{path}", **more):
            pass
    answer = refusal.value.response
    return answer.status_code, answer.body.decode()


@pytest.fixture
async def locked(tmp_path):
    """A server that wants a key."""
    async with running(tmp_path, api_keys=f"{OTHER_KEY}, {KEY}") as rig:
        rig.headers = {"authorization": f"Bearer {KEY}"}
        yield rig


async def test_f70_f80_every_route_wants_a_key(locked):
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


async def test_f70_probes_and_the_page_do_not(locked):
    async with locked.fault():
        for path in ("/health/live", "/health/ready", "/healthz", "/page/app.js"):
            assert (await locked.client.get(path)).status_code == 200
            assert (await locked.client.post(path)).status_code == 401
        for path in ("/", "/?reference"):
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


async def test_f70_each_dialects_header(locked):
    async with locked.fault():
        for headers in KEYS:
            assert (await locked.client.get("/voices", headers=headers)).status_code == 200
            path = f"ws://127.0.0.1:{locked.port}/ws/tts"
            async with connect(path, additional_headers=headers):
                pass


async def test_f70_a_browsers_socket_brings_its_key_as_a_subprotocol(locked):
    async with locked.fault():
        url = f"ws://127.0.0.1:{locked.port}/v1/audio/speech/stream"
        words = ["realtime", f"openai-insecure-api-key.{KEY}"]
        async with connect(url, subprotocols=words) as socket:
            assert socket.subprotocol == "realtime"
        words = ["realtime", "openai-insecure-api-key.wrong"]
        assert (await refusal_of(locked, "/v1/audio/speech/stream", subprotocols=words))[0] == 401


async def test_f70_what_is_no_key(locked):
    async with locked.fault():
        for headers in NO_KEYS:
            response = await locked.client.get("/voices", headers=headers)
            error_of(response, 401, "invalid_api_key")
            refused(response, repr(headers))
        in_address = f"/voices?api_key={KEY}&key={KEY}&authorization=Bearer%20{KEY}"
        error_of(await locked.client.get(in_address), 401, "invalid_api_key")
        assert (await refusal_of(locked, f"/api/tts_streaming?auth_id={KEY}"))[0] == 401


async def test_f70_in_each_dialects_shape(locked):
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


async def test_f70_without_keys_anyone_may_call_and_any_key_will_do(rig):
    async with rig.fault():
        for headers in ({}, {"authorization": "Bearer anything"}, {"xi-api-key": "anything"}):
            assert (await rig.client.get("/voices", headers=headers)).status_code == 200


def test_f70_wyoming_is_no_way_around_the_keys():
    config = server_config(host="0.0.0.0", api_keys=KEY, wyoming_port=1)
    with bind("127.0.0.1", 0) as sock, pytest.raises(ConfigError, match="Wyoming"):
        serve(FakeEngine(), config, sock, lambda address: None)


def test_f71_keys_are_hashes_compared_all_and_in_constant_time(monkeypatch):
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


def test_f71_no_key_is_compared_in_any_other_way():
    tree = ast.parse(Path(access.__file__).read_text())
    keyring = next(n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == "Keyring")
    assert "hmac.compare_digest" in ast.unparse(keyring)
    for node in ast.walk(keyring):
        assert not isinstance(node, ast.Break | ast.Return) or "find" not in ast.unparse(node)
        assert not isinstance(node, ast.Compare), ast.unparse(node)


async def test_f72_guesses_are_slowed_down(locked):
    async with locked.fault():
        wrong = {"authorization": "Bearer wrong"}
        answers = [await locked.client.get("/voices", headers=wrong) for _ in range(30)]
        statuses = [answer.status_code for answer in answers]
        assert statuses == [401] * MOST_FAILURES + [429] * (30 - MOST_FAILURES)
        error_of(answers[-1], 429, "too_many_attempts")
        assert 1 <= int(answers[-1].headers["retry-after"]) <= WINDOW_S
        assert (await refusal_of(locked, "/ws", additional_headers=wrong))[0] == 429
        # A key that this address has not shown before may be a guess that is right…
        guess = {"authorization": f"Bearer {OTHER_KEY}"}
        assert (await locked.client.get("/voices", headers=guess)).status_code == 429
        # … but nobody is locked out by a neighbour, and who shows no key is told so.
        assert (await locked.client.get("/voices", headers=locked.headers)).status_code == 200
        assert (await locked.client.get("/voices")).status_code == 401
        assert (await locked.client.get("/health/live")).status_code == 200


def test_f72_the_window_ends_and_the_table_is_bounded():
    now = [0.0]
    attempts = Attempts(now=lambda: now[0])
    for _ in range(MOST_FAILURES):
        attempts.note("2001:db8::1", None)
    for address in ("2001:db8::1", "2001:db8::ffff"):  # one customer's network
        with pytest.raises(TooManyAttempts):
            attempts.note(address, 0)
    attempts.note("2001:db8:1::1", None)
    attempts.note("10.0.0.1", None)
    now[0] = WINDOW_S
    attempts.note("2001:db8::1", 0)
    for number in range(MOST_ADDRESSES + 50):
        attempts.note(f"a proxy's word {number}" * 9, None)
    assert len(attempts) == MOST_ADDRESSES


IDS = ["../x", "..%2f..%2fetc%2fpasswd", "%00", "%2fetc%2fpasswd", "C:%5cx", "con", "a" * 300]
IDS += ["%D1%95lt", ".tmp-1", "%2e%2e", "~root", "slt%0d%0aX-Evil:%201"]


async def test_f73_ids_that_are_paths(rig, monkeypatch):
    opened: list[str] = []

    def spy(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes | Path) and watching:
            opened.append(str(arguments[0]))

    watching = True
    sys.addaudithook(spy)  # there is no way to take it away again; `watching` ends it
    try:
        async with rig.fault():
            for name in IDS:
                for method, path in (
                    ("GET", f"/voices/{name}"),
                    ("DELETE", f"/voices/{name}"),
                    ("GET", f"/voices/{name}/export"),
                    ("GET", f"/v1/voices/{name}"),
                ):
                    url = rig.client.base_url.copy_with(raw_path=path.encode())
                    answer = await rig.client.request(method, url)
                    assert answer.status_code in (404, 405), (method, path)
                    assert "x-evil" not in answer.headers
                spoken = await rig.speak(voice_id=name)
                code = "voice_not_found" if len(name) < 257 else "invalid_value"
                error_of(spoken, spoken.status_code, code, "voice_id")
    finally:
        watching = False
    inside = [str(rig.directory), "/proc/", "/sys/", "/dev/"]
    strange = [path for path in opened if not any(path.startswith(root) for root in inside)]
    assert not [path for path in strange if re.search(r"passwd|\.\.|con$|tmp-1|root", path)]


@pytest.mark.parametrize("host", ["evil.example:8000", "localhost.evil.example"])
async def test_f74_foreign_names_are_refused(rig, host):
    async with rig.fault():
        answer = await rig.client.get("/health/live", headers={"host": host})
        error_of(answer, 421, "host_forbidden")
        answer = await rig.client.post("/tts", json=SHORT, headers={"host": host})
        error_of(answer, 421, "host_forbidden")
        reader, writer = await rig.raw(
            b"GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            % host.encode()
        )
        assert (await reader.readline()).split()[1] == b"421"
        writer.close()


async def test_f74_our_own_names_are_not(tmp_path):
    async with running(tmp_path, allowed_hosts="tts.example, other.example") as rig:
        for host in ("localhost", "127.0.0.1:1", "[::1]:8000", "TTS.example:443", "10.1.2.3"):
            answer = await rig.client.get("/voices", headers={"host": host})
            assert answer.status_code == 200, host
        answer = await rig.client.get("/voices", headers={"host": "third.example"})
        error_of(answer, 421, "host_forbidden")
    async with running(tmp_path, host="0.0.0.0") as rig:
        answer = await rig.client.get("/voices", headers={"host": "any.example"})
        assert answer.status_code == 200


async def test_f74_foreign_pages_neither_read_nor_change(rig):
    async with rig.fault():
        for origin in ("null", "http://evil.example", "http://localhost:1", "x", ""):
            headers = {"origin": origin}
            reading = await rig.client.get("/voices", headers=headers)
            assert reading.status_code == 200  # as an image would; no script sees it
            posted = await rig.client.post("/tts", json=SHORT, headers=headers)
            error_of(posted, 403, "origin_forbidden")
            deleted = await rig.client.delete("/voices/slt", headers=headers)
            error_of(deleted, 403, "origin_forbidden")
            for answer in (reading, posted, deleted):
                assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_f74_our_own_page_does(tmp_path):
    async with running(tmp_path, cors_origins="http://tavern.example:8000") as rig:
        for headers in (
            {"origin": rig.url},
            {"origin": "http://tavern.example:8000"},
            {"origin": "https://behind.a.proxy", "sec-fetch-site": "same-origin"},
        ):
            answer = await rig.client.post("/tts", json=SHORT, headers=headers)
            assert answer.status_code == 200, headers


async def test_f75_sockets_of_foreign_pages(rig):
    async with rig.fault():
        for origin in ("http://evil.example", "null"):
            status, body = await refusal_of(rig, "/ws", origin=origin)
            assert (status, "origin_forbidden" in body) == (403, True)
        async with connect(f"ws://127.0.0.1:{rig.port}/ws", origin=rig.url):
            pass
        lines = [line for line in rig.log.outcomes if "origin_forbidden" in line]
        assert len(lines) == 2


def test_hosts_and_addresses():
    for given, host in (
        ("LocalHost:80", "localhost"),
        ("[::1]", "::1"),
        ("a.b.:1", "a.b"),
        ("a@localhost", ""),
        ("localhost/x", ""),
        ("a b", ""),
        ("", ""),
    ):
        assert host_of(given) == host
    for host, local in (
        ("127.0.0.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
    ):
        config = server_config(host=host)
        assert config.is_local is local
        assert bool(exposure_notice(config)) is not local
    assert not exposure_notice(server_config(host="0.0.0.0", api_keys=KEY))


URLS = ["file:///etc/passwd", "http://169.254.169.254/latest/meta-data", "\\\\host\\share\\a.wav"]


async def test_f76_no_address_is_ever_fetched(rig, monkeypatch):
    ours = rig.port

    async with rig.fault():
        connects: list[object] = []
        loop = asyncio.get_running_loop()
        before = loop.getaddrinfo
        monkeypatch.setattr(
            loop, "getaddrinfo", lambda *a, **m: (connects.append(a[:2]), before(*a, **m))[1]
        )
        for url in URLS:
            for field in ("voice_url", "audio_url", "reference_url"):
                error_of(await rig.speak(**{field: url}), 422, "unknown_field", field)
            error_of(await rig.speak(voice_id=url), 404, "voice_not_found", "voice_id")
            form = {"voice_file": (None, url)}
            answer = await rig.client.post("/voices/register", files=form)
            error_of(answer, 422, "unknown_field", "voice_file")
            answer = await rig.client.post("/tts_to_audio/", json={"text": "a", "speaker_wav": url})
            assert answer.status_code == 404
        assert set(connects) <= {("127.0.0.1", ours)}


async def test_f79_what_is_said_of_errors(rig):
    async with rig.fault():  # I6: nor does the log say it
        secret = f"/home/{SECRET}/x"
        for body in (
            {"text": secret, "voice_id": secret},
            {"text": secret, "seed": secret},
            {"text": {"a": secret}},
            {"text": secret, "response_format": secret},
        ):
            answer = await rig.client.post("/tts", json=body)
            assert answer.status_code in (404, 422)
            assert "Traceback" not in answer.text
            assert str(rig.directory) not in answer.text


async def test_f77_names_are_data(rig):
    names = ('<img src=x onerror="alert(1)">', 'a"; filename="b.exe', "${7*7}", "a'b")
    async with rig.fault():
        for number, name in enumerate(names):
            files = {"voice_file": ("a.wav", encoded(babble(1.5, seed=number)))}
            made = await rig.client.post("/voices/register", files=files, data={"name": name})
            assert (made.status_code, made.json()["name"]) == (201, name)
            voice_id = made.json()["voice_id"]
            exported = await rig.client.get(f"/voices/{voice_id}/export")
            said = exported.headers.get_list("content-disposition")
            assert said == [f'attachment; filename="{voice_id}.voice"']
            assert (await rig.client.delete(f"/voices/{voice_id}")).status_code == 200
        for name in ("a\r\nX-Evil: 1", "a\x00b", "\x1b[31m"):
            files = {"voice_file": ("a.wav", encoded(babble(1.5, seed=9)))}
            made = await rig.client.post("/voices/register", files=files, data={"name": name})
            error_of(made, 422, "invalid_voice_id", made.json()["error"]["param"])
        page = await rig.client.get("/", headers=PAGE)
        assert "default-src 'self'" in page.headers["content-security-policy"]


async def test_f78_a_pickle_among_the_voices(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    voices = tmp_path / "voices"
    for name in ("v0123456789abcdef0123", "trap"):
        (voices / name).mkdir(parents=True)
        for file in ("meta.json", "reference.flac", "tensors.safetensors", "voice.pt", "a.npy"):
            np.save(voices / name / file, np.array([Trap()]), allow_pickle=True)
            (voices / name / file).write_bytes(pickle.dumps(Trap()))
    async with running(tmp_path) as rig, rig.fault():
        listed = (await rig.client.get("/voices")).json()["voices"]
        assert all(voice["built_in"] for voice in listed)
        skipped = (await rig.client.get("/health")).json()["skipped_voices"]
        assert {entry["voice"] for entry in skipped} >= {"v0123456789abcdef0123"}
        for name in ("v0123456789abcdef0123", "trap"):
            error_of(await rig.speak(voice_id=name), 404, "voice_not_found", "voice_id")
    assert not (tmp_path / "sprung").exists()


def test_f78_nothing_here_unpickles():
    for path in Path(chatterbox.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not names & {"pickle", "marshal", "shelve", "dill", "joblib"}, path
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
                allowed = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert allowed.get("allow_pickle") == "False", path
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in ("eval", "exec", "torch.load"), path
