"""The server's own socket, `/v1/audio/speech/stream`: text in as it is written, audio out.

The messages are those of vllm-omni's socket, with contexts, word times and `input.cancel` added.
docs/reference/dialects.md, "Native".
"""

import base64
from functools import partial
from typing import Any, Literal

from fastapi import APIRouter, WebSocket
from pydantic import Field

from chatterbox.arrays import F32
from chatterbox.audio.encode import AudioFormat, audio_format
from chatterbox.audio.encoders import Encoder
from chatterbox.audio.shaping import FASTEST, SLOWEST
from chatterbox.dialects.shared.incremental_speech import IncrementalSpeech, Utterance
from chatterbox.dialects.shared.sockets import ContextSocket, fields_of_message, unknown_message
from chatterbox.dialects.shared.voice_names import OPENAI_VOICES, voice_or_alias
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.errors import ChatterboxError, InvalidValue, excerpt
from chatterbox.server.body import Body
from chatterbox.server.dialect import Dialect, Services
from chatterbox.server.schemas import (
    MAX_NAME_CHARS,
    FormatName,
    LenientCall,
    Name,
    SampleRate,
    SamplingFields,
    Text,
    lenient_fields_of,
)
from chatterbox.server.socket_server import Socket, close_code
from chatterbox.text import CodeBlocks

PATH = "/v1/audio/speech/stream"


class Config(SamplingFields):
    """`session.config`."""

    harmless = frozenset({"type", "context", "split_granularity", "stream_audio"})

    voice: Name | None = None
    response_format: FormatName = "wav"
    sample_rate: SampleRate | None = None
    file_per: Literal["sentence", "turn"] = Field("sentence", description="What is one file")
    word_timestamps: bool = Field(False, description="Send `audio.words`")
    max_new_tokens: int | None = Field(None, ge=8, description="Most speech tokens of a segment")
    seed: int | None = Field(None, description="Equal seeds, equal speech; none: drawn")
    code_blocks: CodeBlocks | None = Field(None, description="Fenced code: left out or read")
    speed: float = Field(1.0, ge=SLOWEST, le=FASTEST, description="Tempo; the pitch is kept")


class Input(LenientCall):
    """`input.text`."""

    text: Text


class Context(IncrementalSpeech):
    """One listener's speech: turns of text, each ended by `input.done`."""

    route = PATH

    def __init__(
        self, services: Services, socket: Socket, name: str | None, config: Config
    ) -> None:
        super().__init__(services, code_blocks=config.code_blocks)
        self.config = config
        self._form = form_of(config)
        self._name = name
        self._socket = socket
        self._send = partial(send, socket, name)
        self._encoder: Encoder | None = None  # of the open file
        self._first = 0  # index of the turn's first utterance

    def call_of(self, text: str) -> SpeechRequest:
        config = self.config
        with self.services.models.naming(config.model):
            return self.services.speech.build_request(
                text,
                config.voice,
                self._form,
                sampling=config,
                seed=config.seed,
                max_new_tokens=config.max_new_tokens,
                speed=config.speed,
                code_blocks=config.code_blocks,
            )

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            if self._encoder is not None:
                self._encoder.close()

    async def on_start(self, utterance: Utterance) -> None:
        await self._send(
            "audio.start",
            sentence_index=utterance.index - self._first,
            sentence_text=utterance.call.text.strip(),
            format=self._form.name,
            sample_rate=self._form.sample_rate_hz,
            seed=utterance.call.seed,
        )

    async def on_audio(self, utterance: Utterance, samples: F32) -> None:
        """Words first, so that the client has them when their audio is played."""
        await self._send_words(utterance)
        data = b""
        if self._encoder is None:
            self._encoder = self._form.encoder()
            data = self._encoder.start()
        await self._send_audio(data + self._encoder.feed(samples))

    async def on_end(self, utterance: Utterance) -> None:
        await self._send_words(utterance, last=True)
        if self.config.file_per == "sentence":
            await self._finish_file()
        await self._send(
            "audio.done",
            sentence_index=utterance.index - self._first,
            start_s=round(self.spoken_s, 3),
            end_s=round(self.spoken_s + utterance.sent_s, 3),
            segments=utterance.report.segments,
            tokens_generated=utterance.report.codes,
        )

    async def on_mark(self, _token: Any) -> None:
        """The turn is over; the next begins anew."""
        await self._finish_file()
        total, audio_s = self.spoken - self._first, round(self.spoken_s, 3)
        self._first, self.spoken_s = self.spoken, 0.0
        await self._send("session.done", total_sentences=total, audio_s=audio_s)

    async def _finish_file(self) -> None:
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            await self._send_audio(encoder.finish())

    async def _send_audio(self, data: bytes) -> None:
        """Binary frames cannot name a context, so a named one gets its audio in JSON."""
        if not data:
            return
        if self._name is None:
            await self._socket.send(data)
        else:
            await self._send("audio.delta", audio=base64.b64encode(data).decode("ascii"))

    async def _send_words(self, utterance: Utterance, *, last: bool = False) -> None:
        if not self.config.word_timestamps:
            return
        words = utterance.timing.words(utterance.sent_s, last=last, since_s=self.spoken_s)
        if words:
            facts = [{"word": w.text, "start_s": w.start_s, "end_s": w.end_s} for w in words]
            await self._send("audio.words", words=facts)


