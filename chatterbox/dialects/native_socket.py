"""The server's own socket, `/v1/audio/speech/stream`: text in as it is written, audio out.

The messages are those of vllm-omni's socket, plus contexts, word times and `input.cancel`.
docs/reference/dialects.md, "Native".
"""

import base64
from functools import partial
from typing import Any, Literal

from fastapi import APIRouter, WebSocket
from pydantic import Field

from chatterbox.arrays import F32
from chatterbox.audio.encode import AudioFormat, audio_format
from chatterbox.audio.shaping import FASTEST, SLOWEST
from chatterbox.dialects.shared.incremental_speech import IncrementalSpeech, Utterance
from chatterbox.dialects.shared.sockets import ContextSocket, message_fields, unknown_message
from chatterbox.dialects.shared.voice_names import OPENAI_VOICES, find_voice
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.errors import ChatterboxError, InvalidValue, excerpt
from chatterbox.server.body import Body
from chatterbox.server.dialect import Dialect, Services
from chatterbox.server.schemas import (
    MAX_NAME_CHARS,
    FormatName,
    LenientFields,
    Name,
    SampleRate,
    SamplingFields,
    Text,
    parse_lenient_fields,
)
from chatterbox.server.socket_server import Socket, close_code
from chatterbox.text import CodeBlocks

PATH = "/v1/audio/speech/stream"


class Config(SamplingFields):
    harmless = frozenset({"type", "context", "split_granularity", "stream_audio"})

    voice: Name | None = None
    response_format: FormatName = "wav"
    sample_rate: SampleRate | None = None
    file_per: Literal["sentence", "turn"] = Field(
        "sentence", description="What each audio file holds"
    )
    word_timestamps: bool = Field(False, description="Whether to send `audio.words`")
    max_new_tokens: int | None = Field(None, ge=8, description="Limit of speech tokens per segment")
    seed: int | None = Field(None, description="Same seed, same speech; random by default")
    code_blocks: CodeBlocks | None = Field(None, description="`skip` or `speak` fenced code")
    speed: float = Field(1.0, ge=SLOWEST, le=FASTEST, description="Tempo; same pitch")


class InputText(LenientFields):
    text: Text


class Context(IncrementalSpeech):
    """One continuous audio stream: turns of text, each ended by `input.done`."""

    route = PATH

    def __init__(
        self, services: Services, socket: Socket, name: str | None, config: Config
    ) -> None:
        super().__init__(services, _format_of(config), code_blocks=config.code_blocks)
        self.config = config
        self._name = name
        self._socket = socket
        self._send = partial(_send, socket, name)
        self._first = 0  # index of the turn's first utterance

    def request_for(self, text: str) -> SpeechRequest:
        config = self.config
        with self.services.models.use(config.model):
            return self.services.speech.build_request(
                text,
                config.voice,
                self.form,
                sampling=config,
                seed=config.seed,
                max_new_tokens=config.max_new_tokens,
                speed=config.speed,
                code_blocks=config.code_blocks,
            )

    async def on_start(self, utterance: Utterance) -> None:
        await self._send(
            "audio.start",
            sentence_index=utterance.index - self._first,
            sentence_text=utterance.request.text.strip(),
            format=self.form.name,
            sample_rate=self.form.sample_rate_hz,
            seed=utterance.request.seed,
        )

    async def on_audio(self, utterance: Utterance, samples: F32) -> None:
        """Send words before their audio, so that the client can show them while it plays."""
        await self._send_words(utterance)
        await self._send_audio(self.file.feed(samples))

    async def on_end(self, utterance: Utterance) -> None:
        await self._send_words(utterance, last=True)
        if self.config.file_per == "sentence":
            await self._send_audio(self.file.finish())
        await self._send(
            "audio.done",
            sentence_index=utterance.index - self._first,
            start_s=round(self.spoken_s, 3),
            end_s=round(self.spoken_s + utterance.sent_s, 3),
            segments=utterance.report.segments,
            tokens_generated=utterance.report.codes,
        )

    async def end_turn(self) -> None:
        """Complete the file and send `session.done`. The next turn counts from 0 again."""
        await self._send_audio(self.file.finish())
        total, audio_s = self.spoken - self._first, round(self.spoken_s, 3)
        self._first, self.spoken_s = self.spoken, 0.0
        await self._send("session.done", total_sentences=total, audio_s=audio_s)

    async def _send_audio(self, data: bytes) -> None:
        """Send a binary frame, or for a named context base64 in JSON: a frame cannot carry a
        name."""
        if data and self._name is None:
            await self._socket.send(data)
        elif data:
            await self._send("audio.delta", audio=base64.b64encode(data).decode("ascii"))

    async def _send_words(self, utterance: Utterance, *, last: bool = False) -> None:
        if not self.config.word_timestamps:
            return
        words = utterance.timing.words(utterance.sent_s, last=last, offset_s=self.spoken_s)
        if words:
            body = [{"word": w.text, "start_s": w.start_s, "end_s": w.end_s} for w in words]
            await self._send("audio.words", words=body)


