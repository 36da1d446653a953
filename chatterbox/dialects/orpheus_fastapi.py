"""Orpheus's first servers (Yap): `/ws/tts`, text in, 16-bit samples and a binary `__END__` out.

docs/dialects.md, "Yap"; both revisions of the protocol share the path. Errors are close codes only.
"""

from typing import Any

from fastapi import APIRouter, WebSocket
from starlette.responses import JSONResponse, Response

from chatterbox.arrays import F32
from chatterbox.audio.encode import audio_format
from chatterbox.dialects.shared.incremental_speech import IncrementalSpeech, Listener, Utterance
from chatterbox.dialects.shared.messages import fields_of_message
from chatterbox.dialects.shared.voice_names import orpheus_voice
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.errors import ChatterboxError, UnsupportedMediaType
from chatterbox.server.dialect import Dialect, Services
from chatterbox.server.schemas import Name, SamplingFields, Text
from chatterbox.server.socket_server import Socket, first_of, json_object

PATH = "/ws/tts"
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


class Session(Listener):
    """One socket. A client of the second revision waits for one `__END__`, after its own; one of
    the first revision waits for one whenever all it has sent is spoken."""

    def __init__(self, services: Services, socket: Socket) -> None:
        self._services = services
        self._socket = socket
        self._settings = Message()
        self._second_revision = False
        self._encoder = PCM.encoder()
        self._speech = IncrementalSpeech(services, PATH, self)
        socket.busy = lambda: self._speech.busy

    async def run(self) -> None:
        """Until the client ends, and all is spoken."""
        await first_of(self._read(), self._speech.run())

    async def _read(self) -> None:
        ended = False
        while True:
            received = await self._socket.receive()
            if ended:
                continue  # text after the end
            message, bare = _parsed(received)
            if message.end:
                ended = True
                self._second_revision = True
                self._speech.queue.mark("end")
                self._speech.queue.end()
            elif message.text is None:
                self._second_revision = True
                self._settings = message
                await orpheus_voice(self._services, message.voice)
            else:
                self._second_revision = self._second_revision or bare
                self._speech.queue.call(await self._call(message))
                if not self._second_revision:
                    self._speech.queue.mark("utterance")

    async def _call(self, message: Message) -> SpeechRequest:
        own = {name for name, value in message if value is not None}
        settings = message.model_copy(
            update={name: value for name, value in self._settings if name not in own}
        )
        return self._services.call(
            message.text or "",
            await orpheus_voice(self._services, settings.voice),
            PCM,
            sampling=settings,
            seed=settings.seed,
        )

    async def on_audio(self, _utterance: Utterance, samples: F32) -> None:
        """Samples, as they are."""
        await self._socket.send(self._encoder.feed(samples))

    async def on_mark(self, token: Any) -> None:
        """`__END__`, where the client waits for one."""
        last = token == "end"  # noqa: S105
        if last or not (self._second_revision or self._speech.queue.waiting):
            await self._socket.send(END_BYTES)


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


async def _send_error(_socket: Socket, _error: ChatterboxError) -> None:
    """Nothing but the close code: a client would take any other message for audio."""


def router(services: Services) -> APIRouter:
    """The socket, and the probe that goes with it."""
    routes = APIRouter()

    @routes.websocket(PATH)
    async def tts(websocket: WebSocket) -> None:
        """Yap: texts in, 16-bit samples and `__END__` out."""
        await services.sockets.serve(
            websocket, lambda socket: Session(services, socket).run(), _send_error
        )

    @routes.get("/healthz", tags=["server"])
    async def healthz() -> Response:
        """200 while work is taken, as Yap's clients and supervisors ask."""
        services.speech.lifecycle.check_open()
        return JSONResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})

    return routes


DIALECT = Dialect(router)
