"""APIs of Chatterbox-TTS-Server and xtts-api-server, which SillyTavern calls, and of Coqui.

docs/reference/dialects.md, "Chatterbox-TTS-Server and SillyTavern" and "XTTS". `POST /tts` is also
a native call; calls for Chatterbox-TTS-Server and Coqui are recognized by the fields of their JSON.
Coqui's clients store a voice's "latents"; here these are the voice's id as a list of numbers.
"""

import base64
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from chatterbox.arrays import F32
from chatterbox.audio.encode import audio_format
from chatterbox.audio.shaping import FASTEST, SLOWEST
from chatterbox.dialects.shared.voice_names import all_names, ignored_fields, spoken_languages
from chatterbox.engine.speech_stream import SpeechReport, SpeechRequest
from chatterbox.errors import ChatterboxError, InvalidValue
from chatterbox.server.body import Body
from chatterbox.server.dialect import Dialect, Services
from chatterbox.server.multipart import Upload
from chatterbox.server.schemas import (
    SOUND_ROUTE,
    LenientFields,
    LenientSpeechFields,
    ModelName,
    Name,
    NoFields,
    SamplingFields,
    Text,
    form_schema,
    ignored_header,
    parse_lenient_fields,
    query_schema,
)
from chatterbox.server.speech_response import (
    ResponseBuilder,
    SpeechPlan,
    SpeechResponse,
    file_response,
)
from chatterbox.server.voice_service import answer_upload
from chatterbox.voices.names import VoiceInfo

TTS_SERVER_FIELDS = {
    *("voice_mode", "predefined_voice_id", "reference_audio_filename", "output_format")
}
COQUI_FIELDS = {"gpt_cond_latent", "speaker_embedding"}
"""JSON fields that identify a call of `POST /tts` for Chatterbox-TTS-Server or Coqui. Native calls
have none of them."""
PLACEHOLDER_VOICE = "S1"
"""Voice that SillyTavern sends until the user chooses one; answered with the default voice."""
WAV, PCM = audio_format("wav"), audio_format("pcm")
FILES = "files"
XTTS_FILE = "wav_file"


class SpeechFields(SamplingFields):
    """Chatterbox-TTS-Server's fields."""

    harmless = frozenset({"split_text", "chunk_size"})  # the model's own limits apply

    text: Text
    voice_mode: Literal["predefined", "clone"] = "predefined"
    predefined_voice_id: Name | None = None
    reference_audio_filename: Name | None = None
    output_format: Literal["wav", "opus", "mp3"] = "wav"
    seed: int | None = Field(None, description="Random if 0 or less, or by default")
    speed_factor: float = Field(1.0, ge=SLOWEST, le=FASTEST, description="Tempo; same pitch")
    language: Name | None = None


class XttsFields(LenientSpeechFields):
    text: Text
    speaker_wav: Name | None = None
    language: Name | None = None


class CoquiFields(LenientFields):
    harmless = frozenset({"gpt_cond_latent", "stream_chunk_size"})

    text: Text
    speaker_embedding: list[float] = Field(max_length=64)  # an id has at most 63
    model: ModelName | None = None
    language: Name | None = None
    add_wav_header: bool = True


def error_shape(error: ChatterboxError, _request_id: str) -> tuple[int, Any]:
    """Return `detail` as a string, since SillyTavern shows the body unchanged."""
    return error.status, {"detail": error.message}


def latents(voice_id: str) -> dict[str, list[float] | list[list[float]]]:
    """Return the latents that Coqui's clients store for a voice: its id as ASCII codes."""
    numbers = [float(byte) for byte in voice_id.encode("ascii")]
    return {"gpt_cond_latent": [numbers], "speaker_embedding": numbers}


def _decode_voice_id(numbers: list[float]) -> str:
    """Return the voice id that `latents` encoded. Raises InvalidValue."""
    if not numbers or not all(number.is_integer() and 32 < number < 127 for number in numbers):
        raise InvalidValue(
            "These numbers are not from this server; make them with POST /clone_speaker.",
            param="speaker_embedding",
        )
    return bytes(map(int, numbers)).decode("ascii")


