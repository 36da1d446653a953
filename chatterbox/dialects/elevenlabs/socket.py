"""ElevenLabs' sockets: `stream-input`, and `multi-stream-input` with contexts.

Opens, closes and interrupts contexts, and sends errors. Where ElevenLabs' documentation and their
clients differ, the clients decide: docs/dialects.md, "ElevenLabs".
"""

from typing import Any

from fastapi import APIRouter, WebSocket

from chatterbox.dialects.elevenlabs.context import MULTI_PATH, PATH, Context, Message, Query
from chatterbox.dialects.elevenlabs.http import output_format
from chatterbox.dialects.shared.contexts import Contexts
from chatterbox.dialects.shared.messages import fields_of_message
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

    def __init__(self, services: Services, socket: Socket, voice: str, query: Query) -> None:
        self._services = services
        self._socket = socket
        self._voice = voice
        self._query = query

    async def run(self) -> None:
        """Until everything is spoken."""
        message = await _receive(self._socket)
        context = Context(self._services, self._socket, self._voice, self._query, None, message)
        self._socket.busy = lambda: context.speech.busy
        self._take(context, message)
        await first_of(self._read(context), context.run())

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

    def __init__(self, services: Services, socket: Socket, voice: str, query: Query) -> None:
        self._services = services
        self._socket = socket
        self._voice = voice
        self._query = query
        self._contexts = Contexts[Context](self._failed)
        socket.busy = lambda: any(context.speech.busy for context in self._contexts)

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
        if context is None and not message.text:
            return  # keeps the socket awake
        if context is not None and context.closing:
            if not message.text:
                return
            await self._cut(name, context)  # the name is used again, for another sound
            context = None
        try:
            (context or self._open(name, message)).take(message)
        except ChatterboxError as error:
            await self._contexts.drop(name)
            await self._failed(name, error)

    def _open(self, name: str, first: Message) -> Context:
        context = Context(self._services, self._socket, self._voice, self._query, name, first)
        return self._contexts.open(name, context, context.run)

    async def _end(self, name: str | None, context: Context) -> None:
        """Close it: flushed text is still spoken; else, or on a second close, it stops now."""
        if context.flushed and not context.closing:
            context.finish()
        else:
            await self._cut(name, context)

    async def _cut(self, name: str | None, context: Context) -> None:
        await self._contexts.drop(name)
        await context.send_final()

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


async def _send_error(socket: Socket, error: ChatterboxError) -> None:
    await socket.send_json(error_message(error))


async def _receive(socket: Socket) -> Message:
    return fields_of_message(Message, await socket.receive_json())


def router(services: Services) -> APIRouter:
    """Both sockets."""
    routes = APIRouter()

    async def opened(socket: Socket) -> tuple[str, Query]:
        query, _ = lenient_fields_of(Query, Body(dict(socket.query)))
        socket.idle_s = query.inactivity_timeout
        output_format(query.output_format)
        return (await services.voices.info(socket.path["voice_id"])).voice_id, query

    @routes.websocket(PATH)
    async def single(websocket: WebSocket) -> None:
        """ElevenLabs: one text, spoken while it is written."""

        async def protocol(socket: Socket) -> None:
            await Single(services, socket, *await opened(socket)).run()

        await services.sockets.serve(websocket, protocol, _send_error)

    @routes.websocket(MULTI_PATH)
    async def multi(websocket: WebSocket) -> None:
        """ElevenLabs: the same with contexts side by side."""

        async def protocol(socket: Socket) -> None:
            await Multi(services, socket, *await opened(socket)).run()

        await services.sockets.serve(websocket, protocol, _send_error)

    return routes
