"""OpenAI's `/v1/audio/voices` and `/v1/audio/voice_consents`: create, list and delete voices.

docs/reference/dialects.md, "OpenAI". Consents are stored and listed, but not checked.
"""

from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from chatterbox.dialects.shared.voice_names import all_names, ignored_fields
from chatterbox.errors import InvalidValue
from chatterbox.server.auth import current_key
from chatterbox.server.body import Body
from chatterbox.server.dialect import Services
from chatterbox.server.multipart import Upload
from chatterbox.server.schemas import (
    LenientFields,
    Name,
    form_schema,
    ignored_header,
    parse_lenient_fields,
    query_schema,
)
from chatterbox.server.voice_service import VoiceService, answer_upload
from chatterbox.voices.consents import Consent, ConsentBook
from chatterbox.voices.names import VoiceInfo

SAMPLE, RECORDING, FILE = "audio_sample", "recording", "voice_file"
PAGE, MAX_PAGE = 20, 100
"""Default and largest `limit` of OpenAI, in consents per answer."""


class VoiceFields(LenientFields):
    name: Name | None = None
    consent: Name | None = None
    type: Literal["audio_sample", "prompt"] = "audio_sample"


class TravisvnVoiceFields(LenientFields):
    voice_name: Name
    language: Name | None = None


class ConsentFields(LenientFields):
    name: Name
    language: Name = "en-US"


class RenameFields(LenientFields):
    name: Name


class PageFields(LenientFields):
    after: Name | None = None
    limit: int = Field(PAGE, ge=1, le=MAX_PAGE)


def voice_body(info: VoiceInfo) -> dict[str, Any]:
    """Return OpenAI's JSON for a voice."""
    return {
        "object": "audio.voice",
        "id": info.voice_id,
        "name": info.name,
        "created_at": int(info.created_at),
        "type": "audio_sample",
    }


def voice_list(infos: list[VoiceInfo], *, names_only: bool) -> dict[str, Any]:
    """Return the list of voices. OpenAI's API has no such call, and clients expect different
    answers: Marinara and mlx-audio read `data`, Open WebUI reads `voices` as objects, and
    llama-swap reads `voices` as names."""
    voices = [
        {"id": info.voice_id if name == info.name else name, "name": name}
        for info in infos
        for name in info.names
    ]
    return {
        "object": "list",
        "voices": all_names(infos) if names_only else voices,
        "data": [voice_body(info) for info in infos],
    }


def consent_body(consent: Consent) -> dict[str, Any]:
    """Return OpenAI's JSON for a consent."""
    return {
        "object": "audio.voice_consent",
        "id": consent.id,
        "name": consent.name,
        "language": consent.language,
        "created_at": consent.created_at,
    }


def add_routes(routes: APIRouter, services: Services) -> None:
    book = ConsentBook(services.engine.voice_store)
    _add_voices(routes, services.voices, book)
    _add_consents(routes, services.voices, book)
    _add_library(routes, services.voices)


def _add_voices(routes: APIRouter, voices: VoiceService, book: ConsentBook) -> None:
    @routes.get("/v1/audio/voices")
    async def list_voices(request: Request) -> Response:
        """All voices. With `format=names` or `model` (llama-swap), `voices` lists names."""
        query = request.query_params
        names_only = query.get("format", "names" if "model" in query else "objects") == "names"
        kind = f"openai, names only: {names_only}"
        return await voices.list_response(kind, partial(voice_list, names_only=names_only))

    @routes.post("/v1/audio/voices", openapi_extra=form_schema(VoiceFields, file=SAMPLE))
    async def create_voice(request: Request) -> Response:
        """OpenAI: register a recording as a voice."""

        async def work(body: Body, upload: Upload) -> Response:
            fields, unknown = parse_lenient_fields(VoiceFields, body)
            is_known = fields.consent is None or await voices.run(book.exists, fields.consent)
            info, _ = await voices.register(upload, fields.name)
            ignored = unknown if is_known else ("consent", *unknown)
            return JSONResponse(voice_body(info), headers=ignored_header(ignored))

        def check(body: Body) -> None:
            if parse_lenient_fields(VoiceFields, body)[0].type == "prompt":
                raise InvalidValue(
                    "Voices are made from recordings here; send `type=audio_sample`.", param="type"
                )

        return await answer_upload(request, voices, SAMPLE, work, check=check)

    @routes.get("/v1/audio/voices/{voice_id}")
    async def get_voice(voice_id: str) -> Response:
        """OpenAI: one voice."""
        return JSONResponse(voice_body(await voices.info(voice_id)))

    @routes.delete("/v1/audio/voices/{voice_id}")
    async def delete_voice(voice_id: str) -> Response:
        """OpenAI: delete a voice."""
        info = await voices.delete(voice_id)
        body = {"id": info.voice_id, "object": "audio.voice.deleted", "deleted": True}
        return JSONResponse(body)


