"""The servers that SillyTavern speaks to, Chatterbox-TTS-Server and xtts-api-server; and Coqui's.

docs/reference/dialects.md, "Chatterbox-TTS-Server and SillyTavern" and "XTTS". JSON of the first
and the last on `POST /tts` is recognised by its fields. Coqui's clients keep a voice's "latents"
themselves; here these are the voice's id as a list of numbers.
"""

import base64
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from chatterbox.arrays import F32
from chatterbox.audio.encode import audio_format
from chatterbox.audio.shaping import FASTEST, SLOWEST
from chatterbox.dialects.shared.voice_names import ignored_of, languages_of, names_of
from chatterbox.engine.speech_stream import SpeechReport, SpeechRequest
from chatterbox.errors import ChatterboxError, InvalidValue
from chatterbox.server.body import Body
from chatterbox.server.dialect import Dialect, Services
from chatterbox.server.multipart import Upload
from chatterbox.server.schemas import (
    SOUND_ROUTE,
    LenientCall,
    ModelName,
    Name,
    NoFields,
    SamplingFields,
    SpokenCall,
    Text,
    form_schema,
    ignored_header,
    lenient_fields_of,
    query_schema,
)
from chatterbox.server.speech_response import (
    ResponseBuilder,
    SpeechPlan,
    SpeechResponse,
    file_response,
)
from chatterbox.server.voice_service import VoiceService, answer_upload
from chatterbox.voices.names import VoiceInfo

MARKS = {"voice_mode", "predefined_voice_id", "reference_audio_filename", "output_format"}
"""Any of these in a JSON body on `/tts`: it is for Chatterbox-TTS-Server. No native field has one
of the names."""
NOBODY = "S1"
"""What SillyTavern sends before a voice is chosen."""
FILES = "files"
LATENTS = {"gpt_cond_latent", "speaker_embedding"}
XTTS_FILE = "wav_file"


class SpeechFields(SamplingFields):
    """Chatterbox-TTS-Server's call, so far as it means something here."""

    harmless = frozenset({"split_text", "chunk_size"})  # here the model's own limits decide

    text: Text
    voice_mode: Literal["predefined", "clone"] = "predefined"
    predefined_voice_id: Name | None = None
    reference_audio_filename: Name | None = None
    output_format: Literal["wav", "opus", "mp3"] = "wav"
    seed: int | None = Field(None, description="0 or less: drawn")
    speed_factor: float = Field(1.0, ge=SLOWEST, le=FASTEST, description="The pitch is kept")
    language: Name | None = None


class SpeakerFields(SpokenCall):
    """xtts-api-server's call."""

    text: Text
    speaker_wav: Name | None = None
    language: Name | None = None


class LatentFields(LenientCall):
    """Coqui's call."""

    harmless = frozenset({"gpt_cond_latent", "stream_chunk_size"})

    text: Text
    speaker_embedding: list[float] = Field(max_length=64)  # an id has at most 63
    model: ModelName | None = None
    language: Name | None = None
    add_wav_header: bool = True


def error_shape(error: ChatterboxError, _request_id: str) -> tuple[int, Any]:
    """`detail` is a text; SillyTavern shows the body as it is."""
    return error.status, {"detail": error.message}


def voice_for(services: Services, name: str | None) -> str | None:
    """Who is meant by a file's name, with or without its ending. Raises VoiceNotFound."""
    if name is None or name == NOBODY:
        return None
    return services.voices.resolve(name)


def plan_of(services: Services, body: Body, build: ResponseBuilder | None = None) -> SpeechPlan:
    """Chatterbox-TTS-Server's call in our words."""
    fields, unknown = lenient_fields_of(SpeechFields, body)
    cloned = fields.voice_mode == "clone"
    name = fields.reference_audio_filename if cloned else fields.predefined_voice_id
    return SpeechPlan(
        services.speech.build_request(
            fields.text,
            voice_for(services, name),
            audio_format(fields.output_format),
            sampling=fields,
            seed=fields.seed if fields.seed is not None and fields.seed > 0 else None,
            speed=fields.speed_factor,
            silence_if_wordless=True,
            ignored=ignored_of(services.voices, unknown, fields.language),
        ),
        build=build,
    )


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


