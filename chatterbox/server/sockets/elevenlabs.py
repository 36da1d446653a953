"""What is said on ElevenLabs' sockets? `stream-input`, and `multi-stream-input` with contexts.

Translates messages, alignment and errors. What their clients do, rather than what is written about
them, decides: see docs/dialects.md.
"""

import base64
import itertools
import secrets
from typing import Any

from fastapi import APIRouter, WebSocket
from pydantic import Field

from chatterbox.errors import ChatterboxError, IdleTimeout, Overloaded, VoiceNotFound
from chatterbox.model.contract import F32
from chatterbox.server.body import Body
from chatterbox.server.dialects.alignment import Alignment
from chatterbox.server.dialects.elevenlabs import output_format
from chatterbox.server.schemas import (
    MAX_NAME_CHARS,
    SEED_LIMIT,
    LenientCall,
    Text,
    lenient_fields_of,
)
from chatterbox.server.sockets.connection import Desk, Socket, close_code, first_of
from chatterbox.server.sockets.contexts import Contexts
from chatterbox.server.sockets.voicing import Utterance, Voicing
from chatterbox.server.speech import SpeechCall

PATH = "/v1/text-to-speech/{voice_id}/stream-input"
MULTI_PATH = "/v1/text-to-speech/{voice_id}/multi-stream-input"
DEFAULT_IDLE_S, MOST_IDLE_S = 20, 180  # ElevenLabs' own
DEFAULT_CONTEXT = "default"
MOST_SCHEDULE = 32
_STOPS = ".!?…"

_WORDS: dict[type[ChatterboxError], str] = {
    IdleTimeout: "input_timeout_exceeded",
    Overloaded: "system_busy",
}


class Query(LenientCall):
    """What of the address means something here."""

    output_format: str | None = None
    inactivity_timeout: float = Field(DEFAULT_IDLE_S, gt=0, le=MOST_IDLE_S)
    sync_alignment: bool = False
    auto_mode: bool = False
    seed: int | None = None


class Generation(LenientCall):
    """`generation_config`: so much text is collected before the first, second… part is spoken."""

    chunk_length_schedule: list[int] = Field(default=[], max_length=MOST_SCHEDULE)


class Message(LenientCall):
    """Whatever a client sends; each field has its meaning alone."""

    text: Text | None = None
    flush: bool = False
    try_trigger_generation: bool = False
    generation_config: Generation | None = None
    context_id: str | None = Field(None, max_length=MAX_NAME_CHARS)
    contextId: str | None = Field(None, max_length=MAX_NAME_CHARS)  # noqa: N815 - the wire's name
    close_context: bool = False
    close_socket: bool = False

    @property
    def context(self) -> str | None:
        """Some write it one way, some the other."""
        return self.context_id or self.contextId


