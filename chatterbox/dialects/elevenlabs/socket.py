"""ElevenLabs' sockets: `stream-input`, and `multi-stream-input` with contexts.

A context is one continuous sound with its alignment. Where ElevenLabs' documentation and their
clients differ, the clients decide: docs/reference/dialects.md, "ElevenLabs".
"""

import base64
import itertools
from collections.abc import Awaitable
from contextlib import closing
from functools import partial
from typing import Any

from fastapi import APIRouter, WebSocket
from pydantic import AliasChoices, Field

from chatterbox.arrays import F32
from chatterbox.audio.encoders import Encoder
from chatterbox.dialects.elevenlabs.http import OutputFormat, output_format
from chatterbox.dialects.shared.alignment import Alignment
from chatterbox.dialects.shared.incremental_speech import IncrementalSpeech, Utterance
from chatterbox.dialects.shared.sockets import ContextSocket, fields_of_message
from chatterbox.dialects.shared.voice_names import ELEVENLABS_VOICES, voice_or_alias
from chatterbox.engine.speech_stream import SpeechRequest
from chatterbox.errors import ChatterboxError, IdleTimeout, Overloaded, VoiceNotFound
from chatterbox.server.body import Body, first_of
from chatterbox.server.dialect import Services
from chatterbox.server.schemas import (
    MAX_NAME_CHARS,
    LenientCall,
    Text,
    lenient_fields_of,
    random_seed,
)
from chatterbox.server.socket_server import Socket, close_code

SINGLE_PATH = "/v1/text-to-speech/{voice_id}/stream-input"
MULTI_PATH = "/v1/text-to-speech/{voice_id}/multi-stream-input"
_STOPS = (".", "!", "?", "…")
DEFAULT_CONTEXT = "default"
_WORDS = {IdleTimeout: "input_timeout_exceeded", Overloaded: "system_busy"}


class Query(LenientCall):
    """What of the address means something here."""

    output_format: OutputFormat | None = None
    inactivity_timeout: float = Field(20, gt=0, le=180, description="Seconds without a message")
    sync_alignment: bool = Field(False, description="Times count from the context's beginning")
    auto_mode: bool = Field(False, description="Every message holds whole sentences")
    seed: int | None = Field(None, description="Equal seeds, equal speech; none: drawn")


class Generation(LenientCall):
    """`generation_config`: so much text is collected before the first, second… part is spoken."""

    chunk_length_schedule: list[int] = Field(
        default=[], max_length=32, description="Characters to collect before each part"
    )


class Message(LenientCall):
    """Whatever a client sends; each field has its meaning alone."""

    text: Text | None = None
    flush: bool = Field(False, description="Speak what is there")
    try_trigger_generation: bool = Field(False, description="Speak the whole sentences")
    generation_config: Generation | None = None
    context: str | None = Field(
        None,
        max_length=MAX_NAME_CHARS,
        validation_alias=AliasChoices("context_id", "contextId"),
        description="Or `contextId`",
    )
    close_context: bool = Field(False, description="After a flush: finish it; else: silence")
    close_socket: bool = Field(False, description="The same with all contexts")


