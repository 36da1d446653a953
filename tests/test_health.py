"""Tests of `chatterbox health`, which reads the settings and the server process's flags."""

import http.server
import socket
import subprocess
import sys
import threading

import pytest

from chatterbox import cli


@pytest.fixture(params=["127.0.0.1", "::1"])
def server(request):
    """Fake server that fails requests for anything but liveness."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.path == "/health/live"
            self.send_response(self.server.status if known else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    class Server(http.server.HTTPServer):
        address_family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
        status = 200

    with Server((request.param, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (421, 1), (500, 1)])
def test_the_answer_is_the_exit_code(server, status, code, monkeypatch, capsys):
    host, port = server.server_address[:2]
    server.status = status
    monkeypatch.setenv("CHATTERBOX_HOST", host)
    monkeypatch.setenv("CHATTERBOX_PORT", str(port))
    assert cli.main(["health"]) == code
    assert str(status) in capsys.readouterr().err or code == 0


def test_who_listens_everywhere_is_asked_on_this_machine(server):
    host, port = server.server_address[:2]
    everywhere = "::" if ":" in host else "0.0.0.0"
    assert cli.main(["health", "--host", everywhere, "--port", str(port)]) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "form",
    [
        ["serve", "--port", "{port}"],
        ["serve", "--port={port}"],
        ["--port", "{port}", "serve"],
        ["--port={port}"],
    ],
)
def test_the_flags_of_a_process_count(server, form, monkeypatch):
    host, port = server.server_address[:2]
    monkeypatch.setenv("CHATTERBOX_HOST", host)
    words = ["chatterbox", *(word.format(port=port) for word in form), "--threads", "2"]
    sleeping = [sys.executable, "-c", "print(flush=True); input()", *words]
    with subprocess.Popen(sleeping, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert cli.main(["health", "--pid", str(process.pid)]) == 0
        process.stdin.close()


def test_nobody_there_is_one_line(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert cli.main(["health", "--port", str(port)]) == 1
    assert capsys.readouterr().err.startswith(f"chatterbox: 127.0.0.1:{port} does not answer: ")
    assert cli.main(["health", "--port", "seventy"]) == 2


def test_who_says_nothing_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("chatterbox.cli.HEALTH_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert cli.main(["health", "--port", str(silent.getsockname()[1])]) == 1
