"""The list of dialects. A new one is a file (or folder) here and one more entry in `DIALECTS`.

Order matters only where two dialects have the same path: the first whose route matches answers.
"""

from chatterbox.dialects import (
    elevenlabs,
    kyutai,
    llama_server,
    native_socket,
    openai,
    orpheus_sockets,
    sillytavern,
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
    orpheus_sockets.DIALECT,
    llama_server.DIALECT,
    kyutai.DIALECT,
    wyoming.DIALECT,
    Dialect(conversations=CONVERSATIONS),
)
