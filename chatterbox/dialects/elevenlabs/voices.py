"""ElevenLabs' `/v1/voices`, `/v2/voices` and `/v1/user`: list, create, change and delete voices.

docs/reference/dialects.md, "ElevenLabs over HTTP". Settings and quotas are constants, because
the model has no such settings and the server no quotas.
"""

from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from chatterbox.dialects.elevenlabs.http import FIXED
from chatterbox.dialects.shared.voice_names import ELEVENLABS_VOICES, find_voice
from chatterbox.server.body import Body, BodyLimits
from chatterbox.server.dialect import Services
from chatterbox.server.multipart import FileField, Upload
from chatterbox.server.schemas import (
    LenientFields,
    Name,
    form_schema,
    ignored_header,
    parse_lenient_fields,
    query_schema,
)
from chatterbox.server.voice_service import FIELDS_BYTES, VoiceService, answer_upload
from chatterbox.voices.names import VoiceInfo

FILES = "files"
PAGE, MAX_PAGE = 10, 100
"""Default and largest `page_size` of ElevenLabs."""
SETTINGS = FIXED["settings"]
"""ElevenLabs' defaults, which some clients require."""


class VoiceFields(LenientFields):
    name: Name


class SearchFields(LenientFields):
    search: Name = ""
    page_size: int = Field(PAGE, ge=1, le=MAX_PAGE)
    next_page_token: int = Field(0, ge=0)  # index of the page's first voice
    category: Name = ""
    voice_type: Name = ""
    sort: Literal["created_at_unix", "name"] = "created_at_unix"
    sort_direction: Literal["asc", "desc"] = "asc"


def voice_body(info: VoiceInfo) -> dict[str, Any]:
    """Return ElevenLabs' JSON for a voice."""
    return FIXED["voice"] | {
        "voice_id": info.voice_id,
        "name": info.name,
        "category": "premade" if info.built_in else "cloned",
        "description": f"Also called {', '.join(info.aliases)}" if info.aliases else None,
        "is_owner": not info.built_in,
        "created_at_unix": int(info.created_at),
    }


def add_routes(routes: APIRouter, services: Services) -> None:
    _add_lists(routes, services)
    _add_changes(routes, services.voices)
    _add_user(routes, services)


def _add_lists(routes: APIRouter, services: Services) -> None:
    voices = services.voices

    async def find_info(name: str) -> VoiceInfo:
        voice_id = await find_voice(services, name, ELEVENLABS_VOICES)
        return await voices.info(voice_id or voices.default_voice)

    @routes.get("/v1/voices")
    async def list_voices() -> Response:
        """ElevenLabs: all voices."""
        return await voices.list_response(
            "elevenlabs", lambda infos: {"voices": [voice_body(info) for info in infos]}
        )

    @routes.get("/v2/voices", openapi_extra=query_schema(SearchFields))
    async def search_voices(request: Request) -> Response:
        """ElevenLabs: search voices by name, alias, id and category, page by page."""
        fields, unknown = parse_lenient_fields(SearchFields, Body(dict(request.query_params)))
        found = await voices.run(_search, await voices.list_all(), fields)
        start = fields.next_page_token
        page = found[start : start + fields.page_size]
        has_more = start + len(page) < len(found)
        body = {
            "voices": [voice_body(info) for info in page],
            "has_more": has_more,
            "total_count": len(found),
            "next_page_token": str(start + len(page)) if has_more else None,
        }
        # label filters are reported as ignored (voices have no labels); `include_…` filters nothing
        filters = [name for name in unknown if not name.startswith("include_")]
        return JSONResponse(body, headers=ignored_header(filters))

    @routes.get("/v1/voices/settings/default")
    async def default_settings() -> Response:
        """ElevenLabs: the default settings. They have no effect here."""
        return JSONResponse(SETTINGS)

    @routes.get("/v1/voices/{voice_id}")
    async def get_voice(voice_id: str) -> Response:
        """ElevenLabs: one voice."""
        return JSONResponse({**voice_body(await find_info(voice_id)), "settings": SETTINGS})

    @routes.get("/v1/voices/{voice_id}/settings")
    async def get_settings(voice_id: str) -> Response:
        """ElevenLabs: a voice's settings, the same for every voice. They have no effect here."""
        await find_info(voice_id)
        return JSONResponse(SETTINGS)


