"""What is said on `/api/tts_streaming`, the socket of Kyutai's moshi-server?

Words in as they are written; samples or Ogg Opus out, with the time of each word where the format
can carry it. Also its POST form and the two information calls.
"""

import base64
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, WebSocket
from pydantic import BeforeValidator
from starlette.responses import JSONResponse, Response

from chatterbox import __version__
from chatterbox.audio.encode import audio_format
from chatterbox.dialects.shared.char_timing import Timing, Word, Words
from chatterbox.dialects.shared.incremental_speech import IncrementalSpeech, Utterance
from chatterbox.dialects.shared.msgpack_frames import send_packed, unpacked
from chatterbox.dialects.shared.socket_server import Socket, SocketServer, first_of
from chatterbox.engine.speech_stream import SpeechReport, SpeechRequest
from chatterbox.errors import ChatterboxError, InvalidValue, Overloaded, shown
from chatterbox.runtime.contract import F32, SAMPLE_RATE_HZ
from chatterbox.server.body import Body
from chatterbox.server.schemas import (
    LenientCall,
    Name,
    SamplingFields,
    Text,
    form_schema,
    lenient_fields_of,
)
from chatterbox.server.speech_response import SpeechPlan, SpeechResponse, Whole, whole_file

PATH = "/api/tts_streaming"
BLOCK_SAMPLES = 1920
"""80 ms: one frame of their codec, and what their clients expect in a message."""
END_BYTE = b"\0"
NO_VOICES = ("", "None", "none")
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


