"""The sockets of Orpheus' first servers: Yap's `/ws/tts`, and unmute's `/ws` in MessagePack.

docs/reference/dialects.md, "Yap" and "MessagePack". Both revisions of each share its path.
"""

from typing import Any

from fastapi import APIRouter, WebSocket
from starlette.responses import JSONResponse, Response

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
from chatterbox.errors import ChatterboxError, UnsupportedMediaType
from chatterbox.server.dialect import Dialect, Services
from chatterbox.server.schemas import LenientCall, Name, SamplingFields, Text
from chatterbox.server.socket_server import Socket, json_object

YAP_PATH, UNMUTE_PATH = "/ws/tts", "/ws"
END = "__END__"
END_BYTES = END.encode()
"""Clients compare a whole message with it: it is never part of one with samples."""
PCM = audio_format("pcm")


class Message(SamplingFields):
    """An utterance, or (without `text`) settings for those that follow."""

    text: Text | None = None
    voice: Name | None = None
    end: bool = False
    seed: int | None = None


class Yap(SocketSpeech):
    """Text in, 16-bit samples and a binary `__END__` out. A client of the second revision waits
    for one `__END__`, after its own; one of the first waits for one whenever all it has sent is
    spoken."""

    route = YAP_PATH

    def __init__(self, services: Services, socket: Socket) -> None:
        super().__init__(services, socket)
        self._settings = Message()
        self._second_revision = False
        self._encoder = PCM.encoder()

    async def take(self, received: str | bytes) -> None:
        message, bare = _parsed(received)
        if message.end:
            self._second_revision = True
            self.queue.end("end")
        elif message.text is None:
            self._second_revision = True
            self._settings = message
            await orpheus_voice(self.services, message.voice)
        else:
            self._second_revision |= bare
            self.queue.call(await self._call(message))
            if not self._second_revision:
                self.queue.mark("utterance")

    async def _call(self, message: Message) -> SpeechRequest:
        settings = self._settings.model_copy(update=message.model_dump(exclude_none=True))
        return self.services.speech.build_request(
            message.text or "",
            await orpheus_voice(self.services, settings.voice),
            PCM,
            sampling=settings,
            seed=settings.seed,
        )

    async def on_audio(self, _utterance: Utterance, samples: F32) -> None:
        await self.socket.send(self._encoder.feed(samples))

    async def on_mark(self, token: Any) -> None:
        last = token == "end"  # noqa: S105
        if last or not (self._second_revision or self.queue.waiting):
            await self.socket.send(END_BYTES)


def _parsed(message: str | bytes) -> tuple[Message, bool]:
    """JSON, the word that ends, or a bare text; and whether it is the last of these."""
    if isinstance(message, bytes):
        if message == END_BYTES:
            return Message(end=True), False
        raise UnsupportedMediaType("Send text frames here.")
    if message.strip() == END:
        return Message(end=True), False
    if not message.lstrip().startswith("{"):
        return Message(text=message), True
    return fields_of_message(Message, json_object(message)), False


class TextMessage(LenientCall):
    """`Speak` and `Text`."""

    text: Text
    voice: Name | None = None


class Unmute(SocketSpeech):
    """MessagePack in and out. A mark's token is the message to send: a client's marker comes back
    as it was."""

    route = UNMUTE_PATH

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
        return self.services.speech.build_request(text, self._voice, PCM)

    async def on_audio(self, _utterance: Utterance, samples: F32) -> None:
        await send_packed(self.socket, "Audio", pcm=self._encoder.feed(samples))

    async def on_mark(self, token: Any) -> None:
        await self.socket.send(token)


async def _close_only(_socket: Socket, _error: ChatterboxError) -> None:
    """Yap's errors are close codes alone: a client would take any other message for audio."""


async def _send_error(socket: Socket, error: ChatterboxError) -> None:
    await send_packed(socket, "Error", message=error.message)


def add_routes(routes: APIRouter, services: Services) -> None:
    @routes.websocket(YAP_PATH)
    async def tts(websocket: WebSocket) -> None:
        """Yap: texts in, 16-bit samples and `__END__` out."""
        await services.sockets.serve(
            websocket, lambda socket: Yap(services, socket).run(), _close_only
        )

    @routes.get("/healthz", tags=["server"])
    async def healthz() -> Response:
        """200 while work is taken, as Yap's clients and supervisors ask."""
        services.admission.lifecycle.check_open()
        return JSONResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})

    @routes.websocket(UNMUTE_PATH)
    async def speak(websocket: WebSocket) -> None:
        """unmute's MessagePack service: Speak in, Audio, EndSpeak and Marker out."""
        await services.sockets.serve(
            websocket, lambda socket: Unmute(services, socket).run(), _send_error
        )


DIALECT = Dialect(add_routes)
