"""Native routes for voices: list, register, look up, rename, delete, export and import."""

from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from chatterbox.errors import VoiceNotFound, excerpt
from chatterbox.server.body import Body
from chatterbox.server.multipart import Upload
from chatterbox.server.schemas import (
    CallFields,
    LenientFields,
    Name,
    NoFields,
    Text,
    Transcript,
    file_route,
    form_schema,
    parse_fields,
    parse_lenient_fields,
    query_schema,
)
from chatterbox.server.voice_service import VoiceService, answer_upload
from chatterbox.voices.names import VoiceInfo
from chatterbox.voices.voice_file import MAX_BYTES

FILE = "voice_file"
MAX_PAGE = 1000


class PageFields(LenientFields):
    """Query of `/voices`: one page of the list; by default, the whole list."""

    after: Name | None = None
    limit: int | None = Field(None, ge=1, le=MAX_PAGE)


class RegisterFields(CallFields):
    """Fields of `/voices/register` beside `voice_file`."""

    name: Name | None = Field(None, description="Name for the voice")
    transcript: Transcript | None = Field(
        None, description="Words spoken in the recording, for models that need them"
    )


class NameFields(CallFields):
    """Fields of `/voices/{voice_id}/name`."""

    name: Name = Field(description="The new name")


class DescriptionFields(CallFields):
    """Fields of `/voices/{voice_id}/description`."""

    description: Text = Field(
        max_length=500, description="Note about the voice; empty to remove it"
    )


def voice_router(voices: VoiceService) -> APIRouter:
    router = APIRouter(tags=["voices"])

    @router.get("/voices", openapi_extra=query_schema(PageFields))
    async def list_voices(request: Request) -> Response:
        """List the built-in voices, then the others from oldest to newest. With `limit`, return one
        page, which begins after the voice with the id `after`."""
        fields, _ = parse_lenient_fields(PageFields, Body(dict(request.query_params)))

        def render(infos: list[VoiceInfo]) -> dict[str, Any]:
            bodies = [info.as_json() for info in infos]
            return {"voices": bodies, "default_voice": voices.default_voice}

        if fields.limit is None and fields.after is None:
            return await voices.list_response("native", render)
        page, has_more = _page(await voices.list_all(), fields)
        return JSONResponse(render(page) | {"has_more": has_more})

    @router.post("/voices/register", openapi_extra=form_schema(RegisterFields, file=FILE))
    async def register(request: Request) -> Response:
        """Make a voice from a recording. The same recording always has the same id; 201 if new."""

        async def work(body: Body, upload: Upload) -> Response:
            fields = parse_fields(RegisterFields, body)
            upload.transcript = fields.transcript
            info, is_new = await voices.register(upload, fields.name)
            message = "The voice is registered." if is_new else "The voice was already registered."
            return _response(info, message, status=201 if is_new else 200)

        return await answer_upload(
            request, voices, FILE, work, check=partial(parse_fields, RegisterFields)
        )

    @router.post("/voices/import", openapi_extra=form_schema(NoFields, file=FILE))
    async def import_voice(request: Request) -> Response:
        """Add a voice that another server has exported."""

        async def work(_body: Body, upload: Upload) -> Response:
            info = await voices.run_on_engine(lambda engine: engine.voices.import_(upload.read()))
            return _response(info, "The voice is imported.")

        check = partial(parse_fields, NoFields)
        return await answer_upload(request, voices, FILE, work, check=check, max_bytes=MAX_BYTES)

    @router.get("/voices/{voice_id}")
    async def get_voice(voice_id: str) -> Response:
        """Get one voice, by id, name or alias."""
        return JSONResponse((await voices.info(voice_id)).as_json())

    @router.delete("/voices/{voice_id}")
    async def delete_voice(voice_id: str) -> Response:
        """Delete a voice. Speech in progress with it continues."""
        return _response(await voices.delete(voice_id), "The voice is deleted.")

    @router.get("/voices/{voice_id}/export", **file_route("application/octet-stream"))
    async def export_voice(voice_id: str) -> Response:
        """Export a voice as one file, for import on another server."""
        info = await voices.info(voice_id)
        data = await voices.run_on_engine(lambda engine: engine.voices.export(info.voice_id))
        headers = {"Content-Disposition": f'attachment; filename="{info.voice_id}.voice"'}
        return Response(data, media_type="application/octet-stream", headers=headers)

    @router.get("/voices/{voice_id}/recording", **file_route("audio/flac"))
    async def get_recording(voice_id: str) -> Response:
        """Get the recording that the voice was made from, as FLAC."""
        info = await voices.info(voice_id)
        flac = await voices.run_on_engine(lambda engine: engine.voices.recording(info.voice_id))
        return Response(flac, media_type="audio/flac")

    _add_names(router, voices)
    return router


def _add_names(router: APIRouter, voices: VoiceService) -> None:
    @router.put("/voices/{voice_id}/name", openapi_extra=form_schema(NameFields))
    async def rename_voice(request: Request, voice_id: str) -> Response:
        """Rename a voice. Its old name becomes free."""
        rename = voices.library.rename
        async with voices.read_body(request) as body:
            fields = parse_fields(NameFields, body)
        return _response(await voices.run(rename, voice_id, fields.name), "The voice is renamed.")

    @router.put("/voices/{voice_id}/description", openapi_extra=form_schema(DescriptionFields))
    async def describe_voice(request: Request, voice_id: str) -> Response:
        """Set a voice's description, which the list shows."""
        describe = voices.library.describe
        async with voices.read_body(request) as body:
            note = parse_fields(DescriptionFields, body).description
        return _response(await voices.run(describe, voice_id, note), "The description is set.")

    @router.put("/voices/{voice_id}/aliases/{alias}")
    async def add_alias(voice_id: str, alias: str) -> Response:
        """Add an alias to a voice, which can then be used like its name."""
        await voices.info(voice_id)
        info = await voices.run(voices.library.set_alias, voice_id, alias)
        return _response(info, "The alias is added.")

    @router.delete("/voices/{voice_id}/aliases/{alias}")
    async def remove_alias(voice_id: str, alias: str) -> Response:
        """Remove an alias from a voice."""
        owner = await voices.info(voice_id)
        if (await voices.info(alias)).voice_id != owner.voice_id:
            raise VoiceNotFound("The voice has no such alias.", param="alias")
        return _response(
            await voices.run(voices.library.remove_alias, alias), "The alias is removed."
        )


def _page(voices: list[VoiceInfo], fields: PageFields) -> tuple[list[VoiceInfo], bool]:
    """Return the requested voices, and whether more follow."""
    start = 0
    if fields.after is not None:
        ids = [info.voice_id for info in voices]
        if fields.after not in ids:
            raise VoiceNotFound(f"There is no voice {excerpt(fields.after)!r}.", param="after")
        start = ids.index(fields.after) + 1
    end = start + (fields.limit or MAX_PAGE)
    return voices[start:end], end < len(voices)


def _response(info: VoiceInfo, message: str, *, status: int = 200) -> Response:
    """Return the response to a change: `voice_id` and `message` first, then all facts."""
    warnings = list(info.report.warnings) if info.report else []
    body = {"voice_id": info.voice_id, "message": message, "warnings": warnings, **info.as_json()}
    return JSONResponse(body, status_code=status)