class Session(ContextSocket[Context]):
    """A socket that passes each message to the context named in the message."""

    def __init__(self, services: Services, socket: Socket) -> None:
        super().__init__(services, socket)
        self._config = Config()

    async def read(self) -> None:
        while await self._take(await self.socket.receive_json()):
            pass

    async def _take(self, message: dict[str, Any]) -> bool:
        """Handle a message. Returns False for `session.close`."""
        name = message.get("context")
        if name is not None and not (isinstance(name, str) and 0 < len(name) <= MAX_NAME_CHARS):
            raise InvalidValue(
                f"'context' must be a string of 1 to {MAX_NAME_CHARS} characters.", param="context"
            )
        match message.get("type"):
            case "session.config":
                await self._configure(name, message)
            case "input.text":
                text = message_fields(InputText, message).text
                self._context(name).queue.feed(text)
            case "input.flush":
                self._context(name).queue.flush()
            case "input.done":
                context = self._context(name)
                context.queue.then(context.end_turn)
            case "input.cancel":
                dropped = await self.drop(name)
                if dropped is not None:
                    self._open(name, dropped.config)
                await _send(self.socket, name, "input.cancelled")
            case "session.close":
                return False
            case other:
                raise unknown_message(other)
        return True

    async def _configure(self, name: str | None, message: dict[str, Any]) -> None:
        """Restart the named context with a new configuration; without a name, also use it for all
        contexts opened later."""
        config, ignored = parse_lenient_fields(Config, Body(message, typed=True))
        _format_of(config)  # raises InvalidValue for an unknown format
        async with self.services.models.use_with_engine(config.model):
            voice = await find_voice(self.services, config.voice, OPENAI_VOICES)
        config = config.model_copy(update={"voice": voice})
        dropped = await self.drop(name)
        if name is None:
            self._config = config
        if name is not None or dropped is not None:
            self._open(name, config)
        await _send(self.socket, name, "session.configured", ignored=[*map(excerpt, ignored)])

    def _context(self, name: str | None) -> Context:
        return self.contexts.get(name) or self._open(name, self._config)

    def _open(self, name: str | None, config: Config) -> Context:
        return self.open(name, Context(self.services, self.socket, name, config))

    async def on_error(self, name: str | None, error: ChatterboxError) -> None:
        if name is None:
            raise error
        await _send_error(self.socket, error, name)


def _format_of(config: Config) -> AudioFormat:
    return audio_format(config.response_format, config.sample_rate)


async def _send(socket: Socket, context: str | None, kind: str, **fields: Any) -> None:
    """Send a JSON message, with the name of its context if it has one."""
    name = {} if context is None else {"context": context}
    await socket.send_json({"type": kind, **name, **fields})


async def _send_error(socket: Socket, error: ChatterboxError, context: str | None = None) -> None:
    """Send an `error` message. After an error without a context, the socket is closed."""
    retry = {} if error.retry_after_s is None else {"retry_after_s": error.retry_after_s}
    await _send(
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
        """Native: text in as it is written, audio out; contexts, word times, `input.cancel`."""
        await services.sockets.serve(
            websocket, lambda socket: Session(services, socket).run(), _send_error
        )


DIALECT = Dialect(add_routes)
