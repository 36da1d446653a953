"""OpenAI's `POST /v1/audio/speech`, as a file or as server-sent events; models; their errors.

docs/reference/dialects.md, "OpenAI". A seed, the sampler's fields, `max_tokens` and `stream` are
additions that Orpheus's servers made.
"""

import base64
import json
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BeforeValidator, Field, TypeAdapter
from starlette.responses import JSONResponse, Response

from chatterbox.audio.encode import FORMATS, audio_format
from chatterbox.config.tts import SAMPLING
from chatterbox.dialects.shared.alignment import original_pieces
from chatterbox.dialects.shared.voice_names import OPENAI_VOICES, voice_or_alias
from chatterbox.engine.speech_stream import SpeechReport, SpeechRequest
from chatterbox.errors import ChatterboxError, RouteNotFound, excerpt
from chatterbox.server.body import Body
from chatterbox.server.dialect import Services
from chatterbox.server.model_pool import speaking_with
from chatterbox.server.request_log import native_shape
from chatterbox.server.schemas import (
    SOUND_ROUTE,
    FormatName,
    Name,
    SamplingFields,
    Text,
    form_schema,
    lenient_fields_of,
)
from chatterbox.server.speech_response import Framing, SpeechPlan, SpeechResponse, file_response
from chatterbox.text import CodeBlocks

ALIASES = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")


def _voice_name(value: object) -> object:
    """`{"id": "voice_…"}` is how OpenAI's clients name a voice of their own."""
    return value.get("id", value) if isinstance(value, dict) else value


class SpeechFields(SamplingFields):
    """OpenAI's own, and what the servers of Orpheus took beside them."""

    input: Text = Field(description="What to say")
    voice: Annotated[Name, BeforeValidator(_voice_name)] | None = Field(
        None, description='A name, an id, or `{"id": …}`; none: the default voice'
    )
    response_format: FormatName = "mp3"
    stream_format: Literal["audio", "sse"] = "audio"
    speed: float = Field(1.0, ge=0.25, le=4.0, description="Tempo; the pitch is kept")
    max_tokens: int | None = Field(None, ge=8, description="Most codes of a segment")
    code_blocks: CodeBlocks | None = Field(
        None, description="Fenced code in the text: `skip` or `speak`; none: as configured"
    )
    stream: bool | None = Field(None, description="false: one file with its true length")
    timings: bool | None = Field(
        None, description="true: events also say when each part of the text begins"
    )
    seed: int | None = Field(None, description="Equal seeds, equal speech; none: drawn")


class Events(Framing):
    """Server-sent events: the file's bytes in base64, then the usage."""

    def __init__(self, timed_text: str | None = None) -> None:
        """`timed_text`: whose parts are named as they begin to sound."""
        self._text = timed_text
        self._pieces: list[str] = []
        self._begun = 0

    def media_type(self, _call: SpeechRequest, /) -> str:
        return "text/event-stream"

    def wrap(self, data: bytes, report: SpeechReport, /) -> bytes:
        """One delta; joined, the deltas are the file."""
        audio = base64.b64encode(data).decode("ascii")
        return self._news(report) + _event({"type": "speech.audio.delta", "audio": audio})

    def _news(self, report: SpeechReport) -> bytes:
        """The parts of the text that began since the last delta."""
        if self._text is None:
            return b""
        if not self._pieces:
            self._pieces = original_pieces(self._text, report.segment_texts)
        since, self._begun = self._begun, len(report.segment_starts_s)
        return b"".join(
            _event(
                {
                    "type": "speech.segment",
                    "index": nth,
                    "of": len(self._pieces),
                    "start_s": round(report.segment_starts_s[nth], 3),
                    "text": self._pieces[nth],
                }
            )
            for nth in range(since, self._begun)
        )

    def end(self, report: SpeechReport, /) -> bytes:
        """The text's ids and the speech's codes are what OpenAI calls tokens."""
        usage = {
            "input_tokens": report.text_ids,
            "output_tokens": report.codes,
            "total_tokens": report.text_ids + report.codes,
        }
        return _event({"type": "speech.audio.done", "usage": usage})

    def error(self, error: ChatterboxError, request_id: str, /) -> bytes:
        """OpenAI's clients raise on an event that has `error`."""
        return _event({"type": "error", **error_shape(error, request_id)[1]})


