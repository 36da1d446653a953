"""What is said on `/ws/tts`, the socket of the first servers for Orpheus (Yap)?

Text in, 16-bit samples out, and a binary `__END__`; both of its revisions on one path.
"""

from typing import Any

from fastapi import APIRouter, WebSocket
from starlette.responses import JSONResponse, Response

from chatterbox.audio.encode import audio_format
from chatterbox.dialects.orpheus_voices import voice_of
from chatterbox.dialects.shared.incremental_speech import IncrementalSpeech, Utterance
from chatterbox.dialects.shared.socket_server import Socket, SocketServer, first_of, json_object
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.errors import ChatterboxError, UnsupportedMediaType
from chatterbox.runtime.contract import F32
from chatterbox.server.body import Body
from chatterbox.server.schemas import Name, SamplingFields, Text, lenient_fields_of

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


class Session:
    """One socket. `patient`: a client of the second revision, who waits for one `__END__` only,
    after its own; the first revision's waits for one whenever all it has sent is spoken."""

    def __init__(self, desk: SocketServer, socket: Socket) -> None:
        self._desk = desk
        self._socket = socket
        self._settings = Message()
        self._patient = False
        self._encoder = PCM.encoder()
        self._voicing = IncrementalSpeech(
            desk.backend, desk.ended, PATH, self, call_of=self._no_pieces
        )
        socket.busy = lambda: self._voicing.busy

    async def run(self) -> None:
        """Until the client ends, and all is spoken."""
        await first_of(self._read(), self._voicing.run())

    async def _read(self) -> None:
        ended = False
        while True:
            received = await self._socket.receive()
            if ended:
                continue  # text after the end
            message, bare = _parsed(received)
            if message.end:
                ended = True
                self._patient = True
                self._voicing.inbox.mark("end")
                self._voicing.inbox.end()
            elif message.text is None:
                self._patient = True
                self._settings = message
                await voice_of(self._desk, message.voice)
            else:
                self._patient = self._patient or bare
                self._voicing.inbox.call(await self._call(message))
                if not self._patient:
                    self._voicing.inbox.mark("utterance")

    async def _call(self, message: Message) -> SpeechRequest:
        own = {name for name, value in message if value is not None}
        settings = message.model_copy(
            update={name: value for name, value in self._settings if name not in own}
        )
        return self._desk.backend.call(
            message.text or "",
            await voice_of(self._desk, settings.voice),
            PCM,
            sampling=settings,
            seed=settings.seed,
        )

    def _no_pieces(self, _text: str) -> SpeechRequest:
        raise AssertionError("every text is a call of its own here")

    # --- Listener

    async def begins(self, _utterance: Utterance) -> None:
        """Nothing is said of it."""

    async def sounds(self, _utterance: Utterance, samples: F32) -> None:
        """Samples, as they are."""
        await self._socket.send(self._encoder.feed(samples))

    async def ends(self, _utterance: Utterance) -> None:
        """Nothing is said of it."""

    async def reaches(self, token: Any) -> None:
        """`__END__`, where its client waits for one."""
        if token == "end" or not (self._patient or self._voicing.inbox.waiting):  # noqa: S105
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
    return lenient_fields_of(Message, Body(json_object(message), typed=True))[0], False


async def _tell_error(_socket: Socket, _error: ChatterboxError) -> None:
    """Only the close code says it: any other message would be taken for sound."""


def router(desk: SocketServer) -> APIRouter:
    """The socket, and the probe that goes with it."""
    routes = APIRouter()

    @routes.websocket(PATH)
    async def tts(websocket: WebSocket) -> None:
        """Yap: texts in, 16-bit samples and `__END__` out."""
        await desk.serve(websocket, lambda socket: Session(desk, socket).run(), _tell_error)

    @routes.get("/healthz", tags=["server"])
    async def healthz() -> Response:
        """200 while work is taken, as Yap's clients and supervisors ask."""
        desk.backend.service.lifecycle.check_open()
        return JSONResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})

    return routes
