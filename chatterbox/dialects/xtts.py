"""The two XTTS servers' calls: xtts-api-server's and Coqui's own.

docs/reference/dialects.md, "XTTS". Coqui's clients keep a voice's "latents" themselves; here these
are the voice's id as a list of numbers. Voice names and errors are as in `sillytavern.py`.
"""

import base64
from dataclasses import replace
from functools import partial

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from chatterbox.arrays import F32
from chatterbox.audio.encode import audio_format
from chatterbox.dialects.shared.voice_names import ignored_of, languages_of, names_of
from chatterbox.dialects.sillytavern import error_shape, voice_for
from chatterbox.engine.speech_stream import SpeechReport, SpeechRequest
from chatterbox.errors import InvalidValue
from chatterbox.server.body import Body
from chatterbox.server.dialect import Dialect, Services
from chatterbox.server.multipart import Upload
from chatterbox.server.schemas import (
    SOUND_ROUTE,
    LenientCall,
    ModelName,
    Name,
    NoFields,
    SpokenCall,
    Text,
    form_schema,
    ignored_header,
    lenient_fields_of,
    query_schema,
)
from chatterbox.server.speech_response import SpeechPlan, SpeechResponse, whole_file
from chatterbox.server.voice_service import VoiceService, answer_upload

LATENTS = frozenset({"gpt_cond_latent", "speaker_embedding"})
FILE = "wav_file"
MAX_HANDLE = 64
"""An id has at most 63 characters."""


class SpeakerFields(SpokenCall):
    """xtts-api-server's call."""

    text: Text
    speaker_wav: Name | None = None
    language: Name | None = None


class LatentFields(LenientCall):
    """Coqui's call."""

    harmless = frozenset({"gpt_cond_latent", "stream_chunk_size"})

    text: Text
    speaker_embedding: list[float] = Field(max_length=MAX_HANDLE)
    model: ModelName | None = None
    language: Name | None = None
    add_wav_header: bool = True


def latents(voice_id: str) -> dict[str, list[float] | list[list[float]]]:
    """A voice as Coqui's clients keep it."""
    numbers = [float(byte) for byte in voice_id.encode("ascii")]
    return {"gpt_cond_latent": [numbers], "speaker_embedding": numbers}


def voice_in(numbers: list[float]) -> str:
    """The id in what `latents` gave. Raises InvalidValue for anything else."""
    if not numbers or not all(number.is_integer() and 32 < number < 127 for number in numbers):
        raise InvalidValue(
            "These numbers are not from this server; make them with POST /clone_speaker.",
            param="speaker_embedding",
        )
    return bytes(int(number) for number in numbers).decode("ascii")


def sniff(services: Services, body: Body) -> SpeechPlan | None:
    """Coqui's `POST /tts`: JSON with latents in, JSON text of base64 out."""
    if not body.typed or not LATENTS & body.fields.keys():
        return None
    return replace(plan_of_latents(services, body), whole=_as_text)


def _as_text(call: SpeechRequest, samples: F32, _report: SpeechReport) -> Response:
    text = base64.b64encode(call.format.encode_whole(samples)).decode("ascii")
    return JSONResponse(text, headers=ignored_header(call.ignored))


def plan_of_latents(services: Services, body: Body) -> SpeechPlan:
    """Coqui's call in our words."""
    fields, unknown = lenient_fields_of(LatentFields, body)
    ignored = ignored_of(services.voices, unknown, fields.language)
    form = audio_format("wav" if fields.add_wav_header else "pcm")
    voice = services.voices.library.info(voice_in(fields.speaker_embedding)).voice_id
    return SpeechPlan(
        services.call(fields.text, voice, form, silence_if_wordless=True, ignored=ignored)
    )


