"""The native calls about voices: list, register, look up, name, delete, export, import."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from chatterbox.errors import VoiceNotFound, shown
from chatterbox.server.body import Body, BodyLimits, read_body
from chatterbox.server.schemas import (
    Call,
    LenientCall,
    Name,
    NameFields,
    NoFields,
    RegisterFields,
    fields_of,
    form_schema,
    lenient_fields_of,
    refuse_other_files,
)
from chatterbox.server.upload import Upload
from chatterbox.server.voice_service import FIELDS_BYTES, UploadAnswer, VoiceService
from chatterbox.voices.names import VoiceInfo
from chatterbox.voices.voice_file import MAX_BYTES

FILE = "voice_file"
EXPORT_TYPE = "application/octet-stream"
EXPORT_SUFFIX = ".voice"
MAX_PAGE = 1000


class PageFields(LenientCall):
    """Which part of the list; without any, all of it."""

    after: Name | None = None
    limit: int | None = Field(None, ge=1, le=MAX_PAGE)


class VoiceRoutes:
    """The library over HTTP."""

    def __init__(self, work: VoiceService) -> None:
        self._work = work

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

    async def list_voices(self, request: Request) -> Response:
        """All voices: the built-in ones, then the others from old to new. With `limit`, a page of
        them, behind the one with the id `after`."""
        fields, _ = lenient_fields_of(PageFields, Body(dict(request.query_params)))
        default = self._work.default_voice

        def all_of_them(voices: list[VoiceInfo]) -> dict[str, Any]:
            return {"voices": [info.as_json() for info in voices], "default_voice": default}

        if fields.limit is None and fields.after is None:
            return await self._work.list_answer("native", all_of_them)
        page, more = _page(await self._work.listed(), fields)
        return JSONResponse(all_of_them(page) | {"has_more": more})

    async def get_voice(self, voice_id: str) -> Response:
        """One voice, by id, name or alias."""
        return JSONResponse((await self._work.info(voice_id)).as_json())

    async def export_voice(self, voice_id: str) -> Response:
        """The voice as one file, for import elsewhere."""
        info, data = await self._work.export(voice_id)
        disposition = f'attachment; filename="{info.voice_id}{EXPORT_SUFFIX}"'
        headers = {"Content-Disposition": disposition}
        return Response(data, media_type=EXPORT_TYPE, headers=headers)

    # --- taking in

    async def register(self, request: Request) -> Response:
        """A recording becomes a voice; the same recording gives the same id. 201 when it is new."""

        async def work(body: Body, upload: Upload) -> Response:
            fields = fields_of(RegisterFields, body)
            upload.transcript = fields.transcript
            info, created = await self._work.register(upload, FILE, fields.name)
            message = "The voice is registered." if created else "This recording was known already."
            return _answer(info, message, status=201 if created else 200)

        return UploadAnswer(request, self._work, FILE, work, check=_checks(RegisterFields))

    async def import_voice(self, request: Request) -> Response:
        """An exported voice becomes a voice here."""

        async def work(_body: Body, upload: Upload) -> Response:
            info = await self._work.import_(upload, FILE)
            return _answer(info, "The voice is imported.")

        check = _checks(NoFields)
        return UploadAnswer(request, self._work, FILE, work, check=check, most_bytes=MAX_BYTES)

    # --- changing

    async def delete_voice(self, voice_id: str) -> Response:
        """Forget a voice; what is being spoken with it goes on."""
        return _answer(await self._work.delete(voice_id), "The voice is deleted.")

    async def rename_voice(self, request: Request, voice_id: str) -> Response:
        """Give a voice another name; the old one is free again."""
        self._work.lifecycle.check_open()
        async with read_body(request, BodyLimits(FIELDS_BYTES)) as body:
            fields = fields_of(NameFields, body)
        info = await self._work.ask(self._work.library.rename, voice_id, fields.name)
        return _answer(info, "The voice is renamed.")

    async def add_alias(self, voice_id: str, alias: str) -> Response:
        """Let a voice answer to one more name."""
        await self._work.info(voice_id)
        info = await self._work.ask(self._work.library.set_alias, voice_id, alias)
        return _answer(info, "The voice has the alias.")

    async def remove_alias(self, voice_id: str, alias: str) -> Response:
        """Take one of its further names from a voice."""
        owner = await self._work.info(voice_id)
        if (await self._work.info(alias)).voice_id != owner.voice_id:
            raise VoiceNotFound("The voice has no such alias.", param="alias")
        info = await self._work.ask(self._work.library.remove_alias, alias)
        return _answer(info, "The alias is gone.")


def _checks(kind: type[Call]) -> Callable[[Body], None]:
    """Whether the fields are right, and no other file came."""

    def check(body: Body) -> None:
        fields_of(kind, body)
        refuse_other_files(body)

    return check


def _page(voices: list[VoiceInfo], fields: PageFields) -> tuple[list[VoiceInfo], bool]:
    """The voices asked for, and whether there are more behind them."""
    start = 0
    if fields.after is not None:
        ids = [info.voice_id for info in voices]
        if fields.after not in ids:
            raise VoiceNotFound(f"There is no voice {shown(fields.after)!r}.", param="after")
        start = ids.index(fields.after) + 1
    end = start + (fields.limit or MAX_PAGE)
    return voices[start:end], end < len(voices)


def _answer(info: VoiceInfo, message: str, *, status: int = 200) -> Response:
    """The answer to a change: `voice_id` and `message` first, then all that is known."""
    warnings = list(info.report.warnings) if info.report else []
    body = {"voice_id": info.voice_id, "message": message, "warnings": warnings, **info.as_json()}
    return JSONResponse(body, status_code=status)
