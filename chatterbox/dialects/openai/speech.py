"""OpenAI's `POST /v1/audio/speech`, as a file or as server-sent events; model lists; errors.

docs/reference/dialects.md, "OpenAI". `seed`, the sampling fields, `max_tokens` and `stream` come
from Orpheus' servers.
"""

import base64
import json
import time
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BeforeValidator, Field, TypeAdapter
from starlette.responses import JSONResponse, Response

from chatterbox.audio.encode import FORMATS, audio_format
from chatterbox.config.tts import SAMPLING
from chatterbox.dialects.shared.alignment import original_pieces
from chatterbox.dialects.shared.voice_names import OPENAI_VOICES, resolve_voice
from chatterbox.engine.speech_stream import SpeechReport
from chatterbox.errors import ChatterboxError, RouteNotFound, excerpt
from chatterbox.server.body import Body
from chatterbox.server.dialect import Services
from chatterbox.server.model_pool import use_model
from chatterbox.server.request_log import native_shape
from chatterbox.server.schemas import (
    SOUND_ROUTE,
    FormatName,
    Name,
    SamplingFields,
    Text,
    form_schema,
    parse_lenient_fields,
)
from chatterbox.server.speech_response import Framing, SpeechPlan, SpeechResponse, file_response
from chatterbox.text import CodeBlocks

ALIASES = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")


def _voice_name(value: object) -> object:
    """Unwrap `{"id": "voice_…"}`, which OpenAI's clients send for a custom voice."""
    return value.get("id", value) if isinstance(value, dict) else value


class SpeechFields(SamplingFields):
    """OpenAI's fields, and those added by Orpheus' servers."""

    input: Text = Field(description="Text to speak")
    voice: Annotated[Name, BeforeValidator(_voice_name)] | None = Field(
        None, description='A name, an id, or `{"id": …}`; by default the default voice'
    )
    response_format: FormatName = "mp3"
    stream_format: Literal["audio", "sse"] = "audio"
    speed: float = Field(1.0, ge=0.25, le=4.0, description="Tempo; same pitch")
    max_tokens: int | None = Field(None, ge=8, description="Limit of speech tokens per segment")
    code_blocks: CodeBlocks | None = Field(
        None, description="`skip` or `speak` fenced code in the text; by default as configured"
    )
    stream: bool | None = Field(None, description="false: answer one file with its true length")
    timings: bool | None = Field(
        None, description="true: also send an event when each part of the text begins"
    )
    seed: int | None = Field(None, description="Same seed, same speech; random by default")


def event(body: dict[str, Any]) -> bytes:
    """Encode a server-sent event."""
    return b"data: " + json.dumps(body).encode("ascii") + b"\n\n"


class Events(Framing):
    """Sends the file in base64 as server-sent events, then the usage. With `timed_text`, also sends
    an event when each part of that text begins."""

    media_type = "text/event-stream"

    def __init__(self, timed_text: str | None = None) -> None:
        self._text = timed_text
        self._pieces: list[str] = []
        self._started = 0  # pieces whose event was sent

    def wrap(self, data: bytes, report: SpeechReport, /) -> bytes:
        audio = base64.b64encode(data).decode("ascii")
        delta = event({"type": "speech.audio.delta", "audio": audio})
        return b"".join([*self._segment_events(report), delta])

    def _segment_events(self, report: SpeechReport) -> Iterator[bytes]:
        """Yield an event for each part of the text that began since the last call."""
        if self._text is None:
            return
        if not self._pieces:
            self._pieces = original_pieces(self._text, report.segment_texts)
        for nth in range(self._started, len(report.segment_starts_s)):
            place = {"index": nth, "of": len(self._pieces)}
            times = {"start_s": round(report.segment_starts_s[nth], 3)}
            yield event({"type": "speech.segment", **place, **times, "text": self._pieces[nth]})
        self._started = len(report.segment_starts_s)

    def end(self, report: SpeechReport, /) -> bytes:
        """Return the usage: text ids as OpenAI's input tokens, speech codes as output tokens."""
        usage = {
            "input_tokens": report.text_ids,
            "output_tokens": report.codes,
            "total_tokens": report.text_ids + report.codes,
        }
        return event({"type": "speech.audio.done", "usage": usage})

    def error(self, error: ChatterboxError, request_id: str, /) -> bytes:
        """Return an event with the field `error`, on which OpenAI's clients raise."""
        return event({"type": "error", **error_shape(error, request_id)[1]})


def error_shape(error: ChatterboxError, request_id: str) -> tuple[int, Any]:
    """Return the native error body, with OpenAI's field names."""
    status, body = native_shape(error, request_id)
    names = {"text": "input", "voice_id": "voice", "sample_rate": "response_format"}
    body["error"]["param"] = names.get(error.param or "", error.param)
    return status, body


def add_routes(routes: APIRouter, services: Services) -> None:
    _add_models(routes, services)

    def read_plan(body: Body) -> SpeechPlan:
        fields, unknown = parse_lenient_fields(SpeechFields, body)
        call = services.speech.build_request(
            fields.input,
            resolve_voice(services, fields.voice, OPENAI_VOICES),
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
        """OpenAI: text to speech, streamed as audio or as server-sent events."""
        return SpeechResponse(services.speech, request, read_plan)


def _add_models(routes: APIRouter, services: Services) -> None:
    """Add the routes that list the configured models, and the ALIASES of the default model."""
    started = int(time.time())

    def names() -> list[str]:
        services.admission.lifecycle.check_open()  # before loading, the model's name is unknown
        return [*(model.name for model in services.models.models), *ALIASES]

    def entry(name: str) -> dict[str, Any]:
        body = {"id": name, "object": "model", "created": started, "owned_by": "chatterbox"}
        if name in ALIASES:
            return body
        with use_model(model := services.models.find(name)):
            return body | {"state": model.state} | (_describe(services) if model.engine else {})

    @routes.get("/v1/models")
    async def models() -> Response:
        """OpenAI: the list of models. ElevenLabs' clients get their API's list, by a header."""
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
        """Open WebUI: the list of models."""
        return JSONResponse({"object": "list", "models": [entry(name) for name in names()]})


def _describe(services: Services) -> dict[str, Any]:
    """Return the loaded model's settings with bounds and defaults, tags and formats, from which a
    client such as the page can build a form."""
    engine = services.engine
    family, defaults = engine.family, engine.sampling()
    speed = SpeechFields.model_json_schema()["properties"]["speed"]
    settings = {
        name: _bounds(TypeAdapter(kind).json_schema()) | {"default": getattr(defaults, name)}
        for name, kind in SAMPLING.items()
    }
    tokens = {"minimum": 8, "maximum": engine.max_tokens, "default": engine.max_tokens}
    return {
        "tags": sorted(family.tags),
        "languages": list(family.languages),
        "max_text_length": services.config.max_text_length,
        "token_rate_hz": family.codec.token_rate_hz,
        "formats": list(FORMATS),
        "settings": settings | {"max_tokens": tokens, "speed": _bounds(speed) | {"default": 1.0}},
    }


def _bounds(schema: dict[str, Any]) -> dict[str, float]:
    minimum = schema.get("minimum", schema.get("exclusiveMinimum"))
    return {"minimum": minimum, "maximum": schema["maximum"]}
