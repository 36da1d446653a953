"""Which sockets are there? One file for each protocol; this one lists them.

Knows no protocol.
"""

from fastapi import APIRouter

from chatterbox.dialects import kyutai
from chatterbox.dialects import native_socket as native
from chatterbox.dialects import orpheus_fastapi as yap
from chatterbox.dialects import unmute as speak
from chatterbox.dialects.elevenlabs import socket as elevenlabs
from chatterbox.dialects.services import Services
from chatterbox.dialects.shared.incremental_speech import Ended
from chatterbox.dialects.shared.socket_server import SocketServer


def router(backend: Services, ended: Ended) -> APIRouter:
    """Every socket, and the few plain calls that belong to them. `ended` is told of each
    utterance, as it is of each request."""
    desk = SocketServer(backend, ended)
    routes = APIRouter()
    for protocol in (native, elevenlabs, yap, speak, kyutai):
        routes.include_router(protocol.router(desk))
    return routes
