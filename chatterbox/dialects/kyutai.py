"""Kyutai's moshi-server: `/api/tts_streaming` as a socket and as a POST call.

Words in as they are written; samples or Ogg Opus out, with the time of each word where the format
can carry it. Also its two information calls. docs/reference/dialects.md, "Kyutai".
"""

import base64
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, WebSocket
from pydantic import BeforeValidator
from starlette.responses import JSONResponse, Response

from chatterbox import __version__
from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.audio.encode import audio_format
from chatterbox.dialects.shared.alignment import Timing, original_pieces
from chatterbox.dialects.shared.incremental_speech import Utterance
from chatterbox.dialects.shared.sockets import (
    SocketSpeech,
    fields_of_message,
    send_packed,
    unknown_message,
    unpacked,
)
from chatterbox.engine.speech_stream import SpeechReport, SpeechRequest
from chatterbox.errors import ChatterboxError, InvalidValue, Overloaded
from chatterbox.server.body import Body
from chatterbox.server.dialect import Dialect, Services
from chatterbox.server.schemas import (
    SOUND_ROUTE,
    LenientCall,
    Name,
    SamplingFields,
    Text,
    form_schema,
    lenient_fields_of,
)
from chatterbox.server.socket_server import Socket
from chatterbox.server.speech_response import (
    ResponseBuilder,
    SpeechPlan,
    SpeechResponse,
    file_response,
)

PATH = "/api/tts_streaming"
BLOCK_SAMPLES = 1920
"""80 ms: one frame of their codec, and what their clients expect in a message."""
END_BYTE = b"\0"
NO_VOICES = ("None", "none")
BUILD_FACTS = (
    *("build_timestamp", "build_date", "rustc_version", "rustc_host_triple", "cargo_target_triple"),
    *("git_branch", "git_timestamp", "git_date", "git_hash"),
)
"""Of what their server tells of itself; here all are empty."""
PCM, OPUS, WAV = audio_format("pcm"), audio_format("opus"), audio_format("wav")


class Query(SamplingFields):
    """What of the address means something here."""

    voice: Name | None = None
    format: Literal["PcmMessagePack", "Pcm", "OggOpus", "OggOpusMessagePack"] = "OggOpus"
    seed: int | None = None


def _joined(value: object) -> object:
    """Their text is a list of turns."""
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return " ".join(value)
    return value


class Posted(SamplingFields):
    """The same in one call."""

    text: Annotated[Text, BeforeValidator(_joined)]
    voice: Name | None = None
    seed: int | None = None
    return_timestamps: bool = False


class TextMessage(LenientCall):
    """`Text`."""

    text: Text


