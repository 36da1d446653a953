"""unmute's Orpheus service: `/ws`, MessagePack in and out.

docs/dialects.md, "MessagePack": Ready, Speak, Audio, EndSpeak, Marker, Error; and the next
revision's Text and Eos.
"""

from typing import Any

from fastapi import APIRouter, WebSocket

from chatterbox.arrays import F32
from chatterbox.audio.encode import audio_format
from chatterbox.dialects.shared.incremental_speech import IncrementalSpeech, Listener, Utterance
from chatterbox.dialects.shared.messages import (
    fields_of_message,
    packed,
    send_packed,
    unknown_message,
    unpacked,
)
from chatterbox.dialects.shared.voice_names import orpheus_voice
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.errors import ChatterboxError
from chatterbox.server.dialect import Dialect, Services
from chatterbox.server.schemas import LenientCall, Name, Text
from chatterbox.server.socket_server import Socket, first_of

PATH = "/ws"
PCM = audio_format("pcm")


class TextMessage(LenientCall):
    """`Speak` and `Text`."""

    text: Text
    voice: Name | None = None


class Session(Listener):
    """One socket."""

    def __init__(self, services: Services, socket: Socket) -> None:
        self._services = services
        self._socket = socket
        self._voice: str | None = None
        self._encoder = PCM.encoder()
        self._speech = IncrementalSpeech(services, PATH, self, call_of=self._call)
        socket.busy = lambda: self._speech.busy

    async def run(self) -> None:
        """Until the client leaves."""
        if self._socket.query.get("ready") == "json":
            await self._socket.send_json({"type": "Ready"})
        else:
            await send_packed(self._socket, {"type": "Ready"})
        await first_of(self._read(), self._speech.run())

    async def _read(self) -> None:
        queue = self._speech.queue
        while True:
            frame = await self._socket.receive()
            message = unpacked(frame)
            match message.get("type"):
                case "Speak":
                    queue.call(self._call(await self._text(message)))
                    queue.mark(packed({"type": "EndSpeak"}))
                case "Text":
                    queue.feed(await self._text(message))
                case "Eos":
                    queue.mark(packed({"type": "Eos"}))
                case "Marker":
                    queue.mark(frame)
                case other:
                    raise unknown_message(other)

    async def _text(self, message: dict[str, Any]) -> str:
        fields = fields_of_message(TextMessage, message)
        if fields.voice is not None:
            self._voice = await orpheus_voice(self._services, fields.voice)
        return fields.text

    def _call(self, text: str) -> SpeechRequest:
        return self._services.call(text, self._voice, PCM)

    async def on_audio(self, _utterance: Utterance, samples: F32) -> None:
        """Samples."""
        await send_packed(self._socket, {"type": "Audio", "pcm": self._encoder.feed(samples)})

    async def on_mark(self, token: Any) -> None:
        """The token is the message to send: a marker comes back byte for byte."""
        await self._socket.send(token)


async def _send_error(socket: Socket, error: ChatterboxError) -> None:
    await send_packed(socket, {"type": "Error", "message": error.message})


def router(services: Services) -> APIRouter:
    """The socket."""
    routes = APIRouter()

    @routes.websocket(PATH)
    async def speak(websocket: WebSocket) -> None:
        """unmute's MessagePack service: Speak in, Audio, EndSpeak and Marker out."""
        await services.sockets.serve(
            websocket, lambda socket: Session(services, socket).run(), _send_error
        )

    return routes


DIALECT = Dialect(router)
