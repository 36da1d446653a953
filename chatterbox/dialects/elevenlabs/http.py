"""ElevenLabs' `POST /v1/text-to-speech/{voice}` in its four forms, its model list and errors.

docs/reference/dialects.md, "ElevenLabs over HTTP".
"""

import base64
import json
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import Scope

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.audio.encode import AudioFormat, audio_format
from chatterbox.audio.shaping import FASTEST, SLOWEST
from chatterbox.dialects.shared.alignment import Alignment, Timing, original_pieces
from chatterbox.dialects.shared.voice_names import (
    ELEVENLABS_VOICES,
    ignored_fields,
    resolve_voice,
    spoken_languages,
)
from chatterbox.engine.speech_stream import SpeechReport, SpeechRequest
from chatterbox.errors import (
    ChatterboxError,
    EmptyText,
    InvalidValue,
    Overloaded,
    TextTooLong,
    excerpt,
)
from chatterbox.server.body import Body
from chatterbox.server.dialect import Services
from chatterbox.server.model_loader import Model
from chatterbox.server.model_pool import use_model
from chatterbox.server.request_log import record_of
from chatterbox.server.schemas import (
    SOUND_ROUTE,
    LenientFields,
    LenientSpeechFields,
    Name,
    Text,
    form_schema,
    parse_lenient_fields,
    query_schema,
)
from chatterbox.server.speech_response import (
    RAW,
    Framing,
    ResponseBuilder,
    SpeechPlan,
    SpeechResponse,
    audio_headers,
    file_response,
)

FIXED: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("answers.json").read_text("utf-8")
)
"""Constant parts of answers; null marks the fields that the server fills in."""
_PCM_RATES_HZ = (8000, 16000, 22050, 24000, 32000, 44100, 48000)
_KBITS = (32, 64, 96, 128, 192)
OUTPUT_FORMATS: dict[str, AudioFormat] = {
    "mp3_22050_32": audio_format("mp3", 22050, 32_000),
    "mp3_24000_48": audio_format("mp3", 24000, 48_000),
    **{f"mp3_44100_{rate}": audio_format("mp3", 44100, rate * 1000) for rate in _KBITS},
    **{f"pcm_{rate_hz}": audio_format("pcm", rate_hz) for rate_hz in _PCM_RATES_HZ},
    **{f"wav_{rate_hz}": audio_format("wav", rate_hz) for rate_hz in _PCM_RATES_HZ},
    **{f"opus_48000_{rate}": audio_format("opus", 48000, rate * 1000) for rate in _KBITS},
    "ulaw_8000": audio_format("ulaw"),
    "alaw_8000": audio_format("alaw"),
}
DEFAULT_OUTPUT_FORMAT = "mp3_44100_128"

HARMLESS = {
    "apply_text_normalization": ("auto", "on"),
    "apply_language_text_normalization": (False,),
    "use_pvc_as_ivc": (False, True),
}
"""Field → values that need no mention in X-Ignored-Params, because ignoring them changes
nothing."""

_STATUSES: dict[type[ChatterboxError], tuple[int, str]] = {
    TextTooLong: (400, "max_character_limit_exceeded"),
    EmptyText: (400, "input_text_empty"),
    Overloaded: (429, "system_busy"),
}


class VoiceSettings(BaseModel):
    """Voice settings. Only `speed` has an effect; all others are reported as ignored."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, hide_input_in_errors=True)

    speed: float | None = Field(None, ge=SLOWEST, le=FASTEST, description="Tempo; same pitch")


OutputFormat = Annotated[Name, Field(json_schema_extra={"enum": list(OUTPUT_FORMATS)})]


class FormatQuery(LenientFields):
    output_format: OutputFormat = DEFAULT_OUTPUT_FORMAT


class SpeechFields(LenientSpeechFields):
    text: Text
    model_id: Name | None = None
    language_code: Name | None = None
    voice_settings: Annotated[VoiceSettings | None, WithJsonSchema({"type": "object"})] = Field(
        None, description="Only `speed` has an effect"
    )
    seed: int | None = None


class CharacterTimes:
    """Tracks the character times of an answer, both for the text as written and as spoken (numbers
    and abbreviations expanded). Times count from the start of the answer. A segment's times are
    known once its audio is complete."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._timings: list[Timing] = []

    def update(self, report: SpeechReport) -> list[Alignment]:
        """Return the times that became known since the last call, as [written, spoken]."""
        if not self._timings:
            texts = report.segment_texts
            written = original_pieces(self._text, texts)
            spoken = [f" {text}" if nth else text for nth, text in enumerate(texts)]
            self._timings = [Timing(written, report), Timing(spoken, report)]
        end_s = report.segment_ends_s[-1] if report.segment_ends_s else 0.0
        return [timing.until(end_s) for timing in self._timings]


def timed_audio(data: bytes, times: list[Alignment]) -> dict[str, Any]:
    """Return the JSON body with the audio in base64 and the character times."""
    written, spoken = (
        {
            "characters": list(each.text),
            "character_start_times_seconds": each.bounds_s[:-1],
            "character_end_times_seconds": each.bounds_s[1:],
        }
        if each.text
        else None
        for each in times
    )
    audio = base64.b64encode(data).decode("ascii")
    return {"audio_base64": audio, "alignment": written, "normalized_alignment": spoken}


class Lines(Framing):
    """Frames the answer as lines of JSON, each with some audio and the newly known times."""

    media_type = "application/json"

    def __init__(self, text: str) -> None:
        self._times = CharacterTimes(text)

    def wrap(self, data: bytes, report: SpeechReport, /) -> bytes:
        return self._line(data, self._times.update(report))

    def end(self, report: SpeechReport, /) -> bytes:
        """Return the times that became known after the last audio was sent."""
        times = self._times.update(report)
        return self._line(b"", times) if any(each.text for each in times) else b""

    def _line(self, data: bytes, times: list[Alignment]) -> bytes:
        return json.dumps(timed_audio(data, times)).encode("ascii") + b"\n"


