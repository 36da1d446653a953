"""ElevenLabs' WebSockets: `stream-input`, and `multi-stream-input` with contexts.

A context is one continuous audio stream with character times. Where ElevenLabs' documentation and
clients differ, this file follows the clients: docs/reference/dialects.md, "ElevenLabs"."""

import base64
from collections.abc import Awaitable
from functools import partial
from itertools import pairwise
from typing import Any

from fastapi import APIRouter, WebSocket
from pydantic import AliasChoices, Field

from chatterbox.arrays import F32
from chatterbox.dialects.elevenlabs.http import OutputFormat, output_format
from chatterbox.dialects.shared.alignment import Alignment
from chatterbox.dialects.shared.incremental_speech import IncrementalSpeech, Utterance
from chatterbox.dialects.shared.sockets import ContextSocket, message_fields, query_fields
from chatterbox.dialects.shared.voice_names import ELEVENLABS_VOICES, find_voice
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.errors import ChatterboxError, IdleTimeout, Overloaded, VoiceNotFound
from chatterbox.server.body import until_first
from chatterbox.server.dialect import Services
from chatterbox.server.schemas import MAX_NAME_CHARS, LenientFields, Text, random_seed
from chatterbox.server.socket_server import Socket, close_code

SINGLE_PATH = "/v1/text-to-speech/{voice_id}/stream-input"
MULTI_PATH = "/v1/text-to-speech/{voice_id}/multi-stream-input"
DEFAULT_CONTEXT = "default"
_STOPS = (".", "!", "?", "…")
_ERROR_WORDS = {IdleTimeout: "input_timeout_exceeded", Overloaded: "system_busy"}


class Query(LenientFields):
    output_format: OutputFormat | None = None
    inactivity_timeout: float = Field(
        20, gt=0, le=180, description="Seconds without a message, then close"
    )
    sync_alignment: bool = Field(False, description="Count times from the start of the context")
    auto_mode: bool = Field(False, description="Messages are whole sentences")
    seed: int | None = Field(None, description="Same seed, same speech; random by default")


class GenerationConfig(LenientFields):
    chunk_length_schedule: list[int] = Field(
        default=[], max_length=32, description="Characters to collect before each part is spoken"
    )


class Message(LenientFields):
    """A message from the client. Every field is optional and independent of the others."""

    text: Text | None = None
    flush: bool = Field(False, description="Speak the text sent so far")
    try_trigger_generation: bool = Field(False, description="Speak the complete sentences")
    generation_config: GenerationConfig | None = None
    context: str | None = Field(
        None,
        max_length=MAX_NAME_CHARS,
        validation_alias=AliasChoices("context_id", "contextId"),
        description="Or `contextId`",
    )
    close_context: bool = Field(
        False, description="Finish the context if it was flushed, else stop it"
    )
    close_socket: bool = Field(False, description="Close all contexts, then the socket")


class Context(IncrementalSpeech):
    """One continuous audio stream.

    `is_flushed`: the client has flushed all text that it sent. Closing a flushed context finishes
    the speech; closing an unflushed one is an interruption and stops the speech at once.
    """

    def __init__(
        self,
        services: Services,
        socket: Socket,
        voice: str | None,
        query: Query,
        name: str | None = None,
    ) -> None:
        super().__init__(services, output_format(query.output_format))
        self.route = SINGLE_PATH if name is None else MULTI_PATH
        self.is_flushed = False
        self.is_closing = False
        self._socket = socket
        self._voice = voice
        self._query = query
        self._name = {} if name is None else {"contextId": name, "context_id": name}
        self._seed = random_seed() if query.seed is None else query.seed
        self._is_new = True  # no message has been received
        self._last_text = ""
        self._sent_s = 0.0  # audio in the messages sent so far
        self._pending = b""  # encoded audio whose characters are not known yet
        self._alignment = Alignment()  # characters to send with that audio; times of the context

    def request_for(self, text: str) -> SpeechRequest:
        if self.spoken and not text[0].isspace():
            text = " " + text  # clients omit the space between sentences but split words at it
        repeatable = self._query.seed is not None
        return self.services.speech.build_request(
            text, self._voice, self.form, seed=self._seed, deterministic=repeatable
        )

    def take(self, message: Message) -> None:
        """Add the message's text to the queue, and flush the queue if the message asks for that."""
        queue, is_auto = self.queue, self._query.auto_mode
        text, last = message.text, self._last_text
        if self._is_new and message.generation_config and not is_auto:
            queue.set_schedule(message.generation_config.chunk_length_schedule)
        self._is_new = False
        if text and (last or text.strip()):  # leading whitespace only opens the context
            is_joined = is_auto and last.endswith(_STOPS) and text[0].isalnum()
            self._last_text, self.is_flushed = text, False
            piece = f" {text}" if is_joined else text
            queue.feed(piece, complete=is_auto, at_once=message.try_trigger_generation)
        if message.flush:
            queue.flush()
            # In auto mode, LiveKit flushes with every sentence and once more, alone, at the end.
            self.is_flushed = not (text and is_auto)

    def finish(self) -> None:
        """Speak the remaining text, then send `isFinal`."""
        self.is_closing = True
        self.queue.end(self._end_file)

    async def on_audio(self, utterance: Utterance, samples: F32) -> None:
        """Send each piece of audio with exactly its characters: clients advance their clocks to the
        end of the last character."""
        self._pending += self.file.feed(samples)
        self._alignment.extend(utterance.timing.until(utterance.sent_s), self.spoken_s)
        await self._send()

    async def on_end(self, utterance: Utterance) -> None:
        self._alignment.extend(utterance.timing.until(utterance.sent_s, last=True), self.spoken_s)
        end_s = self.spoken_s + utterance.sent_s
        if self._pending and not self._alignment.text and end_s > self._sent_s:
            self._alignment = Alignment(" ", [self._sent_s, end_s])  # after the last character
        await self._send()

    async def _end_file(self) -> None:
        self._pending += self.file.finish()
        await self._send(even_without_characters=True)
        await self.send_final()

    async def send_final(self) -> None:
        """Send the last message, the only one with `isFinal` true."""
        await self._send_message(None, None, is_final=True)

    async def _send(self, *, even_without_characters: bool = False) -> None:
        alignment = self._alignment
        if not self._pending or not (alignment.text or even_without_characters):
            return
        times = None
        if alignment.text:
            clock_s = 0.0 if self._query.sync_alignment else self._sent_s
            times = _milliseconds(alignment, clock_s)
            self._sent_s, self._alignment = alignment.bounds_s[-1], Alignment()
        data, self._pending = self._pending, b""
        await self._send_message(base64.b64encode(data).decode("ascii"), times, is_final=False)

    async def _send_message(
        self, audio: str | None, times: dict[str, Any] | None, *, is_final: bool
    ) -> None:
        """Send the times under both names: some clients read `alignment`, others
        `normalizedAlignment`, and all of them expect the text that they sent."""
        alignment = {"alignment": times, "normalizedAlignment": times}
        await self._socket.send_json(
            {"audio": audio, "isFinal": is_final, **alignment, **self._name}
        )


