"""HTTP responses to speech requests, streamed or whole, and the routes `/tts` and `/tts/json`.

A dialect provides a function that turns a request's body into a `SpeechPlan`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, closing, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

from fastapi import APIRouter
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.audio.encode import audio_format
from chatterbox.audio.encoders import Encoder
from chatterbox.engine.speech_stream import SpeechReport, SpeechRequest
from chatterbox.errors import Cancelled, ChatterboxError, InvalidValue
from chatterbox.server.body import Body, BodyLimits, read_body, read_query, until_disconnect
from chatterbox.server.model_pool import model_name
from chatterbox.server.request_log import AccessRecord, record_of
from chatterbox.server.schemas import (
    SOUND_ROUTE,
    SpeechFields,
    form_schema,
    ignored_header,
    parse_fields,
)
from chatterbox.server.speech_service import RECORDING_FIELD, SpeechService
from chatterbox.text.markup import unknown_tags

PART_SAMPLES = SAMPLE_RATE_HZ // 2
"""Samples encoded and sent at a time: half a second, with a turn of the event loop after each. A
whole segment at once would delay every other connection, and as a line of JSON it would exceed what
some clients read (aiohttp: 128 KiB)."""
UNKNOWN_TAGS = "X-Unknown-Tags"
"""Header that lists bracketed words that are not tags of the model, and so are read aloud."""


class Framing:
    """Wraps encoded audio for the wire. The base class sends the bare file; dialects' subclasses
    send events or lines of JSON."""

    media_type: str | None = None
    """The response's Content-Type; None means that of the audio format."""

    def wrap(self, data: bytes, _report: SpeechReport, /) -> bytes:
        """Frame the next bytes of the audio file; `data` is never empty."""
        return data

    def end(self, _report: SpeechReport, /) -> bytes:
        """Return the bytes that follow the audio."""
        return b""

    def error(self, _error: ChatterboxError, _request_id: str, /) -> bytes:
        """Return the bytes sent before the connection is cut by an error. The bare file sends none:
        a client would play them."""
        return b""


RAW = Framing()


def audio_headers(request: SpeechRequest, framing: Framing = RAW) -> dict[str, str]:
    """Return the headers that are known before synthesis."""
    return {
        "Content-Type": framing.media_type or request.format.media_type,
        "Content-Disposition": f'inline; filename="speech.{request.format.name}"',
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",  # nginx would collect the stream before passing it on
        "X-Sample-Rate": str(request.format.sample_rate_hz),
        "X-Seed": str(request.seed),
        **ignored_header(request.ignored),
    }


ResponseBuilder = Callable[[SpeechRequest, F32, SpeechReport], Response]
"""Builds a response from the complete audio [samples]. Runs in a thread."""


def file_response(request: SpeechRequest, samples: F32, report: SpeechReport) -> Response:
    """Return the audio as one file, whose header has the true length."""
    headers = {
        **audio_headers(request),
        "X-Audio-Duration": f"{report.audio_s:.3f}",
        "X-Generation-Time": f"{report.generation_s:.3f}",
        "X-RTF": f"{report.rtf:.4f}",
        "X-Tokens-Generated": str(report.codes),
    }
    return Response(request.format.encode_whole(samples), headers=headers)


@dataclass(frozen=True, slots=True)
class SpeechPlan:
    """A request and the form of its response: streamed with `framing`, unless `build` is set."""

    request: SpeechRequest
    framing: Framing = RAW
    build: ResponseBuilder | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


PlanReader = Callable[[Body], SpeechPlan]