def _find_voice(services: Services, name: str | None) -> str | None:
    """Return the id of a voice; its name may have a file extension. Raises VoiceNotFound."""
    return None if name in (None, PLACEHOLDER_VOICE) else services.voices.resolve(name)


def _read_tts_server(services: Services, body: Body) -> SpeechRequest:
    fields, unknown = parse_lenient_fields(SpeechFields, body)
    is_clone = fields.voice_mode == "clone"
    name = fields.reference_audio_filename if is_clone else fields.predefined_voice_id
    return services.speech.build_request(
        fields.text,
        _find_voice(services, name),
        audio_format(fields.output_format),
        sampling=fields,
        seed=fields.seed if fields.seed and fields.seed > 0 else None,
        speed=fields.speed_factor,
        silence_if_wordless=True,
        ignored=ignored_fields(services.voices, unknown, fields.language),
    )


def _read_xtts(services: Services, body: Body) -> SpeechRequest:
    fields, unknown = parse_lenient_fields(XttsFields, body)
    return services.speech.build_request(
        fields.text,
        _find_voice(services, fields.speaker_wav),
        WAV,
        silence_if_wordless=True,
        ignored=ignored_fields(services.voices, unknown, fields.language),
    )


def _read_coqui(services: Services, body: Body) -> SpeechRequest:
    fields, unknown = parse_lenient_fields(CoquiFields, body)
    voice_id = _decode_voice_id(fields.speaker_embedding)
    return services.speech.build_request(
        fields.text,
        services.voices.library.info(voice_id).voice_id,
        WAV if fields.add_wav_header else PCM,
        silence_if_wordless=True,
        ignored=ignored_fields(services.voices, unknown, fields.language),
    )


def _base64_text(call: SpeechRequest, samples: F32, _report: SpeechReport) -> Response:
    """Build the answer with the file in base64 as a JSON string."""
    text = base64.b64encode(call.format.encode_whole(samples)).decode("ascii")
    return JSONResponse(text, headers=ignored_header(call.ignored))


def read_tts_json(services: Services, body: Body) -> SpeechPlan | None:
    """Read JSON on `POST /tts`. Chatterbox-TTS-Server's clients expect a whole file with its true
    length, Coqui's expect base64. Returns None for a native call."""
    if body.typed and TTS_SERVER_FIELDS & body.fields.keys():
        return SpeechPlan(_read_tts_server(services, body), build=file_response)
    if body.typed and COQUI_FIELDS & body.fields.keys():
        return SpeechPlan(_read_coqui(services, body), build=_base64_text)
    return None


def _answer(
    services: Services,
    request: Request,
    read: Callable[[Services, Body], SpeechRequest],
    build: ResponseBuilder | None = None,
) -> Response:
    return SpeechResponse(
        services.speech, request, lambda body: SpeechPlan(read(services, body), build=build)
    )


def add_tavern(routes: APIRouter, services: Services) -> None:
    voices = services.voices

    @routes.get("/tts-stream", openapi_extra=query_schema(SpeechFields), **SOUND_ROUTE)
    async def stream(request: Request) -> Response:
        """SillyTavern: audio while it is made, with the fields in the address."""
        return _answer(services, request, _read_tts_server)

    @routes.get("/get_predefined_voices")
    async def predefined() -> Response:
        """SillyTavern: the built-in voices."""
        return JSONResponse(
            [
                {"display_name": name, "filename": name if name != info.name else info.voice_id}
                for info in await voices.list_all()
                if info.built_in
                for name in info.names
            ]
        )

    @routes.get("/get_reference_files")
    async def references() -> Response:
        """SillyTavern: the names of the registered voices."""
        return await voices.list_response("registered names", _registered_names)

    @routes.post("/upload_reference", openapi_extra=form_schema(NoFields, file=FILES))
    async def upload(request: Request) -> Response:
        """Chatterbox-TTS-Server: register a recording as a voice with the name of its file."""

        async def work(body: Body, file: Upload) -> Response:
            name = PurePosixPath(file.filename.replace("\\", "/")).stem
            info, _ = await voices.register(file, name or None)
            answer = {
                "message": "The voice is registered.",
                "uploaded_files": [info.spelling_of(name)],
                "all_reference_files": _registered_names(await voices.list_all()),
                "errors": [],
            }
            further_files = [f"{name}[1:]" for name in body.repeated]
            return JSONResponse(answer, headers=ignored_header(further_files))

        return await answer_upload(request, voices, FILES, work, allow_repeated=True)


