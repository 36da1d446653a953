"""The list of dialects. A new one is a file (or folder) here and one more entry in `DIALECTS`.

Order matters only where two dialects have the same path: the first whose route matches answers.
"""

from chatterbox.dialects import (
    elevenlabs,
    kyutai,
    llama_server,
    native_socket,
    openai,
    orpheus_fastapi,
    sillytavern,
    unmute,
    wyoming,
    xtts,
)
from chatterbox.dialects.conversations import CONVERSATIONS
from chatterbox.server.dialect import Dialect

DIALECTS: tuple[Dialect, ...] = (
    elevenlabs.DIALECT,
    openai.DIALECT,
    sillytavern.DIALECT,
    xtts.DIALECT,
    native_socket.DIALECT,
    orpheus_fastapi.DIALECT,
    llama_server.DIALECT,
    unmute.DIALECT,
    kyutai.DIALECT,
    wyoming.DIALECT,
    Dialect(conversations=CONVERSATIONS),
)
