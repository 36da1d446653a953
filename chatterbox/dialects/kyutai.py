"""Kyutai's moshi-server: `/api/tts_streaming` as a socket and as a POST call, and two status calls.

Words in as they are written; samples or Ogg Opus out, with the time of each word if the format can
carry it. docs/reference/dialects.md, "Kyutai".
"""

import base64
from functools import partial
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Request, WebSocket
from pydantic import BeforeValidator
from starlette.responses import JSONResponse, Response

from chatterbox import __version__
from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.audio.encode import audio_format
from chatterbox.dialects.shared.alignment import Timing, original_pieces
from chatterbox.dialects.shared.incremental_speech import PCM, Utterance
from chatterbox.dialects.shared.sockets import (
    SocketSpeech,
    message_fields,
    query_fields,
    send_packed,
    unknown_message,
    unpack,
)
from chatterbox.engine.speech_stream import SpeechReport, SpeechRequest
from chatterbox.errors import ChatterboxError, InvalidValue, Overloaded
from chatterbox.server.body import Body
from chatterbox.server.dialect import Dialect, Services
from chatterbox.server.schemas import (
    SOUND_ROUTE,
    LenientFields,
    Name,
    SamplingFields,
    Text,
    form_schema,
    parse_lenient_fields,
)
from chatterbox.server.socket_server import Socket
from chatterbox.server.speech_response import SpeechPlan, SpeechResponse, file_response

PATH = "/api/tts_streaming"
BLOCK_SAMPLES = 1920
"""Samples in one audio message: 80 ms, a frame of Kyutai's codec. Clients rely on this size."""
NO_SAMPLES = np.zeros(0, np.float32)
END_BYTE = b"\0"
NO_VOICES = ("None", "none")
BUILD_FIELDS = (
    *("build_timestamp", "build_date", "rustc_version", "rustc_host_triple", "cargo_target_triple"),
    *("git_branch", "git_timestamp", "git_date", "git_hash"),
)
"""Fields of `/api/build_info` that are empty here."""
OPUS, WAV = audio_format("opus"), audio_format("wav")


class Query(SamplingFields):
    voice: Name | None = None
    format: Literal["PcmMessagePack", "Pcm", "OggOpus", "OggOpusMessagePack"] = "OggOpus"
    seed: int | None = None


def _join(value: object) -> object:
    """Join a list of turns, which Kyutai's `text` may be."""
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return " ".join(value)
    return value


class PostFields(SamplingFields):
    text: Annotated[Text, BeforeValidator(_join)]
    voice: Name | None = None
    seed: int | None = None
    return_timestamps: bool = False


class TextMessage(LenientFields):
    text: Text


