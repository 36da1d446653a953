"""The native calls about voices: list, register, look up, name, delete, export, import."""

from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from chatterbox.errors import VoiceNotFound, excerpt
from chatterbox.server.body import Body
from chatterbox.server.multipart import Upload
from chatterbox.server.schemas import (
    Call,
    LenientCall,
    Name,
    NoFields,
    Text,
    Transcript,
    fields_of,
    file_route,
    form_schema,
    lenient_fields_of,
    query_schema,
)
from chatterbox.server.voice_service import VoiceService, answer_upload
from chatterbox.voices.names import VoiceInfo
from chatterbox.voices.voice_file import MAX_BYTES

FILE = "voice_file"
MAX_PAGE = 1000


class PageFields(LenientCall):
    """Which part of the list; without any, all of it."""

    after: Name | None = None
    limit: int | None = Field(None, ge=1, le=MAX_PAGE)


class RegisterFields(Call):
    """`/voices/register`, beside `voice_file`."""

    name: Name | None = Field(None, description="A name to call the voice by")
    transcript: Transcript | None = Field(
        None, description="What is said in the recording, for models that need to know"
    )


class NameFields(Call):
    """`/voices/{voice_id}/name`."""

    name: Name = Field(description="The new name")


class DescriptionFields(Call):
    """`/voices/{voice_id}/description`."""

    description: Text = Field(max_length=500, description="A note; empty: none")


def voice_router(voices: VoiceService) -> APIRouter:
    """The voice library over HTTP."""
    router = APIRouter(tags=["voices"])

    @router.get("/voices", openapi_extra=query_schema(PageFields))
    async def list_voices(request: Request) -> Response:
        """All voices: the built-in ones, then the others from old to new. With `limit`, a page of
        them, behind the one with the id `after`."""
        fields, _ = lenient_fields_of(PageFields, Body(dict(request.query_params)))

        def all_of_them(infos: list[VoiceInfo]) -> dict[str, Any]:
            bodies = [info.as_json() for info in infos]
            return {"voices": bodies, "default_voice": voices.default_voice}

        if fields.limit is None and fields.after is None:
            return await voices.list_answer("native", all_of_them)
        page, more = _page(await voices.listed(), fields)
        return JSONResponse(all_of_them(page) | {"has_more": more})

    @router.post("/voices/register", openapi_extra=form_schema(RegisterFields, file=FILE))
    async def register(request: Request) -> Response:
        """A recording becomes a voice; the same recording gives the same id. 201 when it is new."""

        async def work(body: Body, upload: Upload) -> Response:
            fields = fields_of(RegisterFields, body)
            upload.transcript = fields.transcript
            info, created = await voices.register(upload, fields.name)
            message = "The voice is registered." if created else "This recording was known already."
            return _answer(info, message, status=201 if created else 200)

        return await answer_upload(
            request, voices, FILE, work, check=partial(fields_of, RegisterFields)
        )

    @router.post("/voices/import", openapi_extra=form_schema(NoFields, file=FILE))
    async def import_voice(request: Request) -> Response:
        """An exported voice becomes a voice here."""

        async def work(_body: Body, upload: Upload) -> Response:
            info = await voices.work(lambda engine: engine.voices.import_(upload.read()))
            return _answer(info, "The voice is imported.")

        check = partial(fields_of, NoFields)
        return await answer_upload(request, voices, FILE, work, check=check, most_bytes=MAX_BYTES)

    @router.get("/voices/{voice_id}")
    async def get_voice(voice_id: str) -> Response:
        """One voice, by id, name or alias."""
        return JSONResponse((await voices.info(voice_id)).as_json())

    @router.delete("/voices/{voice_id}")
    async def delete_voice(voice_id: str) -> Response:
        """Forget a voice; what is being spoken with it goes on."""
        return _answer(await voices.delete(voice_id), "The voice is deleted.")

    @router.get("/voices/{voice_id}/export", **file_route("application/octet-stream"))
    async def export_voice(voice_id: str) -> Response:
        """The voice as one file, for import elsewhere."""
        info = await voices.info(voice_id)
        data = await voices.work(lambda engine: engine.voices.export(info.voice_id))
        headers = {"Content-Disposition": f'attachment; filename="{info.voice_id}.voice"'}
        return Response(data, media_type="application/octet-stream", headers=headers)

    @router.get("/voices/{voice_id}/recording", **file_route("audio/flac"))
    async def get_recording(voice_id: str) -> Response:
        """What the voice was made of: its recording as FLAC."""
        info = await voices.info(voice_id)
        flac = await voices.work(lambda engine: engine.voices.recording(info.voice_id))
        return Response(flac, media_type="audio/flac")

    _add_names(router, voices)
    return router


def _add_names(router: APIRouter, voices: VoiceService) -> None:
    @router.put("/voices/{voice_id}/name", openapi_extra=form_schema(NameFields))
    async def rename_voice(request: Request, voice_id: str) -> Response:
        """Give a voice another name; the old one is free again."""
        rename = voices.library.rename
        async with voices.read_body(request) as body:
            fields = fields_of(NameFields, body)
        return _answer(await voices.ask(rename, voice_id, fields.name), "The voice is renamed.")

    @router.put("/voices/{voice_id}/description", openapi_extra=form_schema(DescriptionFields))
    async def describe_voice(request: Request, voice_id: str) -> Response:
        """Note what a voice is like; the list shows it."""
        describe = voices.library.describe
        async with voices.read_body(request) as body:
            note = fields_of(DescriptionFields, body).description
        return _answer(await voices.ask(describe, voice_id, note), "The note is kept.")

    @router.put("/voices/{voice_id}/aliases/{alias}")
    async def add_alias(voice_id: str, alias: str) -> Response:
        """Let a voice answer to one more name."""
        await voices.info(voice_id)
        info = await voices.ask(voices.library.set_alias, voice_id, alias)
        return _answer(info, "The voice has the alias.")

    @router.delete("/voices/{voice_id}/aliases/{alias}")
    async def remove_alias(voice_id: str, alias: str) -> Response:
        """Take one of its further names from a voice."""
        owner = await voices.info(voice_id)
        if (await voices.info(alias)).voice_id != owner.voice_id:
            raise VoiceNotFound("The voice has no such alias.", param="alias")
        return _answer(await voices.ask(voices.library.remove_alias, alias), "The alias is gone.")


def _page(voices: list[VoiceInfo], fields: PageFields) -> tuple[list[VoiceInfo], bool]:
    """The voices asked for, and whether there are more behind them."""
    start = 0
    if fields.after is not None:
        ids = [info.voice_id for info in voices]
        if fields.after not in ids:
            raise VoiceNotFound(f"There is no voice {excerpt(fields.after)!r}.", param="after")
        start = ids.index(fields.after) + 1
    end = start + (fields.limit or MAX_PAGE)
    return voices[start:end], end < len(voices)


def _answer(info: VoiceInfo, message: str, *, status: int = 200) -> Response:
    """The answer to a change: `voice_id` and `message` first, then all that is known."""
    warnings = list(info.report.warnings) if info.report else []
    body = {"voice_id": info.voice_id, "message": message, "warnings": warnings, **info.as_json()}
    return JSONResponse(body, status_code=status)
