"""Where the connection is slow, speech comes as Opus; a person may choose."""

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from server.page.browser import Visit
from server.page.test_takes import take

pytestmark = pytest.mark.slow

PART_BYTES = 2000


@contextmanager
def slow(address: str, kbit_s: float) -> Iterator[tuple[str, Callable[[], int]]]:
    """The address of a relay to a server that lets no more through than that, all in all; and how
    many bytes came through so far."""
    passed: list[int] = []
    host, port = address.removeprefix("http://").split(":")
    turn = threading.Lock()

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((host, int(port))) as server:
                asking = threading.Thread(target=self.pass_on, args=(self.request, server))
                asking.start()
                self.pass_on(server, self.request, wait=True)
                asking.join()

        @staticmethod
        def pass_on(source: socket.socket, target: socket.socket, *, wait: bool = False) -> None:
            with suppress(OSError):
                while data := source.recv(PART_BYTES):
                    if wait:
                        with turn:
                            passed.append(len(data))
                            time.sleep(8 * len(data) / kbit_s / 1000)
                    target.sendall(data)
                target.shutdown(socket.SHUT_WR)

    class Relays(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Relays(("127.0.0.1", 0), Relay) as relays:
        threading.Thread(target=relays.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{relays.server_address[1]}", lambda: sum(passed)
        relays.shutdown()


def forms_sent(visit: Visit) -> list[str]:
    sent: list[str] = []

    def note(request) -> None:
        if request.url.endswith("/v1/audio/speech"):
            sent.append(request.post_data_json["response_format"])

    visit.page.on("request", note)
    return sent


def test_a_slow_link_gets_opus_without_a_wait(browser, address):
    with slow(address, 400) as (far, passed), Visit(browser, far).ready() as visit:
        sent, bytes_of = forms_sent(visit), {}
        visit.until("/: 0[.][0-9] Mbit/.test(document.querySelector('#form-says').textContent)")
        visit.page.click("#advanced summary")
        visit.page.fill("#seed", "5")
        for form in ("auto", "pcm"):
            visit.page.select_option("#form-of-sound", form)
            before = passed()
            take(visit, "The same words, by two ways, and so many that it takes its time. " * 2)
            bytes_of[form] = passed() - before
        assert sent == ["opus", "pcm"]
        plain, opus = visit.page.locator("#takes .hint").all_inner_texts()
        assert "came as Opus" in opus
        assert "Opus" not in plain
        assert float(plain.split("RTF ")[1].split()[0]) > 1
        assert 3 * bytes_of["auto"] < bytes_of["pcm"], bytes_of
        lengths = [text.split("”")[1] for text in visit.page.locator(".said").all_inner_texts()]
        assert lengths[0] == lengths[1]


def test_the_form_of_the_sound_is_chosen_and_kept(browser, address):
    with Visit(browser, address).ready() as visit:
        sent = forms_sent(visit)
        visit.page.click("#advanced summary")
        visit.page.select_option("#form-of-sound", "opus")
        assert "Opus, a sixth" in visit.text("#form-says")
        visit.reload()
        take(visit, "Compressed on purpose, and a part of it is regenerated. " * 8)
        assert sent == ["opus"]
        visit.page.locator("#pieces button").first.click()
        visit.page.click("#anew")
        visit.until("document.querySelector('#takes-status').textContent.includes('take 2')")
        assert sent == ["opus", "opus"]
        with visit.page.expect_download() as download:
            visit.page.get_by_role("button", name="Download take 1", exact=True).click()
        assert download.value.path().read_bytes().startswith(b"RIFF")
        assert sent[-1] == "wav", "no loss in a file"