class Context:
    """One continuous sound. `flushed`: all text so far was asked for, so that closing the context
    lets it finish; what is closed before that was interrupted, and stops."""

    def __init__(
        self, desk: Desk, socket: Socket, voice: str, query: Query, name: str | None, first: Message
    ) -> None:
        self.flushed = False
        self.closing = False
        self._desk = desk
        self._socket = socket
        self._voice = voice
        self._query = query
        self._named = {} if name is None else {"contextId": name, "context_id": name}
        self._form = output_format(query.output_format)
        self._seed = secrets.randbelow(SEED_LIMIT) if query.seed is None else query.seed
        self._encoder = self._form.encoder()
        self._fed = False
        self._ended = False  # the text so far ends in a stop
        self._begun = False
        self._sound_s = 0.0  # of utterances that are done
        self._sent_s = 0.0  # sound that is in messages already
        self._held = b""  # sound that no character has been found for yet
        self._characters = Alignment()  # and the other way round, by the context's clock
        schedule = first.generation_config.chunk_length_schedule if first.generation_config else []
        self.voicing = Voicing(
            desk.backend,
            desk.ended,
            PATH if name is None else MULTI_PATH,
            self,
            call_of=self._call,
            least_chars=() if query.auto_mode else tuple(schedule),
        )

    def _call(self, text: str) -> SpeechCall:
        if self.voicing.spoken and not text[0].isspace():
            text = " " + text  # sentences are sent without the blank between, words are read by it
        return self._desk.backend.call(text, self._voice, self._form, seed=self._seed)

    def take(self, message: Message) -> None:
        """Text, which may ask to be spoken as it is."""
        inbox = self.voicing.inbox
        if message.text and (self._fed or message.text.strip()):  # a blank opens a context
            self._fed = True
            ended, self._ended = self._ended, message.text[-1] in _STOPS
            apart = ended and self._query.auto_mode and message.text[0].isalnum()
            inbox.feed(
                " " + message.text if apart else message.text,
                complete=self._query.auto_mode,
                at_once=message.try_trigger_generation,
            )
            self.flushed = False
        if message.flush:
            inbox.flush()
            # LiveKit, in auto mode, flushes with every sentence and once more, alone, at the end.
            self.flushed = not (message.text and self._query.auto_mode)

    def finish(self) -> None:
        """Nothing more comes: say the rest, then `isFinal`."""
        self.closing = True
        self.voicing.inbox.mark("final")
        self.voicing.inbox.end()

    # --- Listener

    async def begins(self, utterance: Utterance) -> None:
        """Nothing is said of it."""

    async def sounds(self, utterance: Utterance, samples: F32) -> None:
        """Each message has the characters of all its sound: their clients move their clocks on by
        what the last character says, so neither goes without the other."""
        if not self._begun:
            self._begun = True
            self._held = self._encoder.start()
        self._held += self._encoder.feed(samples)
        self._note(utterance.timing.until(utterance.heard_s))
        await self._send()

    async def ends(self, utterance: Utterance) -> None:
        """The last characters, with whatever sound is left of it."""
        self._note(utterance.timing.rest(utterance.heard_s))
        self._sound_s += utterance.heard_s
        if self._held and not self._characters.characters and self._sound_s > self._sent_s:
            self._characters = Alignment([" "], [self._sent_s], [self._sound_s])
        await self._send()

    async def reaches(self, _token: Any) -> None:
        """What the encoder held back, and the end."""
        if self._begun:
            self._held += self._encoder.finish()
            await self._send(anyway=True)
        await self.tell_final()

    async def tell_final(self) -> None:
        """`isFinal` is true and nothing else is: their clients test its identity."""
        await self._tell(audio=None, isFinal=True, **_times(None))

    def _note(self, found: Alignment) -> None:
        shift_s = self._sound_s
        starts_s = [shift_s + start_s for start_s in found.starts_s]
        ends_s = [shift_s + end_s for end_s in found.ends_s]
        self._characters.extend(Alignment(found.characters, starts_s, ends_s))

    async def _send(self, *, anyway: bool = False) -> None:
        found = self._characters
        if not self._held or not (found.characters or anyway):
            return
        times = None
        if found.characters:
            clock_s = 0.0 if self._query.sync_alignment else self._sent_s
            times = _milliseconds(found, clock_s)
            self._sent_s, self._characters = found.ends_s[-1], Alignment()
        data, self._held = self._held, b""
        await self._tell(audio=_base64(data), isFinal=False, **_times(times))

    async def _tell(self, **body: Any) -> None:
        await self._socket.send_json({**body, **self._named})


def _milliseconds(alignment: Alignment, clock_s: float) -> dict[str, Any]:
    """Whole milliseconds since `clock_s`, each character beginning where the last one ends."""
    bounds_s = [*alignment.starts_s, alignment.ends_s[-1]]
    bounds = [round((bound_s - clock_s) * 1000) for bound_s in bounds_s]
    return {
        "chars": alignment.characters,
        "charStartTimesMs": bounds[:-1],
        "charDurationsMs": [end - start for start, end in itertools.pairwise(bounds)],
    }


def _times(alignment: dict[str, Any] | None) -> dict[str, Any]:
    """Both, and both the same: some clients read one, some the other, and the text as it was sent
    is what they follow."""
    return {"alignment": alignment, "normalizedAlignment": alignment}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


class Single:
    """`stream-input`: one text, ended by an empty one."""

    def __init__(self, desk: Desk, socket: Socket, voice: str, query: Query) -> None:
        self._desk = desk
        self._socket = socket
        self._voice = voice
        self._query = query

    async def run(self) -> None:
        """Until everything is said."""
        socket, context = self._socket, None
        message = await _receive(socket)
        context = Context(self._desk, socket, self._voice, self._query, None, message)
        socket.busy = lambda: context.voicing.busy
        self._take(context, message)
        await first_of(self._read(context), context.voicing.run())

    async def _read(self, context: Context) -> None:
        while True:
            self._take(context, await _receive(self._socket))

    @staticmethod
    def _take(context: Context, message: Message) -> None:
        if context.closing:
            return  # text after the end
        context.take(message)
        if message.text == "" or message.close_socket:
            context.finish()