def plan_of_speaker(services: Services, body: Body) -> SpeechPlan:
    """xtts-api-server's call in our words."""
    fields, unknown = lenient_fields_of(SpeakerFields, body)
    ignored = ignored_of(services.voices, unknown, fields.language)
    voice = voice_for(services, fields.speaker_wav)
    form = audio_format("wav")
    return SpeechPlan(
        services.call(fields.text, voice, form, silence_if_wordless=True, ignored=ignored)
    )


def add_routes(routes: APIRouter, services: Services) -> None:
    _add_speech(routes, services)
    _add_speakers(routes, services.voices)


def _add_speech(routes: APIRouter, services: Services) -> None:
    @routes.post("/tts_to_audio/", openapi_extra=form_schema(SpeakerFields), **SOUND_ROUTE)
    @routes.post("/tts_to_audio", include_in_schema=False)
    async def to_audio(request: Request) -> Response:
        """xtts-api-server: the whole sound."""

        def read(body: Body) -> SpeechPlan:
            return replace(plan_of_speaker(services, body), whole=whole_file)

        return SpeechResponse(services.speech, request, read)

    @routes.get("/tts_stream", openapi_extra=query_schema(SpeakerFields), **SOUND_ROUTE)
    @routes.get("/tts_stream/", include_in_schema=False)
    async def stream_of_speaker(request: Request) -> Response:
        """xtts-api-server: the sound while it is made, with the call in the address."""
        read = partial(plan_of_speaker, services)
        return SpeechResponse(services.speech, request, read, from_query=True)

    @routes.post("/tts_stream", openapi_extra=form_schema(LatentFields), **SOUND_ROUTE)
    async def stream_of_latents(request: Request) -> Response:
        """Coqui: the sound while it is made, as WAV or bare PCM."""
        return SpeechResponse(services.speech, request, partial(plan_of_latents, services))


def _add_speakers(routes: APIRouter, voices: VoiceService) -> None:
    @routes.get("/speakers")
    async def speakers() -> Response:
        """xtts-api-server: all voices."""
        return await voices.list_answer(
            "xtts speakers",
            lambda infos: [
                {"name": name, "voice_id": info.voice_id, "preview_url": ""}
                for info in infos
                for name in info.names
            ],
        )

    @routes.get("/speakers_list")
    async def speaker_names() -> Response:
        """xtts-api-server: their names."""
        return await voices.list_answer("names", names_of)

    @routes.get("/languages")
    async def languages() -> Response:
        """xtts-api-server: what the model speaks."""
        return JSONResponse({"languages": {n: c for c, n in languages_of(voices).items()}})

    @routes.post("/set_tts_settings", openapi_extra=form_schema(LenientCall))
    async def settings(request: Request) -> Response:
        """xtts-api-server: taken in and ignored; one listener does not set another's sound."""
        async with voices.read_body(request) as body:
            ignored = ignored_header(body.fields)
        return JSONResponse({"message": "Settings are the server's own here."}, headers=ignored)

    @routes.get("/studio_speakers")
    async def studio() -> Response:
        """Coqui: all voices, as latents."""
        return await voices.list_answer(
            "xtts latents",
            lambda infos: {n: latents(info.voice_id) for info in infos for n in info.names},
        )

    @routes.post("/clone_speaker", openapi_extra=form_schema(NoFields, file=FILE))
    async def clone(request: Request) -> Response:
        """Coqui: a recording becomes a voice, and the voice numbers to keep."""

        async def work(_body: Body, upload: Upload) -> Response:
            info, _ = await voices.register(upload, None)
            return JSONResponse(latents(info.voice_id))

        return await answer_upload(request, voices, FILE, work)


DIALECT = Dialect(
    add_routes,
    tag="xtts",
    paths=(
        "/speakers",
        "/speakers_list",
        "/languages",
        "/tts_to_audio",
        "/tts_stream",
        "/set_tts_settings",
        "/clone_speaker",
        "/studio_speakers",
    ),
    error_shape=error_shape,
    sniff=sniff,
)