def _timed_file(call: SpeechRequest, samples: F32, report: SpeechReport) -> Response:
    """Build the answer with the whole file and all character times."""
    data = call.format.encode_whole(samples)
    headers = {**audio_headers(call), "Content-Type": "application/json"}
    del headers["Content-Disposition"]
    times = CharacterTimes(call.text).update(report)
    audio_s = len(samples) / SAMPLE_RATE_HZ
    for alignment in times:
        if call.speed != 1.0:
            alignment.scale(audio_s / report.audio_s)
        alignment.end_at(audio_s)
    return JSONResponse(timed_audio(data, times), headers=headers)


def error_shape(error: ChatterboxError, request_id: str) -> tuple[int, Any]:
    """Return ElevenLabs' error body: `detail` is a list for status 422, otherwise an object."""
    status, word = _STATUSES.get(type(error), (error.status, error.code))
    if status != 422:
        detail = {"status": word, "message": error.message, "request_id": request_id}
        return status, {"detail": detail}
    where = ["body", *(error.param.split(".") if error.param else ())]
    return status, {"detail": [{"loc": where, "msg": error.message, "type": error.code}]}


class ClientRoute(APIRoute):
    """Route that matches only ElevenLabs' clients, recognized by the header of their SDK or key.
    Used for paths that OpenAI's API also has."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        headers = Headers(scope=scope)
        has_sdk = headers.get("x-fern-sdk-name", "").lower() == "elevenlabs"
        return super().matches(scope) if has_sdk or "xi-api-key" in headers else (Match.NONE, {})


def _model_body(services: Services, model: Model) -> dict[str, Any]:
    with use_model(model):
        languages = spoken_languages(services.voices) if model.engine else {}
    return FIXED["model"] | {
        "model_id": model.name,
        "name": model.name,
        "description": f"A model of this server: {model.state}",
        "maximum_text_length_per_request": services.config.max_text_length,
        "languages": [{"language_id": id_, "name": name} for id_, name in languages.items()],
    }


def output_format(name: str | None) -> AudioFormat:
    """Return the format with ElevenLabs' name, or the default. Raises InvalidValue."""
    found = OUTPUT_FORMATS.get(name or DEFAULT_OUTPUT_FORMAT)
    if found is None:
        raise InvalidValue(
            f"Unknown output_format '{excerpt(name)}'; one of: {', '.join(OUTPUT_FORMATS)}.",
            param="output_format",
        )
    return found


def add_routes(routes: APIRouter, services: Services) -> None:
    models = APIRouter(route_class=ClientRoute)
    schema = {**query_schema(FormatQuery), **form_schema(SpeechFields)}

    def answer(
        request: Request, voice_id: str, build: ResponseBuilder | None = None, timed: bool = False
    ) -> Response:
        def read_plan(body: Body) -> SpeechPlan:
            call = _build_request(services, request, voice_id, body)
            places = services.admission.places
            headers = {
                "request-id": record_of(request.scope).id,
                "character-cost": str(len(call.text)),
                "current-concurrent-requests": str(places.active),
                "maximum-concurrent-requests": str(places.capacity),
            }
            return SpeechPlan(call, Lines(call.text) if timed else RAW, build, headers)

        return SpeechResponse(services.speech, request, read_plan)

    @routes.post("/v1/text-to-speech/{voice_id}", openapi_extra=schema, **SOUND_ROUTE)
    async def convert(request: Request, voice_id: str) -> Response:
        """ElevenLabs: the whole audio."""
        return answer(request, voice_id, file_response)

    @routes.post("/v1/text-to-speech/{voice_id}/stream", openapi_extra=schema, **SOUND_ROUTE)
    async def stream(request: Request, voice_id: str) -> Response:
        """ElevenLabs: audio while it is made."""
        return answer(request, voice_id)

    @routes.post("/v1/text-to-speech/{voice_id}/with-timestamps", openapi_extra=schema)
    async def convert_with_times(request: Request, voice_id: str) -> Response:
        """ElevenLabs: the whole audio, with the time of each character."""
        return answer(request, voice_id, _timed_file)

    @routes.post("/v1/text-to-speech/{voice_id}/stream/with-timestamps", openapi_extra=schema)
    async def stream_with_times(request: Request, voice_id: str) -> Response:
        """ElevenLabs: audio while it is made, with character times, in lines of JSON."""
        return answer(request, voice_id, timed=True)

    @models.get("/v1/models", include_in_schema=False)
    async def list_models() -> Response:
        """ElevenLabs: the list of models."""
        services.admission.lifecycle.check_open()  # before loading, the model's name is unknown
        return JSONResponse([_model_body(services, model) for model in services.models.models])

    routes.include_router(models)


def _build_request(
    services: Services, request: Request, voice_id: str, body: Body
) -> SpeechRequest:
    fields, unknown = parse_lenient_fields(SpeechFields, body)
    ignored = [name for name in unknown if body.fields[name] not in HARMLESS.get(name, ())]
    settings = fields.voice_settings or VoiceSettings()
    extra = (settings.model_extra or {}).items()
    ignored += [f"voice_settings.{name}" for name, value in extra if value is not None]
    return services.speech.build_request(
        fields.text,
        resolve_voice(services, voice_id, ELEVENLABS_VOICES),
        output_format(request.query_params.get("output_format")),
        seed=fields.seed,
        speed=settings.speed or 1.0,
        silence_if_wordless=True,
        ignored=ignored_fields(services.voices, ignored, fields.language_code, "language_code"),
    )