class Multi:
    """`multi-stream-input`: contexts side by side."""

    def __init__(self, desk: Desk, socket: Socket, voice: str, query: Query) -> None:
        self._desk = desk
        self._socket = socket
        self._voice = voice
        self._query = query
        self._contexts = Contexts[Context](self._failed)
        socket.busy = lambda: any(context.voicing.busy for context in self._contexts)

    async def run(self) -> None:
        """Until the client closes it."""
        try:
            await first_of(self._read(), self._contexts.fault())
            await first_of(self._contexts.drained(), self._contexts.fault(), self._ignore())
        finally:
            await self._contexts.close()

    async def _read(self) -> None:
        while True:
            message = await _receive(self._socket)
            if message.close_socket:
                for name, context in self._contexts.items():
                    if not context.closing:
                        await self._end(name, context)
                return
            await self._take(message)

    async def _ignore(self) -> None:
        while True:
            await self._socket.receive()

    async def _take(self, message: Message) -> None:
        name = message.context or DEFAULT_CONTEXT
        context = self._contexts.get(name)
        if message.close_context:
            if context is not None:
                await self._end(name, context)
            return
        if context is None:
            if not message.text:
                return  # keeps the socket awake
            context = self._open(name, message)
        elif context.closing and message.text:
            # The name is used again, for another sound.
            await self._cut(name, context)
            context = self._open(name, message)
        if not context.closing:
            try:
                context.take(message)
            except ChatterboxError as error:
                await self._contexts.drop(name)
                await self._failed(name, error)

    def _open(self, name: str, first: Message) -> Context:
        context = Context(self._desk, self._socket, self._voice, self._query, name, first)
        return self._contexts.open(name, context, context.voicing.run)

    async def _end(self, name: str | None, context: Context) -> None:
        """Closed: what was flushed is still said; else, or when told twice, it is cut here."""
        if context.flushed and not context.closing:
            context.finish()
        else:
            await self._cut(name, context)

    async def _cut(self, name: str | None, context: Context) -> None:
        await self._contexts.drop(name)
        await context.tell_final()

    async def _failed(self, name: str | None, error: ChatterboxError) -> None:
        """Only that context; but without its voice the socket is of no use."""
        if isinstance(error, VoiceNotFound):
            raise error
        await self._socket.send_json(
            {**error_message(error), "contextId": name, "context_id": name}
        )


def error_message(error: ChatterboxError) -> dict[str, Any]:
    """`error` is a word, and the code is the one that the socket is, or would be, closed with."""
    word = _WORDS.get(type(error), error.code)
    return {"message": error.message, "error": word, "code": close_code(error)}


async def _tell_error(socket: Socket, error: ChatterboxError) -> None:
    await socket.send_json(error_message(error))


async def _receive(socket: Socket) -> Message:
    message, _ = lenient_fields_of(Message, Body(await socket.receive_json(), typed=True))
    return message


def router(desk: Desk) -> APIRouter:
    """Both sockets."""
    routes = APIRouter()

    async def opened(socket: Socket) -> tuple[str, Query]:
        query, _ = lenient_fields_of(Query, Body(dict(socket.query)))
        socket.idle_s = query.inactivity_timeout
        output_format(query.output_format)
        voice = await desk.voice(socket.path["voice_id"])
        assert voice is not None, "the path has a name in it"
        return voice, query

    @routes.websocket(PATH)
    async def single(websocket: WebSocket) -> None:
        """ElevenLabs: one text, spoken while it is written."""

        async def protocol(socket: Socket) -> None:
            await Single(desk, socket, *await opened(socket)).run()

        await desk.serve(websocket, protocol, _tell_error)

    @routes.websocket(MULTI_PATH)
    async def multi(websocket: WebSocket) -> None:
        """ElevenLabs: the same with contexts side by side."""

        async def protocol(socket: Socket) -> None:
            await Multi(desk, socket, *await opened(socket)).run()

        await desk.serve(websocket, protocol, _tell_error)

    return routes
