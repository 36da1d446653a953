"""Which native calls are about voices? List, register, look up, name, delete, export, import.

Translates between HTTP and the voice library, whose calls all block and so run in threads.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from chatterbox.config import ServerConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.errors import VoiceNotFound
from chatterbox.server.body import BodyLimits, read_body, read_upload
from chatterbox.server.departure import while_listening
from chatterbox.server.lifecycle import Lifecycle
from chatterbox.server.schemas import (
    Call,
    NameFields,
    NoFields,
    RegisterFields,
    fields_of,
    form_schema,
    only_file,
)
from chatterbox.voices.catalogue import VoiceInfo
from chatterbox.voices.library import VoiceLibrary

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Call)

FILE = "voice_file"
FIELDS_BYTES = 64 * 1024
"""Room for a voice's name and the form around it."""
EXPORT_TYPE = "application/octet-stream"
EXPORT_SUFFIX = ".voice"


class VoiceRoutes:
    """The library over HTTP."""

    def __init__(self, engine: TTSEngine, config: ServerConfig, lifecycle: Lifecycle) -> None:
        self._engine = engine
        self._lifecycle = lifecycle
        self._max_bytes = config.max_voice_file_size
        self._permit_s = config.first_audio_timeout

    def router(self) -> APIRouter:
        """The routes."""
        router = APIRouter(tags=["voices"])
        get, put, post, delete = ["GET"], ["PUT"], ["POST"], ["DELETE"]
        for path, endpoint, methods, body in (
            ("/voices", self.list_voices, get, None),
            ("/voices/register", self.register, post, form_schema(RegisterFields, file=FILE)),
            ("/voices/import", self.import_voice, post, form_schema(NoFields, file=FILE)),
            ("/voices/{voice_id}", self.get_voice, get, None),
            ("/voices/{voice_id}", self.delete_voice, delete, None),
            ("/voices/{voice_id}/export", self.export_voice, get, None),
            ("/voices/{voice_id}/name", self.rename_voice, put, form_schema(NameFields)),
            ("/voices/{voice_id}/aliases/{alias}", self.add_alias, put, None),
            ("/voices/{voice_id}/aliases/{alias}", self.remove_alias, delete, None),
        ):
            router.add_api_route(path, endpoint, methods=methods, openapi_extra=body)
        return router

    # --- looking

    async def list_voices(self) -> Response:
        """All voices: the built-in ones, then the others from old to new."""
        voices = [info.as_json() for info in await self._ask(self._voices.list)]
        return JSONResponse({"voices": voices, "default_voice": self._engine.config.default_voice})

    async def get_voice(self, voice_id: str) -> Response:
        """One voice, by id, name or alias."""
        return JSONResponse((await self._info(voice_id)).as_json())

    async def export_voice(self, voice_id: str) -> Response:
        """The voice as one file, for import elsewhere."""
        info = await self._info(voice_id)
        async with self._place():
            data = await self._in_pool(self._voices.export, info.voice_id)
        disposition = f'attachment; filename="{info.voice_id}{EXPORT_SUFFIX}"'
        headers = {"Content-Disposition": disposition}
        return Response(data, media_type=EXPORT_TYPE, headers=headers)

    # --- taking in

    async def register(self, request: Request) -> Response:
        """A recording becomes a voice; the same recording gives the same id. 201 when it is new."""

        async def work(fields: RegisterFields, upload: UploadFile) -> Response:
            info, created = await self._take_in(upload, self._voices.register, fields.name)
            self._engine.warm(await self._ask(self._voices.get, info.voice_id))
            message = "The voice is registered." if created else "This recording was known already."
            return _answer(info, message, status=201 if created else 200)

        return _Upload(request, RegisterFields, self._lifecycle, self._max_bytes, work)

    async def import_voice(self, request: Request) -> Response:
        """An exported voice becomes a voice here."""

        async def work(_fields: NoFields, upload: UploadFile) -> Response:
            info = await self._take_in(upload, self._voices.import_)
            return _answer(info, "The voice is imported.")

        return _Upload(request, NoFields, self._lifecycle, self._max_bytes, work)

    # --- changing

    async def delete_voice(self, voice_id: str) -> Response:
        """Forget a voice; what is being spoken with it goes on."""
        info = await self._info(voice_id)
        await self._ask(self._voices.delete, info.voice_id)
        return _answer(info, "The voice is deleted.")

    async def rename_voice(self, request: Request, voice_id: str) -> Response:
        """Give a voice another name; the old one is free again."""
        self._lifecycle.check_open()
        async with read_body(request, BodyLimits(FIELDS_BYTES)) as body:
            fields = fields_of(NameFields, body)
        info = await self._ask(self._voices.rename, voice_id, fields.name)
        return _answer(info, "The voice is renamed.")

    async def add_alias(self, voice_id: str, alias: str) -> Response:
        """Let a voice answer to one more name."""
        await self._info(voice_id)
        info = await self._ask(self._voices.set_alias, voice_id, alias)
        return _answer(info, "The voice has the alias.")

    async def remove_alias(self, voice_id: str, alias: str) -> Response:
        """Take one of its further names from a voice."""
        owner = await self._info(voice_id)
        if (await self._info(alias)).voice_id != owner.voice_id:
            raise VoiceNotFound("The voice has no such alias.", param="alias")
        info = await self._ask(self._voices.remove_alias, alias)
        return _answer(info, "The alias is gone.")

    # --- inside

    @property
    def _voices(self) -> VoiceLibrary:
        self._lifecycle.check_open()
        return self._engine.voices

    async def _info(self, voice_id: str) -> VoiceInfo:
        return await self._ask(self._voices.info, voice_id)

    async def _ask(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """A library call that may touch the disk, but not the model."""
        return await asyncio.to_thread(call, *args, **kwargs)

    def _place(self) -> AbstractAsyncContextManager[None]:
        """What may run the speech encoder holds a place, as speech does: when the server is full,
        uploads are refused too, and no more of them are in memory than there are places."""
        return self._engine.admission.permit(timeout_s=self._permit_s)

    async def _in_pool(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._engine.pool.submit(call, *args, **kwargs))

    async def _take_in(
        self,
        upload: UploadFile,
        call: Callable[Concatenate[bytes, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        async with self._place():
            data = await read_upload(upload, FILE, self._max_bytes)
            return await self._in_pool(call, data, *args, **kwargs)


class _Upload(Response, Generic[F]):
    """Takes in one file and its fields, hands them to `work` and sends its answer; when the client
    leaves, whatever has not begun is not done."""

    def __init__(
        self,
        request: Request,
        kind: type[F],
        lifecycle: Lifecycle,
        max_bytes: int,
        work: Callable[[F, UploadFile], Coroutine[Any, Any, Response]],
    ) -> None:
        super().__init__()
        self._request = request
        self._kind = kind
        self._lifecycle = lifecycle
        self._max_bytes = max_bytes
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._lifecycle.check_room()
        async with read_body(self._request, BodyLimits(FIELDS_BYTES, self._max_bytes)) as body:
            fields = fields_of(self._kind, body)
            upload = only_file(body, FILE, required=True)
            answer = await while_listening(receive, self._work(fields, upload))
        await answer(scope, receive, send)


def _answer(info: VoiceInfo, message: str, *, status: int = 200) -> Response:
    """The answer to a change: `voice_id` and `message` first, then all that is known."""
    warnings = list(info.report.warnings)
    body = {"voice_id": info.voice_id, "message": message, "warnings": warnings, **info.as_json()}
    return JSONResponse(body, status_code=status)
