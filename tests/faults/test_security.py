"""Fault table, F73 to F79, F101 and F102: path-like ids, foreign hosts and pages, URLs, pickles."""

import ast
import asyncio
import itertools
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from faults.calls import refusal_of
from faults.harness import KEY, SECRET, SHORT, running
from faults.source import dotted, nodes
from harness import error_of, server_config
from voices.clips import babble, encoded
from websockets.asyncio.client import connect

import chatterbox
from chatterbox.console import exposure_notice
from chatterbox.server.auth import host_of
from chatterbox.server.schemas import SpeechFields

REPOSITORY = Path(chatterbox.__file__).parents[1]
PAGE = {"accept": "text/html"}
IDS = ["../x", "..%2f..%2fetc%2fpasswd", "%00", "%2fetc%2fpasswd", "C:%5cx", "con", "a" * 300]
IDS += ["%D1%95lt", ".tmp-1", "%2e%2e", "~root", "slt%0d%0aX-Evil:%201"]


async def test_f73_ids_that_look_like_paths(rig, monkeypatch):
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
    code = (sys.prefix, sys.base_prefix, str(REPOSITORY))  # modules are read when first needed
    known = (str(rig.directory), "/proc/", "/sys/", "/dev/")
    read = [path for path in opened if not path.startswith(code)]
    assert not [path for path in read if ".." in Path(path).parts]
    strange = [path for path in read if not path.startswith(known)]
    assert not [path for path in strange if re.search(r"passwd|con$|tmp-1|root", path)]


@pytest.mark.parametrize("host", ["evil.example:8000", "localhost.evil.example"])
async def test_f74_foreign_host_names_are_refused(rig, host):
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


async def test_f74_own_host_names_are_accepted(tmp_path):
    async with running(tmp_path, allowed_hosts="tts.example, other.example") as rig:
        for host in ("localhost", "127.0.0.1:1", "[::1]:8000", "TTS.example:443", "10.1.2.3"):
            answer = await rig.client.get("/voices", headers={"host": host})
            assert answer.status_code == 200, host
        answer = await rig.client.get("/voices", headers={"host": "third.example"})
        error_of(answer, 421, "host_forbidden")
    async with running(tmp_path, host="0.0.0.0") as rig:
        answer = await rig.client.get("/voices", headers={"host": "any.example"})
        assert answer.status_code == 200


async def test_f74_foreign_pages_can_neither_read_nor_change(rig):
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


async def test_f74_own_page_can_call(tmp_path):
    async with running(tmp_path, cors_origins="http://tavern.example:8000") as rig:
        for headers in (
            {"origin": rig.url},
            {"origin": "http://tavern.example:8000"},
            {"origin": "https://behind.a.proxy", "sec-fetch-site": "same-origin"},
        ):
            answer = await rig.client.post("/tts", json=SHORT, headers=headers)
            assert answer.status_code == 200, headers


FOREIGN = (
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-dest": "audio", "sec-fetch-mode": "no-cors"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
    {"sec-fetch-site": "cross-site", "origin": "http://evil.example"},
    {"sec-fetch-site": "cross-site", "referer": "http://evil.example/http://tavern.example:8000"},
    {"sec-fetch-site": "same-site", "origin": "http://evil.localhost"},
    {"origin": "http://evil.example"},
    {"origin": "null"},
)
SPOKEN = (
    "/tts_stream?text=a&speaker_wav=slt&language=en",
    "/tts_stream/?text=a",
    "/tts-stream?text=a",
    "/voices/slt/export",
)


async def test_f101_foreign_pages_get_no_place(tmp_path):
    async with running(tmp_path, cors_origins="http://tavern.example:8000") as rig, rig.fault():
        for headers in FOREIGN:
            for path in SPOKEN:
                answer = await rig.client.get(path, headers=headers)
                assert answer.status_code == 403, (path, headers)
                assert "of other sites" in answer.text
                assert answer.headers["cross-origin-resource-policy"] != "cross-origin"
            assert (await rig.client.post("/tts", json=SHORT, headers=headers)).status_code == 403
            for path in ("/", "/health/live", "/voices"):  # a link to the page is none of ours
                answer = await rig.client.get(path, headers={**PAGE, **headers})
                assert answer.status_code == 200
        assert rig.engine.admission.active == 1