def error_shape(error: ChatterboxError, request_id: str) -> tuple[int, Any]:
    """The native shape, with fields named as in OpenAI's call."""
    status, body = native_shape(error, request_id)
    names = {"text": "input", "voice_id": "voice", "sample_rate": "response_format"}
    body["error"]["param"] = names.get(error.param or "", error.param)
    return status, body


def add_routes(routes: APIRouter, services: Services) -> None:
    """The call, and the lists of models: those there are, and three aliases of the default one."""
    _add_models(routes, services)

    def read(body: Body) -> SpeechPlan:
        fields, unknown = lenient_fields_of(SpeechFields, body)
        call = services.speech.build_request(
            fields.input,
            voice_or_alias(services, fields.voice, OPENAI_VOICES),
            audio_format(fields.response_format),
            sampling=fields,
            seed=fields.seed,
            max_new_tokens=fields.max_tokens,
            speed=fields.speed,
            code_blocks=fields.code_blocks,
            silence_if_wordless=True,
            ignored=unknown,
        )
        if fields.stream_format == "sse":
            return SpeechPlan(call, Events(fields.input if fields.timings else None))
        return SpeechPlan(call, build=file_response if fields.stream is False else None)

    @routes.post("/v1/audio/speech", openapi_extra=form_schema(SpeechFields), **SOUND_ROUTE)
    async def speech(request: Request) -> Response:
        """OpenAI: text to speech, streamed as sound or as server-sent events."""
        return SpeechResponse(services.speech, request, read)


def _add_models(routes: APIRouter, services: Services) -> None:
    started = int(time.time())

    def names() -> list[str]:
        services.admission.lifecycle.check_open()  # until it is loaded nobody knows its name
        return [*(model.name for model in services.models.models), *ALIASES]

    def entry(name: str) -> dict[str, Any]:
        who = {"id": name, "object": "model", "created": started, "owned_by": "chatterbox"}
        if name in ALIASES:
            return who
        with speaking_with(model := services.models.find(name)):
            return who | {"state": model.state} | (about(services) if model.engine else {})

    @routes.get("/v1/models")
    async def models() -> Response:
        """OpenAI's list of models; ElevenLabs' for its clients, who say who they are."""
        return JSONResponse({"object": "list", "data": [entry(name) for name in names()]})

    @routes.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        """OpenAI: one model."""
        if name not in names():
            raise RouteNotFound(
                f"There is no model '{excerpt(name)}'; GET /v1/models lists them.", param="model"
            )
        return JSONResponse(entry(name))

    @routes.get("/v1/audio/models")
    async def audio_models() -> Response:
        """The models that speak, as Open WebUI asks for them."""
        return JSONResponse({"object": "list", "models": [entry(name) for name in names()]})


def about(services: Services) -> dict[str, Any]:
    """What the loaded model understands, with bounds and defaults: for forms such as the page's."""
    engine = services.engine
    family, drawn = engine.family, engine.sampling()
    speed = SpeechFields.model_json_schema()["properties"]["speed"]
    settings = {
        name: _bounds(TypeAdapter(kind).json_schema()) | {"default": getattr(drawn, name)}
        for name, kind in SAMPLING.items()
    }
    most = {"minimum": 8, "maximum": engine.max_tokens, "default": engine.max_tokens}
    return {
        "tags": sorted(family.tags),
        "languages": list(family.languages),
        "max_text_length": services.config.max_text_length,
        "token_rate_hz": family.codec.token_rate_hz,
        "formats": list(FORMATS),
        "settings": settings | {"max_tokens": most, "speed": _bounds(speed) | {"default": 1.0}},
    }


def _bounds(schema: dict[str, Any]) -> dict[str, float]:
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    return {"minimum": least, "maximum": schema["maximum"]}


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode("ascii") + b"\n\n"
