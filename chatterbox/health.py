"""Asks a running server whether it is alive: for a container's health check, by its settings."""

import http.client
from collections.abc import Mapping, Sequence
from pathlib import Path

from chatterbox.config import ServerConfig, load

LIVE = "/health/live"
TIMEOUT_S = 4.0
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


def words_of(pid: int) -> Sequence[str]:
    """The command line of a process, behind `-m chatterbox`. Raises OSError; Linux only."""
    words = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
    return words[words.index("chatterbox") + 1 : -1] if "chatterbox" in words else []


def fault_of_server(flags: Mapping[str, object]) -> str | None:
    """What is wrong with the server that has these flags (and this environment); None: it lives.

    Raises ConfigError where they are no settings.
    """
    config = load(ServerConfig, dict(flags))
    host = ANY_ADDRESS.get(config.host, config.host)
    connection = http.client.HTTPConnection(host, config.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", LIVE)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as fault:
        return f"{host}:{config.port} does not answer: {fault or type(fault).__name__}"
    finally:
        connection.close()
    return None if status == http.HTTPStatus.OK else f"{host}:{config.port} answers {status}"