def _add_library(routes: APIRouter, voices: VoiceService) -> None:
    @routes.post("/v1/voices", openapi_extra=form_schema(TravisvnVoiceFields, file=FILE))
    @routes.post("/voices", include_in_schema=False)
    async def upload_voice(request: Request) -> Response:
        """travisvn's Chatterbox API: register a recording as a voice."""

        async def work(form: Body, upload: Upload) -> Response:
            fields, unknown = parse_lenient_fields(TravisvnVoiceFields, form)
            info, _ = await voices.register(upload, fields.voice_name)
            voice = {
                "id": info.voice_id,
                "name": info.spelling_of(fields.voice_name),
                "filename": upload.filename,
                "file_size": upload.size,
                "upload_date": datetime.fromtimestamp(info.created_at, UTC).isoformat(),
                "language": voices.languages[0],
            }
            body = {"message": "Voice uploaded successfully", "voice": voice}
            headers = ignored_header(ignored_fields(voices, unknown, fields.language))
            return JSONResponse(body, status_code=201, headers=headers)

        return await answer_upload(
            request,
            voices,
            FILE,
            work,
            check=lambda body: parse_lenient_fields(TravisvnVoiceFields, body),
        )


def _add_consents(routes: APIRouter, voices: VoiceService, book: ConsentBook) -> None:
    base = "/v1/audio/voice_consents"

    @routes.post(base, openapi_extra=form_schema(ConsentFields, file=RECORDING))
    async def create_consent(request: Request) -> Response:
        """OpenAI: store a speaker's consent, with the SHA-256 of the recording."""

        async def work(body: Body, upload: Upload) -> Response:
            fields, unknown = parse_lenient_fields(ConsentFields, body)
            digest = await voices.run_on_engine(lambda _engine: upload.sha256())
            key = current_key.get()
            consent = await voices.run(book.add, fields.name, fields.language, digest, key)
            return JSONResponse(consent_body(consent), headers=ignored_header(unknown))

        return await answer_upload(request, voices, RECORDING, work)

    @routes.get(base, openapi_extra=query_schema(PageFields))
    async def list_consents(request: Request) -> Response:
        """OpenAI: the consents, newest first."""
        fields, _ = parse_lenient_fields(PageFields, Body(dict(request.query_params)))
        found, has_more = await voices.run(book.page, fields.after, fields.limit)
        body = {
            "object": "list",
            "data": [consent_body(consent) for consent in found],
            "first_id": found[0].id if found else None,
            "last_id": found[-1].id if found else None,
            "has_more": has_more,
        }
        return JSONResponse(body)

    @routes.get(base + "/{consent_id}")
    async def get_consent(consent_id: str) -> Response:
        """OpenAI: one consent."""
        return JSONResponse(consent_body(await voices.run(book.get, consent_id)))

    @routes.post(base + "/{consent_id}", openapi_extra=form_schema(RenameFields))
    async def rename_consent(request: Request, consent_id: str) -> Response:
        """OpenAI: rename a consent."""
        async with voices.read_body(request) as body:
            fields, _ = parse_lenient_fields(RenameFields, body)
        renamed = await voices.run(book.rename, consent_id, fields.name)
        return JSONResponse(consent_body(renamed))

    @routes.delete(base + "/{consent_id}")
    async def delete_consent(consent_id: str) -> Response:
        """OpenAI: delete a consent."""
        await voices.run(book.delete, consent_id)
        body = {"id": consent_id, "object": "audio.voice_consent", "deleted": True}
        return JSONResponse(body)