def _registered_names(voices: list[VoiceInfo]) -> list[str]:
    return all_names(info for info in voices if not info.built_in)


def add_xtts(routes: APIRouter, services: Services) -> None:
    voices = services.voices

    @routes.post("/tts_to_audio/", openapi_extra=form_schema(XttsFields), **SOUND_ROUTE)
    @routes.post("/tts_to_audio", include_in_schema=False)
    async def to_audio(request: Request) -> Response:
        """xtts-api-server: the whole audio."""
        return _answer(services, request, _read_xtts, file_response)

    @routes.get("/tts_stream", openapi_extra=query_schema(XttsFields), **SOUND_ROUTE)
    @routes.get("/tts_stream/", include_in_schema=False)
    async def stream_of_speaker(request: Request) -> Response:
        """xtts-api-server: audio while it is made, with the fields in the address."""
        return _answer(services, request, _read_xtts)

    @routes.post("/tts_stream", openapi_extra=form_schema(CoquiFields), **SOUND_ROUTE)
    async def stream_of_latents(request: Request) -> Response:
        """Coqui: audio while it is made, as WAV or bare PCM."""
        return _answer(services, request, _read_coqui)

    @routes.get("/speakers")
    async def speakers() -> Response:
        """xtts-api-server: all voices."""
        return await voices.list_response(
            "xtts speakers",
            lambda infos: [
                {"name": name, "voice_id": info.voice_id, "preview_url": ""}
                for info in infos
                for name in info.names
            ],
        )

    @routes.get("/speakers_list")
    async def speaker_names() -> Response:
        """xtts-api-server: the names of all voices."""
        return await voices.list_response("names", all_names)

    @routes.get("/languages")
    async def languages() -> Response:
        """xtts-api-server: the model's languages."""
        codes = {name: code for code, name in spoken_languages(voices).items()}
        return JSONResponse({"languages": codes})

    @routes.post("/set_tts_settings", openapi_extra=form_schema(LenientFields))
    async def settings(request: Request) -> Response:
        """xtts-api-server: accepted and ignored; one client cannot change the sound of others."""
        async with voices.read_body(request) as body:
            ignored = ignored_header(body.fields)
        return JSONResponse(
            {"message": "Settings are ignored: the server's own apply."}, headers=ignored
        )

    @routes.get("/studio_speakers")
    async def studio() -> Response:
        """Coqui: all voices, as latents."""
        return await voices.list_response(
            "xtts latents",
            lambda infos: {n: latents(info.voice_id) for info in infos for n in info.names},
        )

    @routes.post("/clone_speaker", openapi_extra=form_schema(NoFields, file=XTTS_FILE))
    async def clone(request: Request) -> Response:
        """Coqui: register a recording as a voice; returns its latents."""

        async def work(_body: Body, upload: Upload) -> Response:
            info, _ = await voices.register(upload, None)
            return JSONResponse(latents(info.voice_id))

        return await answer_upload(request, voices, XTTS_FILE, work)


TAVERN = Dialect(
    add_tavern,
    tag="chatterbox-tts-server",
    paths=("/tts-stream", "/get_predefined_voices", "/get_reference_files", "/upload_reference"),
    error_shape=error_shape,
    read_tts_json=read_tts_json,
)
XTTS = Dialect(
    add_xtts,
    tag="xtts",
    paths=(
        *("/speakers", "/speakers_list", "/languages", "/tts_to_audio", "/tts_stream"),
        *("/set_tts_settings", "/clone_speaker", "/studio_speakers"),
    ),
    error_shape=error_shape,
)
