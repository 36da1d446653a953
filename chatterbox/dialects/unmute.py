"""unmute's Orpheus service: `/ws`, MessagePack in and out.

docs/reference/dialects.md, "MessagePack": Ready, Speak, Audio, EndSpeak, Marker, Error; and the
next revision's Text and Eos.
"""

from typing import Any

from fastapi import APIRouter, WebSocket

from chatterbox.arrays import F32
from chatterbox.audio.encode import audio_format
from chatterbox.dialects.shared.incremental_speech import Utterance
from chatterbox.dialects.shared.sockets import (
    SocketSpeech,
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
from chatterbox.server.socket_server import Socket

PATH = "/ws"
PCM = audio_format("pcm")


class TextMessage(LenientCall):
    """`Speak` and `Text`."""

    text: Text
    voice: Name | None = None


class Session(SocketSpeech):
    """One socket. A mark's token is the message to send: a client's marker comes back as it was."""

    route = PATH

    def __init__(self, services: Services, socket: Socket) -> None:
        super().__init__(services, socket)
        self._voice: str | None = None
        self._encoder = PCM.encoder()

    async def run(self) -> None:
        if self.socket.query.get("ready") == "json":
            await self.socket.send_json({"type": "Ready"})
        else:
            await send_packed(self.socket, "Ready")
        await super().run()

    async def take(self, frame: str | bytes) -> None:
        message = unpacked(frame)
        match message.get("type"):
            case "Speak":
                self.queue.call(self.call_of(await self._text(message)))
                self.queue.mark(packed({"type": "EndSpeak"}))
            case "Text":
                self.queue.feed(await self._text(message))
            case "Eos":
                self.queue.mark(packed({"type": "Eos"}))
            case "Marker":
                self.queue.mark(frame)
            case other:
                raise unknown_message(other)

    async def _text(self, message: dict[str, Any]) -> str:
        fields = fields_of_message(TextMessage, message)
        if fields.voice is not None:
            self._voice = await orpheus_voice(self.services, fields.voice)
        return fields.text

    def call_of(self, text: str) -> SpeechRequest:
        return self.services.call(text, self._voice, PCM)

    async def on_audio(self, _utterance: Utterance, samples: F32) -> None:
        await send_packed(self.socket, "Audio", pcm=self._encoder.feed(samples))

    async def on_mark(self, token: Any) -> None:
        await self.socket.send(token)


async def _send_error(socket: Socket, error: ChatterboxError) -> None:
    await send_packed(socket, "Error", message=error.message)


def add_routes(routes: APIRouter, services: Services) -> None:
    @routes.websocket(PATH)
    async def speak(websocket: WebSocket) -> None:
        """unmute's MessagePack service: Speak in, Audio, EndSpeak and Marker out."""
        await services.sockets.serve(
            websocket, lambda socket: Session(services, socket).run(), _send_error
        )


DIALECT = Dialect(add_routes)
