"""The server's own socket, `/v1/audio/speech/stream`: text in as it is written, audio out.

The messages are those of vllm-omni's socket, with contexts, word times and `input.cancel` added.
docs/dialects.md, "Native".
"""

import asyncio
import base64
from typing import Any, Literal

from fastapi import APIRouter, WebSocket
from pydantic import Field

from chatterbox.arrays import F32
from chatterbox.audio.encode import AudioFormat, Encoder, audio_format
from chatterbox.audio.pace import FASTEST, SLOWEST
from chatterbox.dialects.shared.char_timing import Word, Words
from chatterbox.dialects.shared.contexts import Contexts
from chatterbox.dialects.shared.incremental_speech import IncrementalSpeech, Listener, Utterance
from chatterbox.dialects.shared.messages import fields_of_message, unknown_message
from chatterbox.dialects.shared.voice_names import OPENAI_VOICES, voice_or_alias
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.errors import ChatterboxError, InvalidValue, shown
from chatterbox.server.body import Body
from chatterbox.server.dialect import Dialect, Services
from chatterbox.server.schemas import (
    MAX_NAME_CHARS,
    LenientCall,
    Name,
    SamplingFields,
    Text,
    lenient_fields_of,
)
from chatterbox.server.socket_server import Socket, close_code, first_of
from chatterbox.text import CodeBlocks

PATH = "/v1/audio/speech/stream"
HARMLESS = ("type", "model", "context", "split_granularity", "stream_audio")


class Config(SamplingFields):
    """`session.config`."""

    voice: Name | None = None
    response_format: Name = "wav"
    sample_rate: int | None = None
    file_per: Literal["sentence", "turn"] = Field("sentence", description="What is one file")
    word_timestamps: bool = False
    max_new_tokens: int | None = Field(None, ge=8)
    seed: int | None = None
    code_blocks: CodeBlocks | None = None
    speed: float = Field(1.0, ge=SLOWEST, le=FASTEST, description="Tempo; the pitch is kept")


class Input(LenientCall):
    """`input.text`."""

    text: Text


class Context(Listener):
    """One listener's speech: turns of text, each ended by `input.done`."""

    def __init__(
        self,
        services: Services,
        socket: Socket,
        name: str | None,
        config: Config,
        form: AudioFormat,
    ) -> None:
        self.config = config
        self.form = form
        self._name = name
        self._services = services
        self._socket = socket
        self._encoder: Encoder | None = None  # of the open file
        self._words = Words()
        self._turn_s = 0.0  # audio of this turn's utterances that are done
        self._first = 0  # index of the turn's first utterance
        self.speech = IncrementalSpeech(
            services, PATH, self, call_of=self._call, code_blocks=config.code_blocks
        )

    def _call(self, text: str) -> SpeechRequest:
        config = self.config
        return self._services.call(
            text,
            config.voice,
            self.form,
            sampling=config,
            seed=config.seed,
            max_new_tokens=config.max_new_tokens,
            speed=config.speed,
            code_blocks=config.code_blocks,
        )

    async def _send(self, kind: str, **facts: Any) -> None:
        """One JSON message, with the context's name where it has one."""
        await self._socket.send_json({"type": kind, **_named(self._name), **facts})

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            await self.speech.run()
        finally:
            if self._encoder is not None:
                self._encoder.close()

    async def on_start(self, utterance: Utterance) -> None:
        """The sentence, before its audio."""
        await self._send(
            "audio.start",
            sentence_index=utterance.index - self._first,
            sentence_text=utterance.text.strip(),
            format=self.form.name,
            sample_rate=self.form.sample_rate_hz,
            seed=utterance.call.seed,
        )

    async def on_audio(self, utterance: Utterance, samples: F32) -> None:
        """Words first, so that the client has them when their audio is played."""
        if self.config.word_timestamps:
            alignment = utterance.timing.until(utterance.sent_s)
            await self._send_words(self._words.feed(alignment, self._turn_s))
        data = b""
        if self._encoder is None:
            self._encoder = self.form.encoder()
            data = self._encoder.start()
        await self._send_audio(data + self._encoder.feed(samples))

    async def on_end(self, utterance: Utterance) -> None:
        """Where the sentence lies in the turn's audio."""
        if self.config.word_timestamps:
            alignment = utterance.timing.rest(utterance.sent_s)
            words = self._words.feed(alignment, self._turn_s)
            await self._send_words([*words, *self._words.flush()])
        if self.config.file_per == "sentence":
            await self._finish_file()
        begin_s, self._turn_s = self._turn_s, self._turn_s + utterance.sent_s
        await self._send(
            "audio.done",
            sentence_index=utterance.index - self._first,
            start_s=round(begin_s, 3),
            end_s=round(self._turn_s, 3),
            segments=utterance.report.segments,
            tokens_generated=utterance.report.codes,
        )

    async def on_mark(self, _token: Any) -> None:
        """The turn is over; the next begins anew."""
        await self._finish_file()
        total, audio_s = self.speech.spoken - self._first, self._turn_s
        self._first, self._turn_s = self.speech.spoken, 0.0
        await self._send("session.done", total_sentences=total, audio_s=round(audio_s, 3))

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

    async def _send_words(self, words: list[Word]) -> None:
        if words:
            facts = [{"word": w.text, "start_s": w.start_s, "end_s": w.end_s} for w in words]
            await self._send("audio.words", words=facts)