class Session:
    """One socket, one speech."""

    def __init__(self, desk: SocketServer, socket: Socket, query: Query, voice: str | None) -> None:
        self._desk = desk
        self._socket = socket
        self._query = query
        self._voice = voice
        self._packs = query.format.endswith("MessagePack")
        self._opus = OPUS.encoder() if query.format.startswith("Ogg") else None
        self._begun = False
        self._block = np.zeros(0, np.float32)
        self._words = Words()
        self._sound_s = 0.0  # of utterances that are done
        self._last = " "  # character of the text
        self._ended = False
        self._voicing = IncrementalSpeech(desk.backend, desk.ended, PATH, self, call_of=self._call)
        socket.busy = lambda: self._voicing.busy

    async def run(self) -> None:
        """Until everything is said."""
        try:
            if self._packs:
                await send_packed(self._socket, {"type": "Ready"})
            await first_of(self._read(), self._voicing.run())
        finally:
            if self._opus is not None:
                self._opus.close()

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if self._ended:
                continue  # text after the end
            if isinstance(message, str):
                self._feed(message)
            elif message == END_BYTE:
                self._end()
            else:
                self._take(unpacked(message))

    def _take(self, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "Text":
                self._feed(lenient_fields_of(TextMessage, Body(message, typed=True))[0].text)
            case "Eos":
                self._end()
            case "Voice":
                raise InvalidValue(
                    "Voices are not read as embeddings here; register a recording and name it.",
                    param="voice",
                )
            case other:
                raise InvalidValue(f"There is no message '{shown(other)}'.", param="type")

    def _feed(self, text: str) -> None:
        """A message is one or more whole words: their clients strip the blanks between them."""
        if not text:
            return
        blank = "" if self._last.isspace() or text[0].isspace() else " "
        self._voicing.inbox.feed(blank + text)
        self._last = text[-1]

    def _end(self) -> None:
        self._ended = True
        self._voicing.inbox.mark("end")
        self._voicing.inbox.end()

    def _call(self, text: str) -> SpeechRequest:
        query = self._query
        return self._desk.backend.call(text, self._voice, PCM, sampling=query, seed=query.seed)

    # --- Listener

    async def begins(self, _utterance: Utterance) -> None:
        """Nothing is said of it."""

    async def sounds(self, utterance: Utterance, samples: F32) -> None:
        """Words, then the sound they are in."""
        await self._tell(self._words.feed(utterance.timing.until(utterance.heard_s), self._sound_s))
        await self._carry(samples, last=False)

    async def ends(self, utterance: Utterance) -> None:
        """Its last words."""
        alignment = utterance.timing.rest(utterance.heard_s)
        await self._tell([*self._words.feed(alignment, self._sound_s), *self._words.flush()])
        self._sound_s += utterance.heard_s

    async def reaches(self, _token: Any) -> None:
        """The rest of the sound."""
        await self._carry(np.zeros(0, np.float32), last=True)

    async def _tell(self, words: list[Word]) -> None:
        if not self._packs:
            return
        for word in words:
            times = {"start_s": word.start_s, "stop_s": word.end_s}
            await send_packed(self._socket, {"type": "Text", "text": word.text, **times})

    async def _carry(self, samples: F32, *, last: bool) -> None:
        if self._opus is None:
            await self._carry_blocks(samples, last=last)
            return
        data = b"" if self._begun else self._opus.start()
        self._begun = True
        data += self._opus.finish() if last else self._opus.feed(samples)
        if data and self._packs:
            await send_packed(self._socket, {"type": "OggOpus", "data": data})
        elif data:
            await self._socket.send(data)

    async def _carry_blocks(self, samples: F32, *, last: bool) -> None:
        """In blocks of one length; silence fills the last one."""
        held = np.concatenate([self._block, samples])
        if last and len(held) % BLOCK_SAMPLES:
            held = np.pad(held, (0, BLOCK_SAMPLES - len(held) % BLOCK_SAMPLES))
        whole = len(held) - len(held) % BLOCK_SAMPLES
        for start in range(0, whole, BLOCK_SAMPLES):
            block = held[start : start + BLOCK_SAMPLES].astype("<f4")
            if self._packs:
                await send_packed(self._socket, {"type": "Audio", "pcm": block.tolist()})
            else:
                await self._socket.send(block.tobytes())
        self._block = held[whole:]


async def _tell_error(socket: Socket, error: ChatterboxError) -> None:
    """In the words their clients know for a full server. The bare formats have no errors."""
    if not socket.query.get("format", "OggOpus").endswith("MessagePack"):
        return
    message = "no free channels" if isinstance(error, Overloaded) else error.message
    await send_packed(socket, {"type": "Error", "message": message})


def _timed(call: SpeechRequest, samples: F32, report: SpeechReport) -> Response:
    """The file, and the time of each word."""
    words, end_s = Words(), len(samples) / SAMPLE_RATE_HZ
    timed = [*words.feed(Timing(call.text, report).rest(end_s)), *words.flush()]
    transcript = [{"text": w.text, "start_s": w.start_s, "stop_s": w.end_s} for w in timed]
    wav = base64.b64encode(WAV.encode_whole(samples)).decode("ascii")
    return JSONResponse({"wav": wav, "transcript": transcript})


def router(desk: SocketServer) -> APIRouter:
    """The socket and the calls."""
    routes = APIRouter(tags=["kyutai"])
    backend = desk.backend

    @routes.websocket(PATH)
    async def streaming(websocket: WebSocket) -> None:
        """Kyutai: words in, samples or Ogg Opus and the words' times out."""

        async def protocol(socket: Socket) -> None:
            query, _ = lenient_fields_of(Query, Body(dict(socket.query)))
            voice = await desk.voice(None if query.voice in NO_VOICES else query.voice)
            await Session(desk, socket, query, voice).run()

        await desk.serve(websocket, protocol, _tell_error)

    def read(body: Body) -> SpeechPlan:
        fields, unknown = lenient_fields_of(Posted, body)
        named = fields.voice not in NO_VOICES and fields.voice is not None
        call = backend.call(
            fields.text,
            backend.voices.library.info(fields.voice or "").voice_id if named else None,
            WAV,
            sampling=fields,
            seed=fields.seed,
            silence_if_wordless=True,
            ignored=unknown,
        )
        whole: Whole = _timed if fields.return_timestamps else whole_file
        return SpeechPlan(call, whole=whole)

    @routes.post(PATH, openapi_extra=form_schema(Posted))
    async def posted(request: Request) -> Response:
        """Kyutai: a WAV file, or with `return_timestamps` JSON with the words' times."""
        return SpeechResponse(backend.service, request, read)

    @routes.get("/api/build_info")
    async def build_info() -> Response:
        """Kyutai: what is running."""
        facts = {"build_timestamp": "", "build_date": "", "git_branch": "", "git_timestamp": ""}
        more = {
            "git_date": "",
            "git_hash": "",
            "git_describe": __version__,
            "rustc_host_triple": "",
        }
        return JSONResponse({**facts, **more, "rustc_version": "", "cargo_target_triple": ""})

    @routes.get("/api/modules_info")
    async def modules_info() -> Response:
        """Kyutai: which sockets there are, and how many may be spoken to at once."""
        admission = backend.engine.admission
        module = {
            "type": "tts",
            "path": PATH,
            "total_slots": admission.capacity,
            "used_slots": admission.active,
        }
        return JSONResponse({"tts": module})

    return routes