def _milliseconds(alignment: Alignment, clock_s: float) -> dict[str, Any]:
    """Return the times in whole milliseconds after `clock_s`, without gaps between characters."""
    bounds = [round((bound_s - clock_s) * 1000) for bound_s in alignment.bounds_s]
    return {
        "chars": list(alignment.text),
        "charStartTimesMs": bounds[:-1],
        "charDurationsMs": [end - start for start, end in pairwise(bounds)],
    }


class Single(Context):
    """`stream-input`: one text, ended by a message with empty text."""

    async def run(self) -> None:
        self._socket.busy = lambda: self.is_busy
        await until_first(self._read(), super().run())

    async def _read(self) -> None:
        while True:
            message = await _receive(self._socket)
            if not self.is_closing:  # text after the end is ignored
                self.take(message)
                if message.text == "" or message.close_socket:
                    self.finish()


class Multi(ContextSocket[Context]):
    """`multi-stream-input`: contexts side by side."""

    def __init__(self, services: Services, socket: Socket, voice: str | None, query: Query) -> None:
        super().__init__(services, socket)
        self._make_context = partial(Context, services, socket, voice, query)

    async def read(self) -> None:
        while not (message := await _receive(self.socket)).close_socket:
            await self._take(message)
        for name, context in list(self.contexts.items()):
            if not context.is_closing:
                await self._close(name, context)
        await until_first(self.drain(), self._ignore_messages())

    async def _ignore_messages(self) -> None:
        while True:
            await self.socket.receive()

    async def _take(self, message: Message) -> None:
        name = message.context or DEFAULT_CONTEXT
        context = self.contexts.get(name)
        if message.close_context:
            if context is not None:
                await self._close(name, context)
            return
        if not message.text and (context is None or context.is_closing):
            return  # an empty text only keeps the socket open
        if context is not None and context.is_closing:
            await self._stop(name, context)  # the client reuses the name for a new context
            context = None
        try:
            (context or self.open(name, self._make_context(name))).take(message)
        except ChatterboxError as error:
            await self.drop(name)
            await self.on_error(name, error)

    async def _close(self, name: str | None, context: Context) -> None:
        """Finish a context that is flushed; stop any other context at once, also one that is
        already closing."""
        if context.is_flushed and not context.is_closing:
            context.finish()
        else:
            await self._stop(name, context)

    async def _stop(self, name: str | None, context: Context) -> None:
        await self.drop(name)
        await context.send_final()

    async def on_error(self, name: str | None, error: ChatterboxError) -> None:
        """Send the error. An unknown voice ends the socket, because all contexts use that voice."""
        if isinstance(error, VoiceNotFound):
            raise error
        await _send_error(self.socket, error, contextId=name, context_id=name)


async def _send_error(socket: Socket, error: ChatterboxError, **context: str | None) -> None:
    word = _ERROR_WORDS.get(type(error), error.code)
    body = {"message": error.message, "error": word, "code": close_code(error)}
    await socket.send_json(body | context)


async def _receive(socket: Socket) -> Message:
    return message_fields(Message, await socket.receive_json())


def add_routes(routes: APIRouter, services: Services) -> None:
    def serve(kind: type[Single] | type[Multi], websocket: WebSocket) -> Awaitable[None]:
        async def protocol(socket: Socket) -> None:
            query = query_fields(Query, socket)
            socket.idle_s = query.inactivity_timeout
            output_format(query.output_format)  # reports an unknown format before an unknown voice
            voice = await find_voice(services, socket.path["voice_id"], ELEVENLABS_VOICES)
            await kind(services, socket, voice, query).run()

        return services.sockets.serve(websocket, protocol, _send_error)

    @routes.websocket(SINGLE_PATH)
    async def single(websocket: WebSocket) -> None:
        """ElevenLabs: one text, spoken while it is written."""
        await serve(Single, websocket)

    @routes.websocket(MULTI_PATH)
    async def multi(websocket: WebSocket) -> None:
        """ElevenLabs: texts in several contexts, spoken side by side."""
        await serve(Multi, websocket)