async def test_f101_allowed_origins_and_programs_get_a_place(tmp_path):
    named = {"sec-fetch-site": "cross-site", "referer": "http://tavern.example:8000/chat?a=b"}
    async with running(tmp_path, cors_origins="http://tavern.example:8000") as rig, rig.fault():
        for headers, policy in (
            ({}, "same-site"),
            ({"sec-fetch-site": "none"}, "same-site"),
            ({"sec-fetch-site": "same-site"}, "same-site"),  # a page on another of our ports
            ({"sec-fetch-site": "same-origin", "origin": "https://behind.a.proxy"}, "same-site"),
            ({"origin": rig.url}, "same-site"),
            (named, "cross-origin"),
            ({**named, "origin": "HTTP://Tavern.example:8000"}, "cross-origin"),
        ):
            for path in SPOKEN:
                answer = await rig.client.get(path, headers=headers)
                assert answer.status_code == 200, (path, headers)
                assert answer.headers["cross-origin-resource-policy"] == policy
    async with running(tmp_path, cors_origins="*") as rig:
        answer = await rig.client.get(SPOKEN[0], headers=FOREIGN[1])
        assert answer.status_code == 200
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"


async def test_f102_every_response_has_a_resource_policy(tmp_path):
    """Responses of routes, middleware, the HTTP protocol and WebSocket handshakes."""
    begin = b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    key = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    raw = (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n",
        b"GET /page/app.js HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /page/nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PUT /tts HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /tts_stream?text=a HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /voices HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
        b"nothing\r\n\r\n",
        begin + key + b"Sec-WebSocket-Version: 13\r\n\r\n",
        begin + key + b"Sec-WebSocket-Version: 13\r\nOrigin: http://evil.example\r\n\r\n",
        begin.replace(b"/ws", b"/nowhere") + key + b"Sec-WebSocket-Version: 13\r\n\r\n",
        begin + key + b"Sec-WebSocket-Version: 12\r\n\r\n",
        begin + b"Sec-WebSocket-Version: 13\r\n\r\n",
    )
    async with running(tmp_path) as rig, rig.fault():
        for request in raw:
            reader, writer = await rig.raw(request)
            async with asyncio.timeout(60):
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
            for name, value in (
                (b"cross-origin-resource-policy", b"same-origin"),
                (b"x-content-type-options", b"nosniff"),
            ):
                assert head.count(b"\r\n" + name + b": " + value + b"\r\n") == 1, head
            writer.transport.abort()
    async with running(tmp_path, api_keys=KEY) as rig:
        answer = await rig.client.get("/voices")
        assert answer.status_code == 401
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"


SOCKETS = ("/ws", "/ws/tts", "/api/tts_streaming", "/v1/audio/speech/stream")


async def test_f75_sockets_of_foreign_pages(rig):
    async with rig.fault():
        for path, origin in itertools.product(SOCKETS, ("http://evil.example", "null")):
            status, body = await refusal_of(rig, path, origin=origin)
            assert (status, "origin_forbidden" in body) == (403, True), path
        async with connect(f"ws://127.0.0.1:{rig.port}/ws", origin=rig.url):
            pass
        lines = [line for line in rig.log.outcomes if "origin_forbidden" in line]
        assert len(lines) == 2 * len(SOCKETS)


def test_host_header_parsing():
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


async def test_f76_no_url_is_ever_fetched(rig, monkeypatch):
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


async def test_f79_error_messages_reveal_nothing(rig):
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
        for field in SpeechFields.model_fields:
            answer = await rig.client.post("/tts", json={"text": SECRET, field: {SECRET: secret}})
            error_of(answer, 422, "invalid_value", field)
            assert SECRET not in answer.text


async def test_f77_names_are_treated_as_data(rig):
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


async def test_f78_pickle_among_the_voices_is_not_loaded(tmp_path):
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


def test_f78_code_never_unpickles():
    unpickling = {"pickle", "marshal", "shelve", "dill", "joblib"}
    for path, node in nodes(Path(chatterbox.__file__).parent, *unpickling, "eval", "exec", ".load"):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            assert not names & unpickling, path
        if isinstance(node, ast.Call):
            assert dotted(node.func) not in ("eval", "exec", "torch.load"), path
            if dotted(node.func) in ("np.load", "numpy.load"):
                allowed = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert allowed.get("allow_pickle") == "False", path