def _as_text(call: SpeechRequest, samples: F32, _report: SpeechReport) -> Response:
    text = base64.b64encode(call.format.encode_whole(samples)).decode("ascii")
    return JSONResponse(text, headers=ignored_header(call.ignored))


def plan_of_latents(
    services: Services, body: Body, build: ResponseBuilder | None = None
) -> SpeechPlan:
    """Coqui's call in our words."""
    fields, unknown = lenient_fields_of(LatentFields, body)
    ignored = ignored_of(services.voices, unknown, fields.language)
    form = audio_format("wav" if fields.add_wav_header else "pcm")
    voice = services.voices.library.info(voice_in(fields.speaker_embedding)).voice_id
    call = services.speech.build_request(
        fields.text, voice, form, silence_if_wordless=True, ignored=ignored
    )
    return SpeechPlan(call, build=build)


def plan_of_speaker(
    services: Services, body: Body, build: ResponseBuilder | None = None
) -> SpeechPlan:
    """xtts-api-server's call in our words."""
    fields, unknown = lenient_fields_of(SpeakerFields, body)
    ignored = ignored_of(services.voices, unknown, fields.language)
    voice, form = voice_for(services, fields.speaker_wav), audio_format("wav")
    call = services.speech.build_request(
        fields.text, voice, form, silence_if_wordless=True, ignored=ignored
    )
    return SpeechPlan(call, build=build)


def sniff(services: Services, body: Body) -> SpeechPlan | None:
    """JSON on `POST /tts`. Chatterbox-TTS-Server's clients wait for the whole file, so it gets its
    length; Coqui's read JSON text of base64."""
    if body.typed and MARKS & body.fields.keys():
        return plan_of(services, body, file_response)
    if body.typed and LATENTS & body.fields.keys():
        return plan_of_latents(services, body, _as_text)
    return None


def add_tavern(routes: APIRouter, services: Services) -> None:
    voices = services.voices

    @routes.get("/tts-stream", openapi_extra=query_schema(SpeechFields), **SOUND_ROUTE)
    async def stream(request: Request) -> Response:
        """SillyTavern: the sound while it is made, with the call in the address."""
        return SpeechResponse(services.speech, request, partial(plan_of, services), from_query=True)

    @routes.get("/get_predefined_voices")
    async def predefined() -> Response:
        """SillyTavern: the voices that came with the server."""
        return JSONResponse(
            [
                {"display_name": name, "filename": name if name != info.name else info.voice_id}
                for info in await voices.listed()
                if info.built_in
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
                "uploaded_files": [info.spelling_of(name)],
                "all_reference_files": _registered(await voices.listed()),
                "errors": [],
            }
            again = [f"{name}[1:]" for name in body.repeated]
            return JSONResponse(answer, headers=ignored_header(again))

        return await answer_upload(request, voices, FILES, work, deterministic=True)


def _registered(voices: list[VoiceInfo]) -> list[str]:
    return names_of(info for info in voices if not info.built_in)


def add_xtts(routes: APIRouter, services: Services) -> None:
    _add_speech(routes, services)
    _add_speakers(routes, services.voices)


def _add_speech(routes: APIRouter, services: Services) -> None:
    @routes.post("/tts_to_audio/", openapi_extra=form_schema(SpeakerFields), **SOUND_ROUTE)
    @routes.post("/tts_to_audio", include_in_schema=False)
    async def to_audio(request: Request) -> Response:
        """xtts-api-server: the whole sound."""
        read = partial(plan_of_speaker, services, build=file_response)
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

    @routes.post("/clone_speaker", openapi_extra=form_schema(NoFields, file=XTTS_FILE))
    async def clone(request: Request) -> Response:
        """Coqui: a recording becomes a voice, and the voice numbers to keep."""

        async def work(_body: Body, upload: Upload) -> Response:
            info, _ = await voices.register(upload, None)
            return JSONResponse(latents(info.voice_id))

        return await answer_upload(request, voices, XTTS_FILE, work)


TAVERN = Dialect(
    add_tavern,
    tag="chatterbox-tts-server",
    paths=("/tts-stream", "/get_predefined_voices", "/get_reference_files", "/upload_reference"),
    error_shape=error_shape,
    sniff=sniff,
)
XTTS = Dialect(
    add_xtts,
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
)
