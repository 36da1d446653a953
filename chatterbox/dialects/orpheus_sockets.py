"""WebSockets of early Orpheus servers: Yap's `/ws/tts`, and unmute's `/ws` in MessagePack.

docs/reference/dialects.md, "Yap" and "MessagePack". Both revisions of Yap's protocol use the same
path."""

from functools import partial
from typing import Any

from fastapi import APIRouter, WebSocket
from starlette.responses import JSONResponse, Response

from chatterbox.arrays import F32
from chatterbox.dialects.shared.incremental_speech import PCM, Utterance
from chatterbox.dialects.shared.sockets import (
    SocketSpeech,
    message_fields,
    send_packed,
    unknown_message,
    unpack,
)
from chatterbox.dialects.shared.voice_names import ORPHEUS_VOICES, find_voice
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.errors import ChatterboxError, UnsupportedMediaType
from chatterbox.server.dialect import Dialect, Services
from chatterbox.server.schemas import LenientFields, Name, SamplingFields, Text
from chatterbox.server.socket_server import Socket, json_object

YAP_PATH, UNMUTE_PATH = "/ws/tts", "/ws"
END = "__END__"
END_BYTES = END.encode()
"""Sent as a separate message, because clients compare whole messages with it."""


class Message(SamplingFields):
    """An utterance, or without `text` the settings for all following utterances."""

    text: Text | None = None
    voice: Name | None = None
    end: bool = False
    seed: int | None = None


class Yap(SocketSpeech):
    """Texts in; 16-bit samples and a binary `__END__` out.

    Clients of the first revision expect `__END__` each time all their text has been spoken. Clients
    of the second send settings, bare strings or `__END__`, and expect one `__END__` at the end.
    """

    route = YAP_PATH

    def __init__(self, services: Services, socket: Socket) -> None:
        super().__init__(services, socket)
        self._settings = Message()
        self._is_second_revision = False

    async def take(self, received: str | bytes) -> None:
        is_bare = isinstance(received, str) and not received.lstrip().startswith("{")
        message = _read_message(received)
        self._is_second_revision |= is_bare or message.end or message.text is None
        if message.end:
            self.queue.end(partial(self.socket.send, END_BYTES))
        elif message.text is None:
            self._settings = message
            await self._voice_of(message)  # raises VoiceNotFound at once
        else:
            self.queue.add(await self._request(message, message.text))
            if not self._is_second_revision:
                self.queue.then(self._end_utterance)

    async def _request(self, message: Message, text: str) -> SpeechRequest:
        fields = self._settings.model_copy(update=message.model_dump(exclude_none=True))
        voice = await self._voice_of(fields)
        return self.services.speech.build_request(
            text, voice, PCM, sampling=fields, seed=fields.seed
        )

    async def _voice_of(self, message: Message) -> str | None:
        return await find_voice(self.services, message.voice or None, ORPHEUS_VOICES)

    async def on_audio(self, _utterance: Utterance, samples: F32) -> None:
        await self.socket.send(self.file.feed(samples))

    async def _end_utterance(self) -> None:
        if not (self._is_second_revision or self.queue.has_ready):
            await self.socket.send(END_BYTES)


def _read_message(received: str | bytes) -> Message:
    if received == END_BYTES or (isinstance(received, str) and received.strip() == END):
        return Message(end=True)
    if isinstance(received, bytes):
        raise UnsupportedMediaType("This socket takes text frames.")
    if not received.lstrip().startswith("{"):
        return Message(text=received)
    return message_fields(Message, json_object(received))


class TextMessage(LenientFields):
    text: Text
    voice: Name | None = None


class Unmute(SocketSpeech):
    """MessagePack in and out. A client's `Marker` is sent back unchanged."""

    route = UNMUTE_PATH

    def __init__(self, services: Services, socket: Socket) -> None:
        super().__init__(services, socket)
        self._voice: str | None = None

    async def run(self) -> None:
        if self.socket.query.get("ready") == "json":
            await self.socket.send_json({"type": "Ready"})
        else:
            await send_packed(self.socket, "Ready")
        await super().run()

    async def take(self, frame: str | bytes) -> None:
        message = unpack(frame)
        match message.get("type"):
            case "Speak":
                self.queue.add(self.request_for(await self._read_text(message)))
                self.queue.then(partial(send_packed, self.socket, "EndSpeak"))
            case "Text":
                self.queue.feed(await self._read_text(message))
            case "Eos":
                self.queue.then(partial(send_packed, self.socket, "Eos"))
            case "Marker":
                self.queue.then(partial(self.socket.send, frame))
            case other:
                raise unknown_message(other)

    async def _read_text(self, message: dict[str, Any]) -> str:
        fields = message_fields(TextMessage, message)
        if fields.voice is not None:
            self._voice = await find_voice(self.services, fields.voice or None, ORPHEUS_VOICES)
        return fields.text

    def request_for(self, text: str) -> SpeechRequest:
        return self.services.speech.build_request(text, self._voice, PCM)

    async def on_audio(self, _utterance: Utterance, samples: F32) -> None:
        await send_packed(self.socket, "Audio", pcm=self.file.feed(samples))


async def _send_no_error(_socket: Socket, _error: ChatterboxError) -> None:
    """Send nothing: Yap's clients take any message for audio, so its errors are close codes."""


async def _send_error(socket: Socket, error: ChatterboxError) -> None:
    await send_packed(socket, "Error", message=error.message)


def add_routes(routes: APIRouter, services: Services) -> None:
    @routes.websocket(YAP_PATH)
    async def tts(websocket: WebSocket) -> None:
        """Yap: texts in, 16-bit samples and `__END__` out."""
        await services.sockets.serve(
            websocket, lambda socket: Yap(services, socket).run(), _send_no_error
        )

    @routes.get("/healthz", tags=["server"])
    async def healthz() -> Response:
        """Yap: 200 while the server accepts work."""
        services.admission.lifecycle.check_open()
        return JSONResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})

    @routes.websocket(UNMUTE_PATH)
    async def speak(websocket: WebSocket) -> None:
        """unmute's MessagePack service: Speak in, Audio, EndSpeak and Marker out."""
        await services.sockets.serve(
            websocket, lambda socket: Unmute(services, socket).run(), _send_error
        )


DIALECT = Dialect(add_routes)