class Session:
    """One socket; each message goes to its context."""

    def __init__(self, services: Services, socket: Socket) -> None:
        self._services = services
        self._socket = socket
        self._contexts = Contexts[Context](self._failed)
        self._config = Config()
        self._form = audio_format(self._config.response_format)
        socket.busy = lambda: any(context.speech.busy for context in self._contexts)

    async def run(self) -> None:
        """Until `session.close`, or until the client has left."""
        try:
            await first_of(self._read(), self._contexts.fault())
        finally:
            await self._contexts.close()

    async def _read(self) -> None:
        while await self._take(await self._socket.receive_json()):
            pass

    async def _take(self, message: dict[str, Any]) -> bool:
        name = _context_name(message)
        match message.get("type"):
            case "session.config":
                await self._configure(name, message)
            case "input.text":
                text = fields_of_message(Input, message).text
                self._context(name).speech.queue.feed(text)
            case "input.flush":
                self._context(name).speech.queue.flush()
            case "input.done":
                self._context(name).speech.queue.mark("done")
            case "input.cancel":
                await self._cancel(name)
            case "session.close":
                return False
            case other:
                raise unknown_message(other)
        return True

    async def _configure(self, name: str | None, message: dict[str, Any]) -> None:
        """Sets this context, or all that are opened from now on; stops what it was saying."""
        given = {key: value for key, value in message.items() if key not in HARMLESS}
        config, ignored = lenient_fields_of(Config, Body(given, typed=True))
        form = audio_format(config.response_format, config.sample_rate)
        voice = await asyncio.to_thread(voice_or_alias, self._services, config.voice, OPENAI_VOICES)
        config = config.model_copy(update={"voice": voice})
        dropped = await self._contexts.drop(name)
        if name is None:
            self._config, self._form = config, form
        if name is not None or dropped is not None:
            self._open(name, config, form)
        await self._send(name, "session.configured", ignored=[shown(n) for n in ignored])

    def _context(self, name: str | None) -> Context:
        return self._contexts.get(name) or self._open(name, self._config, self._form)

    def _open(self, name: str | None, config: Config, form: AudioFormat) -> Context:
        context = Context(self._services, self._socket, name, config, form)
        return self._contexts.open(name, context, context.run)

    async def _cancel(self, name: str | None) -> None:
        context = await self._contexts.drop(name)
        if context is not None:  # its voice and format stay
            self._open(name, context.config, context.form)
        await self._send(name, "input.cancelled")

    async def _send(self, name: str | None, kind: str, **facts: Any) -> None:
        await self._socket.send_json({"type": kind, **_named(name), **facts})

    async def _failed(self, name: str | None, error: ChatterboxError) -> None:
        if name is None:
            raise error
        await send_error(self._socket, error, name)


def _named(context: str | None) -> dict[str, str]:
    return {} if context is None else {"context": context}


def _context_name(message: dict[str, Any]) -> str | None:
    name = message.get("context")
    if name is not None and not (isinstance(name, str) and 0 < len(name) <= MAX_NAME_CHARS):
        raise InvalidValue("'context' must be a short word.", param="context")
    return name


async def send_error(socket: Socket, error: ChatterboxError, context: str | None = None) -> None:
    """An `error` message; one without a context is followed by the socket's close."""
    body: dict[str, Any] = {
        "type": "error",
        "message": error.message,
        "code": error.code,
        "param": error.param,
        "close_code": close_code(error),
    }
    if error.retry_after_s is not None:
        body["retry_after_s"] = error.retry_after_s
    await socket.send_json({**body, **_named(context)})


def router(services: Services) -> APIRouter:
    """The socket."""
    routes = APIRouter()

    @routes.websocket(PATH)
    async def stream(websocket: WebSocket) -> None:
        """Native: text in as it is written, sound out; contexts, times, `input.cancel`."""
        await services.sockets.serve(
            websocket, lambda socket: Session(services, socket).run(), send_error
        )

    return routes


DIALECT = Dialect(router)