class Context(IncrementalSpeech):
    """One continuous sound. `flushed`: the client flushed all text so far, so closing the context
    lets it finish; a context that is closed before that was interrupted, and stops."""

    def __init__(
        self,
        services: Services,
        socket: Socket,
        voice: str | None,
        query: Query,
        name: str | None,
        first: Message,
    ) -> None:
        schedule = first.generation_config.chunk_length_schedule if first.generation_config else []
        super().__init__(services, least_chars=() if query.auto_mode else tuple(schedule))
        self.route = SINGLE_PATH if name is None else MULTI_PATH
        self.flushed = False
        self.closing = False
        self._socket = socket
        self._voice = voice
        self._query = query
        self._named = {} if name is None else {"contextId": name, "context_id": name}
        self._form = output_format(query.output_format)
        self._seed = random_seed() if query.seed is None else query.seed
        self._encoder: Encoder
        self._last = ""  # piece of text
        self._started = False
        self._framed_s = 0.0  # audio that is in messages already
        self._pending = b""  # audio that waits for its characters
        self._characters = Alignment()  # that wait for their audio, by the context's clock

    def call_of(self, text: str) -> SpeechRequest:
        if self.spoken and not text[0].isspace():
            text = " " + text  # sentences are sent without the blank between, words are read by it
        repeatable = self._query.seed is not None
        return self.services.speech.build_request(
            text, self._voice, self._form, seed=self._seed, deterministic=repeatable
        )

    def take(self, message: Message) -> None:
        """Text, which may ask to be spoken as it is."""
        queue = self.queue
        text, whole = message.text, self._query.auto_mode
        if text and (self._last or text.strip()):  # a blank opens a context
            apart = whole and self._last.endswith(_STOPS) and text[0].isalnum()
            blank, self._last, self.flushed = " " if apart else "", text, False
            queue.feed(blank + text, complete=whole, at_once=message.try_trigger_generation)
        if message.flush:
            queue.flush()
            # LiveKit, in auto mode, flushes with every sentence and once more, alone, at the end.
            self.flushed = not (text and whole)

    def finish(self) -> None:
        """No more text comes: speak the rest, then send `isFinal`."""
        self.closing = True
        self.queue.end("final")

    async def run(self) -> None:
        with closing(self._form.encoder()) as self._encoder:
            await super().run()

    async def on_audio(self, utterance: Utterance, samples: F32) -> None:
        """Each message has the characters of exactly its audio: clients advance their clocks by
        the last character's time."""
        if not self._started:
            self._started = True
            self._pending = self._encoder.start()
        self._pending += self._encoder.feed(samples)
        self._characters.extend(utterance.timing.until(utterance.sent_s).later(self.spoken_s))
        await self._send()

    async def on_end(self, utterance: Utterance) -> None:
        """The last characters, with the audio that is left."""
        rest = utterance.timing.until(utterance.sent_s, last=True)
        self._characters.extend(rest.later(self.spoken_s))
        end_s = self.spoken_s + utterance.sent_s
        if self._pending and not self._characters.characters and end_s > self._framed_s:
            self._characters = Alignment([" "], [self._framed_s, end_s])
        await self._send()

    async def on_mark(self, _token: Any) -> None:
        """What the encoder held back, and the end."""
        if self._started:
            self._pending += self._encoder.finish()
            await self._send(anyway=True)
        await self.send_final()

    async def send_final(self) -> None:
        """`isFinal` is exactly `true` here and `false` before: clients test its identity."""
        await self._tell(None, None, final=True)

    async def _send(self, *, anyway: bool = False) -> None:
        found = self._characters
        if not self._pending or not (found.characters or anyway):
            return
        times = None
        if found.characters:
            clock_s = 0.0 if self._query.sync_alignment else self._framed_s
            times = _milliseconds(found, clock_s)
            self._framed_s, self._characters = found.bounds_s[-1], Alignment()
        data, self._pending = self._pending, b""
        await self._tell(base64.b64encode(data).decode("ascii"), times, final=False)

    async def _tell(self, audio: str | None, times: dict[str, Any] | None, *, final: bool) -> None:
        """Both alignments, and both the same: some clients read one, some the other, and the text
        as it was sent is what they follow."""
        said = {"audio": audio, "isFinal": final, "alignment": times, "normalizedAlignment": times}
        await self._socket.send_json(said | self._named)


def _milliseconds(alignment: Alignment, clock_s: float) -> dict[str, Any]:
    """Whole milliseconds since `clock_s`, each character beginning where the last one ends."""
    bounds = [round((bound_s - clock_s) * 1000) for bound_s in alignment.bounds_s]
    return {
        "chars": alignment.characters,
        "charStartTimesMs": bounds[:-1],
        "charDurationsMs": [end - start for start, end in itertools.pairwise(bounds)],
    }


