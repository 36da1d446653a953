"""ElevenLabs' sockets: `stream-input`, and `multi-stream-input` with contexts.

Opens, closes and interrupts contexts, and sends errors. Where ElevenLabs' documentation and their
clients differ, the clients decide: docs/reference/dialects.md, "ElevenLabs".
"""

from collections.abc import Awaitable
from functools import partial
from typing import Any

from fastapi import APIRouter, WebSocket

from chatterbox.dialects.elevenlabs.context import MULTI_PATH, PATH, Context, Message, Query
from chatterbox.dialects.elevenlabs.http import output_format
from chatterbox.dialects.shared.contexts import ContextSocket
from chatterbox.dialects.shared.messages import fields_of_message
from chatterbox.dialects.shared.voice_names import ELEVENLABS_VOICES, voice_or_alias
from chatterbox.errors import ChatterboxError, IdleTimeout, Overloaded, VoiceNotFound
from chatterbox.server.body import Body
from chatterbox.server.dialect import Services
from chatterbox.server.schemas import lenient_fields_of
from chatterbox.server.socket_server import Socket, close_code, first_of

DEFAULT_CONTEXT = "default"

_WORDS: dict[type[ChatterboxError], str] = {
    IdleTimeout: "input_timeout_exceeded",
    Overloaded: "system_busy",
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


async def _send_error(socket: Socket, error: ChatterboxError) -> None:
    await socket.send_json(error_message(error))


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

        return services.sockets.serve(websocket, protocol, _send_error)

    @routes.websocket(PATH)
    async def single(websocket: WebSocket) -> None:
        """ElevenLabs: one text, spoken while it is written."""
        await serve(Single, websocket)

    @routes.websocket(MULTI_PATH)
    async def multi(websocket: WebSocket) -> None:
        """ElevenLabs: the same with contexts side by side."""
        await serve(Multi, websocket)