def _add_changes(routes: APIRouter, voices: VoiceService) -> None:
    @routes.post("/v1/voices/add", openapi_extra=form_schema(VoiceFields, file=FILES))
    async def add_voice(request: Request) -> Response:
        """ElevenLabs: register a recording as a voice. If there are several, the first is used."""

        async def work(body: Body, upload: Upload) -> Response:
            fields, unknown = parse_lenient_fields(VoiceFields, body)
            info, _ = await voices.register(upload, fields.name)
            answer = {"voice_id": info.voice_id, "requires_verification": False}
            return JSONResponse(answer, headers=ignored_header(_ignored(body, unknown)))

        return await answer_upload(request, voices, FILES, work, allow_repeated=True)

    @routes.post("/v1/voices/{voice_id}/edit", openapi_extra=form_schema(VoiceFields))
    async def edit_voice(request: Request, voice_id: str) -> Response:
        """ElevenLabs: rename a voice."""
        rename = voices.library.rename
        recordings = FileField("", voices.max_bytes)  # dropped: a voice keeps its recording
        async with voices.read_body(request, BodyLimits(FIELDS_BYTES, recordings)) as body:
            fields, unknown = parse_lenient_fields(VoiceFields, body)
            ignored = (*_ignored(body, unknown), *body.other_files)
        if (await voices.info(voice_id)).name != fields.name:
            await voices.run(rename, voice_id, fields.name)
        return JSONResponse({"status": "ok"}, headers=ignored_header(ignored))

    @routes.post("/v1/voices/{voice_id}/settings/edit", openapi_extra=form_schema(LenientFields))
    async def edit_settings(request: Request, voice_id: str) -> Response:
        """ElevenLabs: accepted and ignored; the model has no such settings."""
        async with voices.read_body(request) as body:
            ignored = tuple(body.fields)
        await voices.info(voice_id)
        return JSONResponse({"status": "ok"}, headers=ignored_header(ignored))

    @routes.delete("/v1/voices/{voice_id}")
    async def delete_voice(voice_id: str) -> Response:
        """ElevenLabs: delete a voice."""
        await voices.delete(voice_id)
        return JSONResponse({"status": "ok"})


def _add_user(routes: APIRouter, services: Services) -> None:
    async def subscription() -> dict[str, Any]:
        owned = [info for info in await services.voices.list_all() if not info.built_in]
        return FIXED["subscription"] | {"voice_slots_used": len(owned)}

    @routes.get("/v1/user/subscription")
    async def get_subscription() -> Response:
        """ElevenLabs: the subscription, with constant quotas that are not counted."""
        return JSONResponse(await subscription())

    @routes.get("/v1/user")
    async def get_user() -> Response:
        """ElevenLabs: the user, for clients that test their key."""
        return JSONResponse(FIXED["user"] | {"subscription": await subscription()})


def _search(voices: list[VoiceInfo], fields: SearchFields) -> list[VoiceInfo]:
    """Filter and sort `voices`, which are listed from old to new."""
    found = [info for info in voices if _matches(info, fields)]
    if fields.sort == "name":
        found.sort(key=lambda info: info.name.casefold())
    return found[::-1] if fields.sort_direction == "desc" else found


def _matches(info: VoiceInfo, fields: SearchFields) -> bool:
    category = "premade" if info.built_in else "cloned"
    kinds = {"default"} if info.built_in else {"personal", "non-default", "non-community", "saved"}
    text = " ".join((info.voice_id, *info.names, category)).casefold()
    return (
        all(word in text for word in fields.search.casefold().split())
        and fields.category in ("", category)
        and (not fields.voice_type or fields.voice_type in kinds)
    )


def _ignored(body: Body, unknown: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of ignored fields and of recordings after the first. ElevenLabs' SDK sends
    `null` for missing labels, so fields with that value are left out."""
    fields = tuple(name for name in unknown if body.fields[name] not in ("null", "false"))
    return (*fields, *(f"{name}[1:]" for name in body.repeated))
