"""Which sockets are there? One file for each protocol; this one lists them.

Knows no protocol.
"""

from fastapi import APIRouter

from chatterbox.server.dialects.backend import Backend
from chatterbox.server.sockets import elevenlabs, kyutai, native, speak, yap
from chatterbox.server.sockets.connection import Desk
from chatterbox.server.sockets.voicing import Ended


def router(backend: Backend, ended: Ended) -> APIRouter:
    """Every socket, and the few plain calls that belong to them. `ended` is told of each
    utterance, as it is of each request."""
    desk = Desk(backend, ended)
    routes = APIRouter()
    for protocol in (native, elevenlabs, yap, speak, kyutai):
        routes.include_router(protocol.router(desk))
    return routes
