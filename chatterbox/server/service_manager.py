"""Tells systemd, where that started the server, whether it is ready, alive or stopping."""

import contextlib
import socket

READY, ALIVE, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"


def notify(state: str, address: str | None) -> None:
    """Send `state` to the datagram socket at `address` (`NOTIFY_SOCKET`); without one nothing
    happens (sd_notify(3)). Never raises and never waits: the server runs the same if nobody
    listens."""
    if not address:
        return
    if address.startswith("@"):  # Linux's abstract names
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError, AttributeError),  # AttributeError: there is no AF_UNIX
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
    ):
        sock.setblocking(False)
        sock.sendto(state.encode("ascii"), address)