class Session(SocketSpeech):
    """One socket with one continuous audio stream."""

    route = PATH

    def __init__(self, services: Services, socket: Socket, query: Query, voice: str | None) -> None:
        super().__init__(services, socket, OPUS if query.format.startswith("Ogg") else PCM)
        self._query = query
        self._voice = voice
        self._is_packed = query.format.endswith("MessagePack")
        self._block = NO_SAMPLES  # incomplete block, sent with the next samples
        self._last_char = " "  # of the text received so far

    async def run(self) -> None:
        if self._is_packed:
            await send_packed(self.socket, "Ready")
        await super().run()

    async def take(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self._feed(message)
            return
        fields = {"type": "Eos"} if message == END_BYTE else unpack(message)
        match fields.get("type"):
            case "Text":
                self._feed(message_fields(TextMessage, fields).text)
            case "Eos":
                self.queue.end(partial(self._send_audio, NO_SAMPLES, last=True))
            case "Voice":
                raise InvalidValue(
                    "Voice embeddings are not supported; register a recording and send its name.",
                    param="voice",
                )
            case other:
                raise unknown_message(other)

    def _feed(self, text: str) -> None:
        """Add whole words. Kyutai's clients strip the spaces between messages, so restore them."""
        if text:
            space = "" if self._last_char.isspace() or text[0].isspace() else " "
            self.queue.feed(space + text)
            self._last_char = text[-1]

    def request_for(self, text: str) -> SpeechRequest:
        query = self._query
        return self.services.speech.build_request(
            text, self._voice, PCM, sampling=query, seed=query.seed
        )

    async def on_audio(self, utterance: Utterance, samples: F32) -> None:
        """Send words before their audio."""
        await self._send_words(utterance)
        await self._send_audio(samples, last=False)

    async def on_end(self, utterance: Utterance) -> None:
        await self._send_words(utterance, last=True)

    async def _send_words(self, utterance: Utterance, *, last: bool = False) -> None:
        words = utterance.timing.words(utterance.sent_s, last=last, offset_s=self.spoken_s)
        for text, start_s, stop_s in words if self._is_packed else ():
            await send_packed(self.socket, "Text", text=text, start_s=start_s, stop_s=stop_s)

    async def _send_audio(self, samples: F32, *, last: bool) -> None:
        if self.form is PCM:
            await self._send_blocks(samples, last=last)
            return
        data = self.file.feed(samples) + (self.file.finish() if last else b"")
        if data and self._is_packed:
            await send_packed(self.socket, "OggOpus", data=data)
        elif data:
            await self.socket.send(data)

    async def _send_blocks(self, samples: F32, *, last: bool) -> None:
        """Send whole blocks. If `last`, pad the remaining samples with silence to a block."""
        pending = np.concatenate([self._block, samples])
        if last:
            pending = np.pad(pending, (0, -len(pending) % BLOCK_SAMPLES))
        ready = len(pending) - len(pending) % BLOCK_SAMPLES
        for block in pending[:ready].astype("<f4").reshape(-1, BLOCK_SAMPLES):
            if self._is_packed:
                await send_packed(self.socket, "Audio", pcm=block.tolist())
            else:
                await self.socket.send(block.tobytes())
        self._block = pending[ready:]


async def _send_error(socket: Socket, error: ChatterboxError) -> None:
    """Send `Error`; only the MessagePack formats have such a message. Kyutai's clients recognize a
    full server by the text "no free channels"."""
    if not socket.query.get("format", "OggOpus").endswith("MessagePack"):
        return
    message = "no free channels" if isinstance(error, Overloaded) else error.message
    await send_packed(socket, "Error", message=message)


def _file_with_words(call: SpeechRequest, samples: F32, report: SpeechReport) -> Response:
    """Build the answer with the whole file and the time of each word."""
    timing = Timing(original_pieces(call.text, report.segment_texts), report)
    words = timing.words(len(samples) / SAMPLE_RATE_HZ, last=True)
    transcript = [{"text": w.text, "start_s": w.start_s, "stop_s": w.end_s} for w in words]
    wav = base64.b64encode(WAV.encode_whole(samples)).decode("ascii")
    return JSONResponse({"wav": wav, "transcript": transcript})


def add_routes(routes: APIRouter, services: Services) -> None:
    def resolve_voice(name: str | None) -> str | None:
        if not name or name in NO_VOICES:
            return None
        return services.voices.library.info(name).voice_id

    @routes.websocket(PATH)
    async def streaming(websocket: WebSocket) -> None:
        """Kyutai: words in; samples or Ogg Opus, and the time of each word, out."""

        async def protocol(socket: Socket) -> None:
            query = query_fields(Query, socket)
            voice = await services.voices.run(resolve_voice, query.voice)
            await Session(services, socket, query, voice).run()

        await services.sockets.serve(websocket, protocol, _send_error)

    def read_plan(body: Body) -> SpeechPlan:
        fields, unknown = parse_lenient_fields(PostFields, body)
        call = services.speech.build_request(
            fields.text,
            resolve_voice(fields.voice),
            WAV,
            sampling=fields,
            seed=fields.seed,
            silence_if_wordless=True,
            ignored=unknown,
        )
        return SpeechPlan(
            call, build=_file_with_words if fields.return_timestamps else file_response
        )

    @routes.post(PATH, openapi_extra=form_schema(PostFields), **SOUND_ROUTE)
    async def posted(request: Request) -> Response:
        """Kyutai: a WAV file, or with `return_timestamps` JSON with the time of each word."""
        return SpeechResponse(services.speech, request, read_plan)

    @routes.get("/api/build_info")
    async def build_info() -> Response:
        """Kyutai: the server's version."""
        return JSONResponse({**dict.fromkeys(BUILD_FIELDS, ""), "git_describe": __version__})

    @routes.get("/api/modules_info")
    async def modules_info() -> Response:
        """Kyutai: the speech socket, with its total and used places."""
        places = services.admission.places
        slots = {"total_slots": places.capacity, "used_slots": places.active}
        return JSONResponse({"tts": {"type": "tts", "path": PATH, **slots}})


DIALECT = Dialect(add_routes, tag="kyutai")
