"""moto's S3 server in a process of its own: prints its address, and ends with its standard input.

One write at a time: moto looks at a condition and writes in two steps.
"""

import sys
import threading

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class Quiet(WSGIRequestHandler):
    def log(self, *_args) -> None:
        pass


class OneWriteAtATime(DomainDispatcherApplication):
    """Also for the bodies of answers, which are made as they are sent."""

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
