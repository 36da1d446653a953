"""Who speaks where a client knows the voices of Orpheus only?

The names are written into programs made for the servers of that model.
"""

from chatterbox.dialects.shared.socket_server import SocketServer
from chatterbox.errors import VoiceNotFound

VOICES = {
    "tara": "slt",
    "leah": "slt",
    "jess": "slt",
    "mia": "slt",
    "zoe": "slt",
    "leo": "rms",
    "dan": "awb",
    "zac": "kal16",
}
"""Its eight voices → the built-in ones nearest in kind; a real voice of that name goes first."""


async def voice_of(desk: SocketServer, name: str | None) -> str | None:
    """The id of the voice to speak in. Raises VoiceNotFound."""
    try:
        return await desk.voice(name)
    except VoiceNotFound:
        if name is None or name.lower() not in VOICES:
            raise
    try:
        return await desk.voice(VOICES[name.lower()])
    except VoiceNotFound:  # its recording is lost
        return None