class Session(SocketSpeech):
    """One socket, one speech."""

    route = PATH

    def __init__(self, services: Services, socket: Socket, query: Query, voice: str | None) -> None:
        super().__init__(services, socket)
        self._query = query
        self._voice = voice
        self._packed = query.format.endswith("MessagePack")
        self._opus = OPUS.encoder() if query.format.startswith("Ogg") else None
        self._head = self._opus.start() if self._opus else b""
        self._block = np.zeros(0, np.float32)
        self._last = " "  # last character of the text

    async def run(self) -> None:
        try:
            if self._packed:
                await send_packed(self.socket, "Ready")
            await super().run()
        finally:
            if self._opus is not None:
                self._opus.close()

    async def take(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self._feed(message)
            return
        fields = {"type": "Eos"} if message == END_BYTE else unpacked(message)
        match fields.get("type"):
            case "Text":
                self._feed(fields_of_message(TextMessage, fields).text)
            case "Eos":
                self.queue.end("end")
            case "Voice":
                raise InvalidValue(
                    "Voices are not read as embeddings here; register a recording and name it.",
                    param="voice",
                )
            case other:
                raise unknown_message(other)

    def _feed(self, text: str) -> None:
        """A message is one or more whole words: their clients strip the blanks between them."""
        if text:
            blank = "" if self._last.isspace() or text[0].isspace() else " "
            self.queue.feed(blank + text)
            self._last = text[-1]

    def call_of(self, text: str) -> SpeechRequest:
        query = self._query
        return self.services.speech.build_request(
            text, self._voice, PCM, sampling=query, seed=query.seed
        )

    async def on_audio(self, utterance: Utterance, samples: F32) -> None:
        """Words, then the audio they are in."""
        await self._send_words(utterance)
        await self._send_audio(samples, last=False)

    async def on_end(self, utterance: Utterance) -> None:
        await self._send_words(utterance, last=True)

    async def on_mark(self, _token: Any) -> None:
        await self._send_audio(np.zeros(0, np.float32), last=True)

    async def _send_words(self, utterance: Utterance, *, last: bool = False) -> None:
        words = utterance.timing.words(utterance.sent_s, last=last, since_s=self.spoken_s)
        for text, start_s, stop_s in words if self._packed else ():
            await send_packed(self.socket, "Text", text=text, start_s=start_s, stop_s=stop_s)

    async def _send_audio(self, samples: F32, *, last: bool) -> None:
        if self._opus is None:
            await self._send_blocks(samples, last=last)
            return
        data, self._head = self._head, b""
        data += self._opus.finish() if last else self._opus.feed(samples)
        if data and self._packed:
            await send_packed(self.socket, "OggOpus", data=data)
        elif data:
            await self.socket.send(data)

    async def _send_blocks(self, samples: F32, *, last: bool) -> None:
        """In blocks of one length; silence fills the last one."""
        pending = np.concatenate([self._block, samples])
        if last:
            pending = np.pad(pending, (0, -len(pending) % BLOCK_SAMPLES))
        whole = len(pending) - len(pending) % BLOCK_SAMPLES
        for block in pending[:whole].astype("<f4").reshape(-1, BLOCK_SAMPLES):
            if self._packed:
                await send_packed(self.socket, "Audio", pcm=block.tolist())
            else:
                await self.socket.send(block.tobytes())
        self._block = pending[whole:]


async def _send_error(socket: Socket, error: ChatterboxError) -> None:
    """In the words their clients know for a full server. The bare formats have no errors."""
    if not socket.query.get("format", "OggOpus").endswith("MessagePack"):
        return
    message = "no free channels" if isinstance(error, Overloaded) else error.message
    await send_packed(socket, "Error", message=message)


def _timed(call: SpeechRequest, samples: F32, report: SpeechReport) -> Response:
    """The file, and the time of each word."""
    timing = Timing(original_pieces(call.text, report.segment_texts), report)
    words = timing.words(len(samples) / SAMPLE_RATE_HZ, last=True)
    transcript = [{"text": w.text, "start_s": w.start_s, "stop_s": w.end_s} for w in words]
    wav = base64.b64encode(WAV.encode_whole(samples)).decode("ascii")
    return JSONResponse({"wav": wav, "transcript": transcript})


def add_routes(routes: APIRouter, services: Services) -> None:
    def voice_of(name: str | None) -> str | None:
        if not name or name in NO_VOICES:
            return None
        return services.voices.library.info(name).voice_id

    @routes.websocket(PATH)
    async def streaming(websocket: WebSocket) -> None:
        """Kyutai: words in, samples or Ogg Opus and the words' times out."""

        async def protocol(socket: Socket) -> None:
            query, _ = lenient_fields_of(Query, Body(dict(socket.query)))
            voice = await services.voices.ask(voice_of, query.voice)
            await Session(services, socket, query, voice).run()

        await services.sockets.serve(websocket, protocol, _send_error)

    def read(body: Body) -> SpeechPlan:
        fields, unknown = lenient_fields_of(Posted, body)
        call = services.speech.build_request(
            fields.text,
            voice_of(fields.voice),
            WAV,
            sampling=fields,
            seed=fields.seed,
            silence_if_wordless=True,
            ignored=unknown,
        )
        build: ResponseBuilder = _timed if fields.return_timestamps else file_response
        return SpeechPlan(call, build=build)

    @routes.post(PATH, openapi_extra=form_schema(Posted), **SOUND_ROUTE)
    async def posted(request: Request) -> Response:
        """Kyutai: a WAV file, or with `return_timestamps` JSON with the words' times."""
        return SpeechResponse(services.speech, request, read)

    @routes.get("/api/build_info")
    async def build_info() -> Response:
        """Kyutai: what is running."""
        return JSONResponse({**dict.fromkeys(BUILD_FACTS, ""), "git_describe": __version__})

    @routes.get("/api/modules_info")
    async def modules_info() -> Response:
        """Kyutai: which sockets there are, and how many may be spoken to at once."""
        admission = services.admission.places
        slots = {"total_slots": admission.capacity, "used_slots": admission.active}
        return JSONResponse({"tts": {"type": "tts", "path": PATH, **slots}})


DIALECT = Dialect(add_routes, tag="kyutai")
