"""moto's S3 server as a process that prints its address and ends when its standard input closes.

Requests are serialised: moto checks a write's condition and writes in two separate steps.
"""

import sys
import threading

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class Quiet(WSGIRequestHandler):
    def log(self, *_args) -> None:
        pass


class OneWriteAtATime(DomainDispatcherApplication):
    """Holds a lock until a response's body, which moto generates lazily, is complete."""

    _writing = threading.Lock()

    def __call__(self, environ, start_response):
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return super().__call__(environ, start_response)
        with self._writing:
            return list(super().__call__(environ, start_response))


def main() -> None:
    application = OneWriteAtATime(create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
