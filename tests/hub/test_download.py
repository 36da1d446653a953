"""Tests of downloads with a fake hub: resuming, checking, and working offline afterwards."""

import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError

from chatterbox.errors import ModelError
from chatterbox.hub import download as hub
from chatterbox.loading import Loading, listening

FILES = ["config.json", "onnx/a.onnx"]
DATA = "onnx/a.onnx_data"
FETCHED = [FILES[0], DATA, f"{DATA}_1", FILES[1]]
"""A graph is downloaded after its weights, so that a present graph is complete."""
REPOSITORY, REVISION = "someone/some-model", "0123456789abcdef"


@dataclass
class Info:
    path: str
    size: int


class FakeHub:
    """Fake hub that serves bytes by name and can break off, report a wrong size, or hang."""

    def __init__(self) -> None:
        self.content = {name: name.encode() * 10 for name in FETCHED}
        self.stated = {name: len(data) for name, data in self.content.items()}
        self.break_at: str | None = None
        self.downloads: list[str] = []
        self.hang_s = 0.0

    def model_info(self, repository, *, revision, timeout):
        time.sleep(self.hang_s)
        assert (repository, revision) == (REPOSITORY, REVISION)

    def get_paths_info(self, repository, names, *, revision):
        return [Info(name, self.stated[name]) for name in names if name in self.stated]

    def download(self, repository, name, *, revision, local_dir, tqdm_class):
        if name == self.break_at:
            raise ConnectionError("the line went dead\nsecond line")
        self.downloads.append(name)
        path = Path(local_dir) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.content[name])
        with tqdm_class(total=self.stated[name], disable=True) as bar:
            bar.update(self.stated[name])


@pytest.fixture
def fake_hub(monkeypatch):
    fake = FakeHub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: fake)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake.download)
    return fake


def fetch(directory: Path) -> list[str]:
    said: list[str] = []
    hub.fetch(REPOSITORY, REVISION, FILES, directory, said.append)
    return said


def test_everything_is_fetched_once(fake_hub, tmp_path):
    assert not hub.complete(tmp_path, FILES)
    said = fetch(tmp_path)
    assert hub.complete(tmp_path, FILES)
    assert REPOSITORY in said[0]
    fetch(tmp_path)
    assert fake_hub.downloads == FETCHED


def test_it_is_told_how_much_has_come(fake_hub, tmp_path):
    moments = []
    fake_hub.content = {name: bytes(1_000_000) for name in FETCHED}
    fake_hub.stated = dict.fromkeys(FETCHED, 1_000_000)
    with listening(moments.append):
        fetch(tmp_path)
    assert [m.detail for m in moments][:-1] == [f"{n} of 4 MB" for n in (1, 2, 3, 4)]
    assert [moment.done for moment in moments] == [0.25, 0.5, 0.75, 1.0, None]
    assert moments[-1] == Loading("opening")


def test_a_break_is_one_line_and_the_next_try_goes_on(fake_hub, tmp_path):
    fake_hub.break_at = f"{DATA}_1"
    with pytest.raises(ModelError) as broken:
        fetch(tmp_path)
    assert str(broken.value) == f"{REPOSITORY} could not be fetched: the line went dead"
    assert not hub.complete(tmp_path, FILES)
    fake_hub.break_at = None
    fetch(tmp_path)
    assert fake_hub.downloads == FETCHED
    assert hub.complete(tmp_path, FILES)


def test_a_file_of_the_wrong_size_is_not_kept(fake_hub, tmp_path):
    fake_hub.stated[FILES[1]] += 1
    with pytest.raises(ModelError, match=r"a\.onnx arrived with 110 bytes instead of 111"):
        fetch(tmp_path)
    assert not (tmp_path / FILES[1]).exists()
    assert not hub.complete(tmp_path, FILES)


def test_a_file_cut_short_later_is_noticed_and_fetched_again(fake_hub, tmp_path):
    fetch(tmp_path)
    (tmp_path / DATA).write_bytes(b"short")
    assert not hub.complete(tmp_path, FILES)
    fetch(tmp_path)
    assert hub.complete(tmp_path, FILES)


def test_a_file_the_hub_does_not_have_is_named(fake_hub, tmp_path):
    del fake_hub.stated[FILES[1]]
    with pytest.raises(ModelError, match=r"has no onnx/a\.onnx at revision 0123456789ab"):
        fetch(tmp_path)


def test_a_hub_that_hangs_is_no_hub(fake_hub, monkeypatch):
    monkeypatch.setattr(hub, "PROBE_TIMEOUT_S", 0.05)
    fake_hub.hang_s = 0.5
    assert not hub.reachable(REPOSITORY, REVISION)
    fake_hub.hang_s = 0.0
    monkeypatch.setattr(hub, "PROBE_TIMEOUT_S", 4.0)
    assert hub.reachable(REPOSITORY, REVISION)
    assert not hub.reachable("someone/else", REVISION)


def test_a_damaged_receipt_means_not_complete(fake_hub, tmp_path):
    fetch(tmp_path)
    (tmp_path / hub.RECEIPT).write_text("[1, 2")
    assert not hub.complete(tmp_path, FILES)


def test_what_is_optional_is_fetched_where_the_hub_has_it(fake_hub, tmp_path):
    del fake_hub.stated[FILES[1]]
    hub.fetch(REPOSITORY, REVISION, FILES[:1], tmp_path, print, [FILES[1], "README.md"])
    assert hub.complete(tmp_path, FILES[:1])
    assert FILES[1] not in fake_hub.downloads


def test_a_gated_repository_says_what_to_do(fake_hub, monkeypatch, tmp_path):
    response = httpx.Response(403, request=httpx.Request("GET", "https://hub.test"))

    def refused(*_args, **_more):
        raise GatedRepoError("403 Client Error", response=response)

    monkeypatch.setattr(fake_hub, "get_paths_info", refused)
    with pytest.raises(ModelError, match=r"is gated: .* set HF_TOKEN"):
        fetch(tmp_path)


def test_the_users_token_goes_to_the_hub_and_nowhere_else(tmp_path, monkeypatch, caplog):
    heard: list[str | None] = []

    class Hub(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(self.headers["Authorization"])
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_args):
            pass

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    said: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
        with pytest.raises(ModelError, match=r"has no config\.json") as missing:
            hub.fetch(REPOSITORY, REVISION, FILES, tmp_path, said.append)
        server.shutdown()
    assert heard == ["Bearer hf_secret"]
    assert "hf_secret" not in " ".join([str(missing.value), caplog.text, *said])
