"""What is said on `/ws`, the MessagePack socket of the Orpheus services for unmute?

Ready, Speak, Audio, EndSpeak, Marker, Error; and its next revision's Text and Eos.
"""

from typing import Any

from fastapi import APIRouter, WebSocket

from chatterbox.audio.encode import audio_format
from chatterbox.dialects.orpheus_voices import voice_of
from chatterbox.dialects.shared.incremental_speech import IncrementalSpeech, Utterance
from chatterbox.dialects.shared.msgpack_frames import packed, send_packed, unpacked
from chatterbox.dialects.shared.socket_server import Socket, SocketServer, first_of
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.errors import ChatterboxError, InvalidValue, shown
from chatterbox.runtime.contract import F32
from chatterbox.server.body import Body
from chatterbox.server.schemas import LenientCall, Name, Text, lenient_fields_of

PATH = "/ws"
PCM = audio_format("pcm")


class Said(LenientCall):
    """`Speak` and `Text`."""

    text: Text
    voice: Name | None = None


class Session:
    """One socket."""

    def __init__(self, desk: SocketServer, socket: Socket) -> None:
        self._desk = desk
        self._socket = socket
        self._voice: str | None = None
        self._encoder = PCM.encoder()
        self._voicing = IncrementalSpeech(desk.backend, desk.ended, PATH, self, call_of=self._call)
        socket.busy = lambda: self._voicing.busy

    async def run(self) -> None:
        """Until the client leaves."""
        if self._socket.query.get("ready") == "json":
            await self._socket.send_json({"type": "Ready"})
        else:
            await send_packed(self._socket, {"type": "Ready"})
        await first_of(self._read(), self._voicing.run())

    async def _read(self) -> None:
        inbox = self._voicing.inbox
        while True:
            sent = await self._socket.receive()
            message = unpacked(sent)
            match message.get("type"):
                case "Speak":
                    inbox.call(self._call((await self._said(message)).text))
                    inbox.mark(packed({"type": "EndSpeak"}))
                case "Text":
                    inbox.feed((await self._said(message)).text)
                case "Eos":
                    inbox.mark(packed({"type": "Eos"}))
                case "Marker":
                    inbox.mark(sent)
                case other:
                    raise InvalidValue(f"There is no message '{shown(other)}'.", param="type")

    async def _said(self, message: dict[str, Any]) -> Said:
        said, _ = lenient_fields_of(Said, Body(message, typed=True))
        if said.voice is not None:
            self._voice = await voice_of(self._desk, said.voice)
        return said

    def _call(self, text: str) -> SpeechRequest:
        return self._desk.backend.call(text, self._voice, PCM)

    # --- Listener

    async def begins(self, _utterance: Utterance) -> None:
        """Nothing is said of it."""

    async def sounds(self, _utterance: Utterance, samples: F32) -> None:
        """Samples."""
        await send_packed(self._socket, {"type": "Audio", "pcm": self._encoder.feed(samples)})

    async def ends(self, _utterance: Utterance) -> None:
        """Nothing is said of it: a mark follows."""

    async def reaches(self, token: Any) -> None:
        """The mark is the message to send: a marker comes back as it was sent, to the byte."""
        await self._socket.send(token)


async def _tell_error(socket: Socket, error: ChatterboxError) -> None:
    await send_packed(socket, {"type": "Error", "message": error.message})


def router(desk: SocketServer) -> APIRouter:
    """The socket."""
    routes = APIRouter()

    @routes.websocket(PATH)
    async def speak(websocket: WebSocket) -> None:
        """unmute's MessagePack service: Speak in, Audio, EndSpeak and Marker out."""
        await desk.serve(websocket, lambda socket: Session(desk, socket).run(), _tell_error)

    return routes
