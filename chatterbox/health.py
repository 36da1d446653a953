"""The `health` command: checks that a running server is alive, for container health checks."""

import http.client
from collections.abc import Mapping, Sequence
from pathlib import Path

from chatterbox.config import ServerConfig, load

LIVENESS_PATH = "/health/live"
TIMEOUT_S = 4.0
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


def arguments_of_process(pid: int) -> Sequence[str]:
    """Return the arguments after `chatterbox` in a process's command line. Linux only.

    Raises OSError if the process cannot be read.
    """
    command = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
    return command[command.index("chatterbox") + 1 : -1] if "chatterbox" in command else []


def check_server(flags: Mapping[str, object]) -> str | None:
    """Return what is wrong with the server that has these flags and this environment, or None if
    the server is alive. Raises ConfigError if a flag is not a valid setting."""
    config = load(ServerConfig, dict(flags))
    host = ANY_ADDRESS.get(config.host, config.host)
    connection = http.client.HTTPConnection(host, config.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", LIVENESS_PATH)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as fault:
        return f"{host}:{config.port} does not answer: {fault or type(fault).__name__}"
    finally:
        connection.close()
    return None if status == http.HTTPStatus.OK else f"{host}:{config.port} answers {status}"
