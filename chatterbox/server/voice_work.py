"""How are voices looked up, taken in and changed from the event loop? In threads and in the pool.

Belongs to every dialect: knows neither their fields nor their answers.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from typing import Concatenate, ParamSpec, TypeVar

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chatterbox.config import ServerConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.server.body import Body, BodyLimits, read_body, read_upload
from chatterbox.server.departure import while_listening
from chatterbox.server.lifecycle import Lifecycle
from chatterbox.server.shares import Shares
from chatterbox.voices.catalogue import VoiceInfo
from chatterbox.voices.library import VoiceLibrary

P = ParamSpec("P")
T = TypeVar("T")

FIELDS_BYTES = 64 * 1024
"""Room for a voice's name and the form around it."""


class VoiceWork:
    """The voice library, whose calls all block, for handlers that must not."""

    def __init__(
        self, engine: TTSEngine, config: ServerConfig, lifecycle: Lifecycle, shares: Shares
    ) -> None:
        self._engine = engine
        self._shares = shares
        self.lifecycle = lifecycle
        self.max_bytes = config.max_voice_file_size
        self._permit_s = config.first_audio_timeout

    @property
    def default_voice(self) -> str:
        """Who speaks where a call names nobody."""
        return self._engine.config.default_voice

    @property
    def library(self) -> VoiceLibrary:
        """The voices themselves. Raises NotReady, Draining and EngineDead."""
        self.lifecycle.check_open()
        return self._engine.voices

    async def listed(self) -> list[VoiceInfo]:
        """All voices: the built-in ones, then the others from old to new."""
        return await self.ask(self.library.list)

    async def info(self, voice: str) -> VoiceInfo:
        """One voice, by id, name or alias. Raises VoiceNotFound."""
        return await self.ask(self.library.info, voice)

    async def register(
        self, upload: UploadFile, param: str, name: str | None
    ) -> tuple[VoiceInfo, bool]:
        """A recording becomes a voice that is ready to speak; and whether it is new."""
        info, created = await self._take_in(upload, param, self.library.register, name)
        self._engine.warm(await self.ask(self.library.get, info.voice_id))
        return info, created

    async def import_(self, upload: UploadFile, param: str) -> VoiceInfo:
        """An exported voice becomes a voice here."""
        return await self._take_in(upload, param, self.library.import_)

    async def export(self, voice: str) -> tuple[VoiceInfo, bytes]:
        """A voice as one file."""
        info = await self.info(voice)
        async with self._place():
            return info, await self._in_pool(self.library.export, info.voice_id)

    async def delete(self, voice: str) -> VoiceInfo:
        """Forget a voice; what is being spoken with it goes on."""
        info = await self.info(voice)
        await self.ask(self.library.delete, info.voice_id)
        return info

    async def ask(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """A library call that may touch the disk, but not the model."""
        return await asyncio.to_thread(call, *args, **kwargs)

    async def check_room(self) -> None:
        """What can be refused before an upload is read. Raises what `Lifecycle.check_room` does,
        and KeyLimit."""
        self.lifecycle.check_room()
        await self._shares.check()

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """What may run the speech encoder holds a place, as speech does: when the server is full,
        uploads are refused too, and no more of them are in memory than there are places."""
        async with self._shares.hold(), self._engine.admission.permit(timeout_s=self._permit_s):
            yield

    async def _in_pool(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._engine.pool.submit(call, *args, **kwargs))

    async def _take_in(
        self,
        upload: UploadFile,
        param: str,
        call: Callable[Concatenate[bytes, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        async with self._place():
            data = await read_upload(upload, param, self.max_bytes)
            return await self._in_pool(call, data, *args, **kwargs)


class UploadAnswer(Response):
    """Takes in a form, finds its file with `find`, hands both to `work` and sends its answer; when
    the client leaves, whatever has not begun is not done."""

    def __init__(
        self,
        request: Request,
        voices: VoiceWork,
        find: Callable[[Body], UploadFile],
        work: Callable[[Body, UploadFile], Coroutine[object, object, Response]],
        *,
        repeatable: Collection[str] = (),
    ) -> None:
        super().__init__()
        self._request = request
        self._voices = voices
        self._find = find
        self._work = work
        self._repeatable = repeatable

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._voices.check_room()
        limits = BodyLimits(FIELDS_BYTES, self._voices.max_bytes)
        async with read_body(self._request, limits, repeatable=self._repeatable) as body:
            answer = await while_listening(receive, self._work(body, self._find(body)))
        await answer(scope, receive, send)