class Session(ContextSocket[Context]):
    """One socket; each message goes to its context."""

    def __init__(self, services: Services, socket: Socket) -> None:
        super().__init__(services, socket)
        self._config = Config()

    async def read(self) -> None:
        while await self._take(await self.socket.receive_json()):
            pass

    async def _take(self, message: dict[str, Any]) -> bool:
        name = _context_name(message)
        match message.get("type"):
            case "session.config":
                await self._configure(name, message)
            case "input.text":
                text = fields_of_message(Input, message).text
                self._context(name).queue.feed(text)
            case "input.flush":
                self._context(name).queue.flush()
            case "input.done":
                self._context(name).queue.mark("done")
            case "input.cancel":
                context = await self.drop(name)
                if context is not None:  # its voice and format stay
                    self._open(name, context.config)
                await send(self.socket, name, "input.cancelled")
            case "session.close":
                return False
            case other:
                raise unknown_message(other)
        return True

    async def _configure(self, name: str | None, message: dict[str, Any]) -> None:
        """Sets this context, or all that are opened from now on; stops what it was saying."""
        config, ignored = lenient_fields_of(Config, Body(message, typed=True))
        form_of(config)  # refused here rather than when it speaks
        find = self.services.voices.ask
        with self.services.models.naming(config.model):
            async with self.services.models.known():
                voice = await find(voice_or_alias, self.services, config.voice, OPENAI_VOICES)
        config = config.model_copy(update={"voice": voice})
        dropped = await self.drop(name)
        if name is None:
            self._config = config
        if name is not None or dropped is not None:
            self._open(name, config)
        shown_names = [excerpt(each) for each in ignored]
        await send(self.socket, name, "session.configured", ignored=shown_names)

    def _context(self, name: str | None) -> Context:
        return self.contexts.get(name) or self._open(name, self._config)

    def _open(self, name: str | None, config: Config) -> Context:
        return self.open(name, Context(self.services, self.socket, name, config))

    async def failed(self, name: str | None, error: ChatterboxError) -> None:
        if name is None:
            raise error
        await send_error(self.socket, error, name)


def form_of(config: Config) -> AudioFormat:
    """Raises InvalidValue."""
    return audio_format(config.response_format, config.sample_rate)


async def send(socket: Socket, context: str | None, kind: str, **facts: Any) -> None:
    """One JSON message, with the context's name where it has one."""
    named = {} if context is None else {"context": context}
    await socket.send_json({"type": kind, **named, **facts})


def _context_name(message: dict[str, Any]) -> str | None:
    name = message.get("context")
    if name is not None and not (isinstance(name, str) and 0 < len(name) <= MAX_NAME_CHARS):
        raise InvalidValue("'context' must be a short word.", param="context")
    return name


async def send_error(socket: Socket, error: ChatterboxError, context: str | None = None) -> None:
    """An `error` message; one without a context is followed by the socket's close."""
    retry = {} if error.retry_after_s is None else {"retry_after_s": error.retry_after_s}
    await send(
        socket,
        context,
        "error",
        message=error.message,
        code=error.code,
        param=error.param,
        close_code=close_code(error),
        **retry,
    )


def add_routes(routes: APIRouter, services: Services) -> None:
    @routes.websocket(PATH)
    async def stream(websocket: WebSocket) -> None:
        """Native: text in as it is written, sound out; contexts, times, `input.cancel`."""
        await services.sockets.serve(
            websocket, lambda socket: Session(services, socket).run(), send_error
        )


DIALECT = Dialect(add_routes)