class Single:
    """`stream-input`: one text, ended by an empty one."""

    def __init__(self, services: Services, socket: Socket, voice: str | None, query: Query) -> None:
        self._socket = socket
        self._context = partial(Context, services, socket, voice, query, None)

    async def run(self) -> None:
        """Until everything is spoken."""
        message = await _receive(self._socket)
        context = self._context(message)
        self._socket.busy = lambda: context.busy
        await first_of(self._read(context, message), context.run())

    async def _read(self, context: Context, message: Message) -> None:
        while True:
            if not context.closing:  # else text after the end
                context.take(message)
                if message.text == "" or message.close_socket:
                    context.finish()
            message = await _receive(self._socket)


class Multi(ContextSocket[Context]):
    """`multi-stream-input`: contexts side by side."""

    def __init__(self, services: Services, socket: Socket, voice: str | None, query: Query) -> None:
        super().__init__(services, socket)
        self._context = partial(Context, services, socket, voice, query)

    async def read(self) -> None:
        while not (message := await _receive(self.socket)).close_socket:
            await self._take(message)
        for name, context in list(self.contexts.items()):
            if not context.closing:
                await self._end(name, context)
        await first_of(self.drained(), self._ignore())

    async def _ignore(self) -> None:
        while True:
            await self.socket.receive()

    async def _take(self, message: Message) -> None:
        name = message.context or DEFAULT_CONTEXT
        context = self.contexts.get(name)
        if message.close_context:
            if context is not None:
                await self._end(name, context)
            return
        if context is None and not message.text:
            return  # keeps the socket awake
        if context is not None and context.closing:
            if not message.text:
                return
            await self._cut(name, context)  # the name is used again, for another sound
            context = None
        try:
            (context or self.open(name, self._context(name, message))).take(message)
        except ChatterboxError as error:
            await self.drop(name)
            await self.failed(name, error)

    async def _end(self, name: str | None, context: Context) -> None:
        """Close it: flushed text is still spoken; else, or on a second close, it stops now."""
        if context.flushed and not context.closing:
            context.finish()
        else:
            await self._cut(name, context)

    async def _cut(self, name: str | None, context: Context) -> None:
        await self.drop(name)
        await context.send_final()

    async def failed(self, name: str | None, error: ChatterboxError) -> None:
        """Only that context; but without its voice the socket is of no use."""
        if isinstance(error, VoiceNotFound):
            raise error
        await self.socket.send_json({**error_message(error), "contextId": name, "context_id": name})


def error_message(error: ChatterboxError) -> dict[str, Any]:
    """`error` is a word, and the code is the one that the socket is, or would be, closed with."""
    word = _WORDS.get(type(error), error.code)
    return {"message": error.message, "error": word, "code": close_code(error)}


async def _receive(socket: Socket) -> Message:
    return fields_of_message(Message, await socket.receive_json())


def add_routes(routes: APIRouter, services: Services) -> None:
    def serve(kind: type[Single] | type[Multi], websocket: WebSocket) -> Awaitable[None]:
        async def protocol(socket: Socket) -> None:
            query, _ = lenient_fields_of(Query, Body(dict(socket.query)))
            socket.idle_s = query.inactivity_timeout
            output_format(query.output_format)  # refused before the voice is looked for
            named = socket.path["voice_id"]
            voice = await services.voices.ask(voice_or_alias, services, named, ELEVENLABS_VOICES)
            await kind(services, socket, voice, query).run()

        return services.sockets.serve(
            websocket, protocol, lambda socket, error: socket.send_json(error_message(error))
        )

    @routes.websocket(SINGLE_PATH)
    async def single(websocket: WebSocket) -> None:
        """ElevenLabs: one text, spoken while it is written."""
        await serve(Single, websocket)

    @routes.websocket(MULTI_PATH)
    async def multi(websocket: WebSocket) -> None:
        """ElevenLabs: the same with contexts side by side."""
        await serve(Multi, websocket)
