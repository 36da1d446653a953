"""Google Cloud Storage, which compares generations instead of ETags, by a fake server."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chatterbox.voices.consents import CONSENTS
from chatterbox.voices.store import Outdated
from chatterbox.voices.stores import open_store

from .test_object_store import CONTENTS, record


class Google(BaseHTTPRequestHandler):
    """The part of the XML API that is used: objects with generations, conditional GET and PUT."""

    protocol_version = "HTTP/1.1"
    objects: dict[str, tuple[bytes, int]]
    writing = threading.Lock()

    def log_message(self, *_args) -> None:
        pass

    def answer(self, code: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def about(self) -> dict[str, str]:
        data, generation = self.objects[self.path]
        return {
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "x-goog-generation": str(generation),
            "Last-Modified": "Mon, 30 Nov 2026 12:00:00 GMT",
        }

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        with self.writing:
            generation = self.objects.get(self.path, (b"", 0))[1]
            if int(self.headers.get("x-goog-if-generation-match", generation)) != generation:
                self.answer(412)
                return
            self.objects[self.path] = data, generation + 1
            self.answer(200, headers=self.about())

    def do_GET(self) -> None:
        if self.path not in self.objects:
            self.answer(404)
        elif self.headers.get("If-None-Match") == self.about()["ETag"]:
            self.answer(304)
        else:
            self.answer(200, self.objects[self.path][0], self.about())


@pytest.fixture
def place(monkeypatch):
    handler = type("NewGoogle", (Google,), {"objects": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        account = {"gcs_base_url": f"http://127.0.0.1:{server.server_port}", "disable_oauth": True}
        account |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(account))
        yield "gs://voices/x"
        server.shutdown()


def test_the_slower_of_two_servers_must_poll_again(place, tmp_path):
    one, other = open_store(place, tmp_path / "1"), open_store(place, tmp_path / "2")
    one.poll()
    other.poll()
    stored = one.create(record("v-1"), CONTENTS)
    with pytest.raises(Outdated):
        other.create(record("v-2", "Berta"), CONTENTS)
    with other.exclusive() as found:
        assert found == ([stored], [])
        other.create(record("v-2", "Berta"), CONTENTS)
    assert len(one.poll()[0]) == 2
    assert one.poll() is None
    assert other.read(stored, "reference.flac") == CONTENTS["reference.flac"]
    for store in (one, other):
        store.change_document(CONSENTS, lambda data: (data or b"") + b"+")
    assert one.read_document(CONSENTS) == b"++"
