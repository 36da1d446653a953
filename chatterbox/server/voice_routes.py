"""Which native calls are about voices? List, register, look up, delete, export, import.

Translates between HTTP and the voice library, whose calls all block and so run in the pool.
"""

import asyncio
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from chatterbox.config import ServerConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.server.body import BodyLimits, read_body, read_upload
from chatterbox.server.departure import while_listening
from chatterbox.server.lifecycle import Lifecycle
from chatterbox.server.schemas import (
    Call,
    NoFields,
    RegisterFields,
    fields_of,
    form_schema,
    only_file,
)
from chatterbox.voices.catalogue import VoiceInfo

P = ParamSpec("P")
T = TypeVar("T")

FILE = "voice_file"
FIELDS_BYTES = 64 * 1024
"""Room for a voice's name and the form around it."""
EXPORT_TYPE = "application/octet-stream"
EXPORT_SUFFIX = ".voice"


class VoiceDesk:
    """The library as the routes see it."""

    def __init__(self, engine: TTSEngine, config: ServerConfig, lifecycle: Lifecycle) -> None:
        self.engine = engine
        self.lifecycle = lifecycle
        self.max_bytes = config.max_voice_file_size
        self.limits = BodyLimits(FIELDS_BYTES, self.max_bytes)
        self._permit_s = config.first_audio_timeout

    async def ask(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """A library call, off the event loop. It touches the disk but not the model."""
        return await asyncio.to_thread(call, *args, **kwargs)

    async def encode(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """A library call that may run the speech encoder: such work holds a place, as speech does,
        so that uploads are refused when the server is full."""
        async with self.engine.admission.permit(timeout_s=self._permit_s):
            return await asyncio.wrap_future(self.engine.pool.submit(call, *args, **kwargs))

    def taken_in(self, info: VoiceInfo, *, created: bool, message: str) -> Response:
        """The answer to an upload."""
        body = {
            "voice_id": info.voice_id,
            "message": message,
            "created": created,
            **info.as_json(),
            "warnings": list(info.report.warnings),
        }
        return JSONResponse(body, status_code=201 if created else 200)


class UploadAnswer(Response):
    """Takes in one file and its fields, hands them to `work`, sends the answer; the upload lives
    as long as that."""

    def __init__(
        self,
        desk: VoiceDesk,
        request: Request,
        kind: type[Call],
        work: Callable[[Any, bytes], Any],
    ) -> None:
        super().__init__()
        self._desk = desk
        self._request = request
        self._kind = kind
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        desk = self._desk
        desk.lifecycle.check_room()
        async with read_body(self._request, desk.limits) as body:
            fields = fields_of(self._kind, body)
            upload = only_file(body, FILE, required=True)
            data = await read_upload(upload, FILE, desk.max_bytes)
        answer = await while_listening(receive, self._work(fields, data))
        await answer(scope, receive, send)


def voice_router(engine: TTSEngine, config: ServerConfig, lifecycle: Lifecycle) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["voices"])
    desk = VoiceDesk(engine, config, lifecycle)

    @router.get("/voices")
    async def list_voices() -> Response:
        """All voices."""
        lifecycle.check_open()
        voices = await desk.ask(engine.voices.list)
        listed = [info.as_json() for info in voices]
        return JSONResponse({"voices": listed, "default_voice": engine.config.default_voice})

    @router.post("/voices/register", openapi_extra=form_schema(RegisterFields, file=FILE))
    async def register(request: Request) -> Response:
        """A recording becomes a voice. The same recording gives the same id."""

        async def work(fields: RegisterFields, data: bytes) -> Response:
            info, created = await desk.encode(engine.voices.register, data, fields.name)
            engine.warm(await desk.ask(engine.voices.get, info.voice_id))
            message = "The voice is registered." if created else "This recording was known already."
            return desk.taken_in(info, created=created, message=message)

        return UploadAnswer(desk, request, RegisterFields, work)

    @router.post("/voices/import", openapi_extra=form_schema(NoFields, file=FILE))
    async def import_voice(request: Request) -> Response:
        """An exported voice becomes a voice here."""

        async def work(_fields: NoFields, data: bytes) -> Response:
            info, created = await desk.encode(engine.voices.import_, data)
            message = "The voice is imported." if created else "This voice was known already."
            return desk.taken_in(info, created=created, message=message)

        return UploadAnswer(desk, request, NoFields, work)

    @router.get("/voices/{voice_id}")
    async def get_voice(voice_id: str) -> Response:
        """One voice, by id, name or alias."""
        lifecycle.check_open()
        info = await desk.ask(engine.voices.info, voice_id)
        return JSONResponse(info.as_json())

    @router.delete("/voices/{voice_id}")
    async def delete_voice(voice_id: str) -> Response:
        """Forget a voice; what is being spoken with it goes on."""
        lifecycle.check_open()
        info = await desk.ask(engine.voices.delete, voice_id)
        return JSONResponse({"voice_id": info.voice_id, "message": "The voice is deleted."})

    @router.get("/voices/{voice_id}/export", response_class=Response)
    async def export_voice(voice_id: str) -> Response:
        """The voice as one file, for import elsewhere."""
        lifecycle.check_open()
        info = await desk.ask(engine.voices.info, voice_id)
        data = await desk.ask(engine.voices.export, info.voice_id)
        disposition = f'attachment; filename="{info.voice_id}{EXPORT_SUFFIX}"'
        headers = {"Content-Disposition": disposition}
        return Response(data, media_type=EXPORT_TYPE, headers=headers)

    return router