async def send_streamed(
    service: SpeechService, plan: SpeechPlan, record: AccessRecord, receive: Receive, send: Send
) -> None:
    """Send the audio while it is made.

    Errors before the first sound are raised, as no status has been sent yet. After a later error,
    the last chunk is left out: the server then cuts the connection, and the client sees a broken
    transfer rather than a short file.
    """
    request, framing = plan.request, plan.framing
    is_started = False

    async def send_body(data: bytes) -> None:
        if data:
            await send({"type": "http.response.body", "body": data, "more_body": True})
            await asyncio.sleep(0)  # lets a disconnect be seen: sends to fast readers never yield

    async def speak(encoder: Encoder) -> None:
        nonlocal is_started
        async with service.open(request, record) as speech:
            report = speech.report
            is_started = True
            headers = Headers({**audio_headers(request, framing), **plan.headers}).raw
            await send({"type": "http.response.start", "status": 200, "headers": headers})

            async def send_framed(data: bytes) -> None:
                await send_body(framing.wrap(data, report) if data else b"")

            await send_framed(encoder.start())
            async for piece in speech:
                for start in range(0, len(piece), PART_SAMPLES):
                    await send_framed(encoder.feed(piece[start : start + PART_SAMPLES]))
            await send_framed(encoder.finish())
            await send_body(framing.end(report))

    try:
        with closing(request.format.encoder()) as encoder:
            await until_disconnect(receive, speak(encoder))
    except ChatterboxError as error:
        if not is_started:
            raise
        record.set_error(error)
        if not isinstance(error, Cancelled):
            await send_body(framing.error(error, record.id))
    else:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class SpeechResponse(Response):
    """Response that reads the fields of a call (in the body, or in the address of a GET call), runs
    synthesis and sends the audio. The upload, the place and the engine's rows are released when it
    returns or raises."""

    def __init__(
        self,
        service: SpeechService,
        request: Request,
        read_plan: PlanReader,
        *,
        limits: BodyLimits | None = None,
    ) -> None:
        super().__init__()
        self._service = service
        self._read_plan = read_plan
        self._body: Callable[[], AbstractAsyncContextManager[Body]] = (
            (lambda: nullcontext(read_query(request)))
            if request.method == "GET"
            else (lambda: read_body(request, limits or service.limits, service.admission))
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, record = self._service, record_of(scope)
        models, query = service.models, QueryParams(scope["query_string"])
        record.is_speech = True
        await service.admission.check_capacity()
        async with self._body() as body, models.use_with_engine(model_name(body.fields, query)):
            plan = await models.voice_refresher.retry(partial(self._plan, body))
            if plan.build is None:
                await send_streamed(service, plan, record, receive, send)
                return
            speech = service.synthesize(plan.request, record)
            samples, report = await until_disconnect(receive, speech)
            response = await asyncio.to_thread(plan.build, plan.request, samples, report)
        response.headers.update(plan.headers)
        await response(scope, receive, send)

    async def _plan(self, body: Body) -> SpeechPlan:
        plan = self._read_plan(body)
        tags = self._service.models.engine.family.tags
        unknown = ignored_header(unknown_tags(plan.request.text, tags), UNKNOWN_TAGS)
        return replace(plan, headers={**plan.headers, **unknown}) if unknown else plan


TtsJsonReader = Callable[[Body], SpeechPlan | None]
"""Reads a dialect's body posted to `/tts`. Returns None if the body is not the dialect's."""


def speech_router(service: SpeechService, readers: Sequence[TtsJsonReader] = ()) -> APIRouter:
    """Return the native routes. `readers` parse bodies of dialects that also post to `/tts`."""
    router = APIRouter(tags=["speech"])
    limits, schema = service.limits_with_recording, form_schema(SpeechFields, file=RECORDING_FIELD)

    def read_plan(body: Body) -> SpeechPlan:
        for read in readers:
            if (plan := read(body)) is not None:
                return plan
        request, is_streamed = _read_request(service, body)
        return SpeechPlan(request, build=None if is_streamed else file_response)

    @router.post("/tts", openapi_extra=schema, **SOUND_ROUTE)
    async def tts(request: Request) -> Response:
        """Text to speech. The audio is streamed while it is made, unless `stream` is false."""
        return SpeechResponse(service, request, read_plan, limits=limits)

    @router.post("/tts/json", openapi_extra=schema)
    async def tts_json(request: Request) -> Response:
        """As `/tts`, but return measurements of the speech as JSON instead of the audio."""

        def build(speech: SpeechRequest, _samples: F32, report: SpeechReport) -> Response:
            first_s = report.first_audio_s
            body = {
                "request_id": record_of(request.scope).id,
                "audio_duration": round(report.audio_s, 3),
                "generation_time": round(report.generation_s, 3),
                "rtf": round(report.rtf, 4),
                "tokens_generated": report.codes,
                "segments": report.segments,
                "first_audio": None if first_s is None else round(first_s, 3),
                "finish_reason": report.finish_reason,
                "sample_rate": speech.format.sample_rate_hz,
                "seed": speech.seed,
            }
            headers = {"Cache-Control": "no-store", "X-Seed": str(speech.seed)}
            return JSONResponse(body, headers=headers)

        def read_json_plan(body: Body) -> SpeechPlan:
            return SpeechPlan(_read_request(service, body)[0], build=build)

        return SpeechResponse(service, request, read_json_plan, limits=limits)

    return router


def _read_request(service: SpeechService, body: Body) -> tuple[SpeechRequest, bool]:
    """Return the request, and whether its audio is to be streamed. Raises InvalidValue."""
    fields = parse_fields(SpeechFields, body)
    if body.file is not None:
        body.file.transcript = fields.transcript
        if fields.voice_id is not None:
            raise InvalidValue("Give 'voice_id' or 'voice_file', not both.", param="voice_id")
    request = service.build_request(
        fields.text,
        fields.voice_id if body.file is None else body.file,
        audio_format(fields.response_format, fields.sample_rate),
        sampling=fields,
        seed=fields.seed,
        speed=fields.speed,
        code_blocks=fields.code_blocks,
    )
    request = replace(
        request,
        max_new_tokens=fields.max_new_tokens,  # a value above the ceiling is refused later
        loudness_lufs=fields.loudness,
    )
    return request, fields.stream
