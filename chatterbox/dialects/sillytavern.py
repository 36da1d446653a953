"""Chatterbox-TTS-Server's calls, as SillyTavern's Chatterbox provider sends them.

docs/reference/dialects.md, "Chatterbox-TTS-Server and SillyTavern". Its JSON on `POST /tts` is
recognised by its fields.
"""

from dataclasses import replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from chatterbox.audio.encode import audio_format
from chatterbox.audio.shaping import FASTEST, SLOWEST
from chatterbox.dialects.shared.voice_names import ignored_of, names_of
from chatterbox.errors import ChatterboxError
from chatterbox.server.body import Body
from chatterbox.server.dialect import Dialect, Services
from chatterbox.server.multipart import Upload
from chatterbox.server.schemas import (
    SOUND_ROUTE,
    Name,
    NoFields,
    SamplingFields,
    Text,
    form_schema,
    ignored_header,
    lenient_fields_of,
    query_schema,
)
from chatterbox.server.speech_response import SpeechPlan, SpeechResponse, whole_file
from chatterbox.server.voice_service import answer_upload
from chatterbox.voices.names import VoiceInfo

MARKS = frozenset(
    {"voice_mode", "predefined_voice_id", "reference_audio_filename", "output_format"}
)
"""Any of these in a JSON body on `/tts`: it is theirs. No native field has one of the names."""
NOBODY = "S1"
"""What SillyTavern sends before a voice is chosen."""
FILES = "files"


class SpeechFields(SamplingFields):
    """What of their call means something here."""

    harmless = frozenset({"split_text", "chunk_size"})  # here the model's own limits decide

    text: Text
    voice_mode: Literal["predefined", "clone"] = "predefined"
    predefined_voice_id: Name | None = None
    reference_audio_filename: Name | None = None
    output_format: Literal["wav", "opus", "mp3"] = "wav"
    seed: int | None = Field(None, description="0 or less: drawn")
    speed_factor: float = Field(1.0, ge=SLOWEST, le=FASTEST, description="The pitch is kept")
    language: Name | None = None


def error_shape(error: ChatterboxError, _request_id: str) -> tuple[int, Any]:
    """`detail` is a text; SillyTavern shows the body as it is."""
    return error.status, {"detail": error.message}


def voice_for(services: Services, name: str | None) -> str | None:
    """Who is meant by a file's name, with or without its ending. Raises VoiceNotFound."""
    if name is None or name == NOBODY:
        return None
    return services.voice_id(name)


def plan_of(services: Services, body: Body) -> SpeechPlan:
    """Their call in our words."""
    fields, unknown = lenient_fields_of(SpeechFields, body)
    cloned = fields.voice_mode == "clone"
    name = fields.reference_audio_filename if cloned else fields.predefined_voice_id
    return SpeechPlan(
        services.call(
            fields.text,
            voice_for(services, name),
            audio_format(fields.output_format),
            sampling=fields,
            seed=fields.seed if fields.seed is not None and fields.seed > 0 else None,
            speed=fields.speed_factor,
            silence_if_wordless=True,
            ignored=ignored_of(services.voices, unknown, fields.language),
        )
    )


def sniff(services: Services, body: Body) -> SpeechPlan | None:
    """Reads `POST /tts` where it is theirs. They wait for the whole file, so it gets its length."""
    if not body.typed or not MARKS & body.fields.keys():
        return None
    return replace(plan_of(services, body), whole=whole_file)


def add_routes(routes: APIRouter, services: Services) -> None:
    voices = services.voices

    @routes.get("/tts-stream", openapi_extra=query_schema(SpeechFields), **SOUND_ROUTE)
    async def stream(request: Request) -> Response:
        """SillyTavern: the sound while it is made, with the call in the address."""
        return SpeechResponse(services.speech, request, partial(plan_of, services), from_query=True)

    @routes.get("/get_predefined_voices")
    async def predefined() -> Response:
        """SillyTavern: the voices that came with the server."""
        built_in = [info for info in await voices.listed() if info.built_in]
        return JSONResponse(
            [
                {"display_name": name, "filename": name if name != info.name else info.voice_id}
                for info in built_in
                for name in info.names
            ]
        )

    @routes.get("/get_reference_files")
    async def references() -> Response:
        """SillyTavern: the voices that were registered, by name."""
        return await voices.list_answer("registered names", _registered)

    @routes.post("/upload_reference", openapi_extra=form_schema(NoFields, file=FILES))
    async def upload(request: Request) -> Response:
        """Chatterbox-TTS-Server: a recording becomes a voice called like its file."""

        async def work(body: Body, file: Upload) -> Response:
            name = PurePosixPath(file.filename.replace("\\", "/")).stem
            info, _ = await voices.register(file, name or None)
            answer = {
                "message": "The voice is registered.",
                "uploaded_files": [info.called(name)],
                "all_reference_files": _registered(await voices.listed()),
                "errors": [],
            }
            again = [f"{name}[1:]" for name in body.repeated]
            return JSONResponse(answer, headers=ignored_header(again))

        return await answer_upload(request, voices, FILES, work, deterministic=True)


def _registered(voices: list[VoiceInfo]) -> list[str]:
    return names_of(info for info in voices if not info.built_in)


DIALECT = Dialect(
    add_routes,
    tag="chatterbox-tts-server",
    paths=("/tts-stream", "/get_predefined_voices", "/get_reference_files", "/upload_reference"),
    error_shape=error_shape,
    sniff=sniff,
)
