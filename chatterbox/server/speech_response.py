"""The answer to a call for speech: read, checked, spoken, and sent while it is made or as a whole.

Below it the native calls, `POST /tts` and `POST /tts/json`.
A dialect hands in how to read its body, and what its answer looks like (`Framing`, `SpeechPlan`).
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
from chatterbox.server.model_pool import ModelPool
from chatterbox.server.multipart import Upload
from chatterbox.server.request_log import AccessRecord, record_of
from chatterbox.server.schemas import (
    SOUND_ROUTE,
    SpeechFields,
    fields_of,
    form_schema,
    ignored_header,
    random_seed,
)
from chatterbox.server.speech_service import SpeechService

MODEL_FIELDS = ("model", "model_id")
"""OpenAI's word and ElevenLabs'."""
PART_SAMPLES = SAMPLE_RATE_HZ // 2
"""A piece is encoded and sent half a second at a time, with a turn of the event loop between: a
whole segment at once would hold up every other connection, and in a line of JSON it would be more
than some clients read (aiohttp: 128 KiB)."""


UNKNOWN_TAGS = "X-Unknown-Tags"
"""Names words in brackets that are no tags of the model, and so are read out."""


class Framing:
    """What stands around the encoded bytes on their way. Here nothing: the file itself is sent; a
    dialect may put it into events or lines of JSON."""

    def media_type(self, request: SpeechRequest, /) -> str:
        """The answer's Content-Type."""
        return request.format.media_type

    def wrap(self, data: bytes, _report: SpeechReport, /) -> bytes:
        """The next bytes of the file, as they are sent; `data` is never empty."""
        return data

    def end(self, _report: SpeechReport, /) -> bytes:
        """What follows the last of them."""
        return b""

    def broken(self, _error: ChatterboxError, _request_id: str, /) -> bytes:
        """What is said, in place of the rest, before the connection is cut. In a file anything
        would be taken for sound."""
        return b""


RAW = Framing()


def audio_headers(request: SpeechRequest, framing: Framing = RAW) -> dict[str, str]:
    """What is known of the sound before it is made."""
    return {
        "Content-Type": framing.media_type(request),
        "Content-Disposition": f'inline; filename="speech.{request.format.name}"',
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",  # nginx would collect the stream before passing it on
        "X-Sample-Rate": str(request.format.sample_rate_hz),
        "X-Seed": str(request.seed),
        **ignored_header(request.ignored),
    }


def report_headers(report: SpeechReport) -> dict[str, str]:
    """What is known of it afterwards."""
    return {
        "X-Audio-Duration": f"{report.audio_s:.3f}",
        "X-Generation-Time": f"{report.generation_s:.3f}",
        "X-RTF": f"{report.rtf:.4f}",
        "X-Tokens-Generated": str(report.codes),
    }


Whole = Callable[[SpeechRequest, F32, SpeechReport], Response]
"""Makes one answer of all the sound; runs in a thread."""


@dataclass(frozen=True, slots=True)
class SpeechPlan:
    """A request, and how its sound goes out: framed while it is made, unless `whole` is given."""

    request: SpeechRequest
    framing: Framing = RAW
    whole: Whole | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    reference: Upload | None = None  # a recording to speak like, instead of the request's voice


Read = Callable[[Body], SpeechPlan]


async def send_streamed(
    service: SpeechService, plan: SpeechPlan, record: AccessRecord, receive: Receive, send: Send
) -> None:
    """Speak to the client as the sound is made.

    Nothing is sent before the first sound, so until then errors are raised and get their status.
    After it there is no status left: the answer stays without its last chunk, which makes the
    server cut the connection, and the client sees a broken transfer rather than a short file.
    """
    request, framing = plan.request, plan.framing
    started = False

    async def send_body(data: bytes) -> None:
        if data:
            await send({"type": "http.response.body", "body": data, "more_body": True})
            await asyncio.sleep(0)  # a fast reader is not waited for; a departure must be seen

    async def speak(encoder: Encoder) -> None:
        nonlocal started
        speech = service.open(request, record, plus_sound=True, reference=plan.reference)
        async with speech as speaking:
            report = speaking.report
            started = True
            headers = Headers({**audio_headers(request, framing), **plan.headers}).raw
            await send({"type": "http.response.start", "status": 200, "headers": headers})

            async def send_framed(data: bytes) -> None:
                await send_body(framing.wrap(data, report) if data else b"")

            await send_framed(encoder.start())
            async for piece in speaking:
                for start in range(0, len(piece), PART_SAMPLES):
                    await send_framed(encoder.feed(piece[start : start + PART_SAMPLES]))
            await send_framed(encoder.finish())
            await send_body(framing.end(report))

    try:
        with closing(request.format.encoder()) as encoder:
            await until_disconnect(receive, speak(encoder))
    except ChatterboxError as error:
        if not started:
            raise
        record.failed(error)
        if not isinstance(error, Cancelled):
            await send_body(framing.broken(error, record.id))
    else:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def whole_file(request: SpeechRequest, samples: F32, report: SpeechReport) -> Response:
    """All the sound as one file whose header has its true length, and its figures."""
    data = request.format.encode_whole(samples)
    return Response(data, headers={**audio_headers(request), **report_headers(report)})


class SpeechResponse(Response):
    """Reads the call and answers it, all inside one scope: an upload, a place and the engine's
    rows are given back when this returns, however it does."""

    def __init__(
        self,
        service: SpeechService,
        request: Request,
        read: Read,
        *,
        limits: BodyLimits | None = None,
        from_query: bool = False,
    ) -> None:
        super().__init__()
        self._service = service
        self._read = read
        self._body: Callable[[], AbstractAsyncContextManager[Body]] = (
            (lambda: nullcontext(read_query(request)))
            if from_query
            else (lambda: read_body(request, limits or service.limits, service.admission))
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, record = self._service, record_of(scope)
        record.speech = True
        await service.admission.check_room()
        async with self._body() as body, self._model(body, scope):
            plan = await service.models.fresh.found(partial(self._planned, body))
            if plan.whole is None:
                await send_streamed(service, plan, record, receive, send)
                return
            speech = service.whole(plan.request, record, plan.reference)
            samples, report = await until_disconnect(receive, speech)
            answer = await asyncio.to_thread(plan.whole, plan.request, samples, report)
        answer.headers.update(plan.headers)
        await answer(scope, receive, send)

    def _model(self, body: Body, scope: Scope) -> AbstractAsyncContextManager[object]:
        """Choose the model that the call names, in its body or else in its address, and know what
        it is."""
        places = body.fields, QueryParams(scope["query_string"])
        given = [fields.get(name) for fields in places for name in MODEL_FIELDS]
        self._service.models.choose(next(filter(None, given), None))
        return self._service.models.known()

    async def _planned(self, body: Body) -> SpeechPlan:
        plan = self._read(body)
        unknown = ignored_header(self._service.unknown_tags(plan.request.text), UNKNOWN_TAGS)
        return replace(plan, headers={**plan.headers, **unknown}) if unknown else plan


Sniffer = Callable[[Body], SpeechPlan | None]
"""Reads a body that a dialect's clients send to `/tts`; None: it is not theirs."""


def speech_router(service: SpeechService, sniffers: Sequence[Sniffer] = ()) -> APIRouter:
    """The two calls. `sniffers`: of dialects whose clients post to `/tts` too."""
    router = APIRouter(tags=["speech"])
    limits, models = service.limits_with_recording, service.models

    def sound(body: Body) -> SpeechPlan:
        for sniff in sniffers:
            if (plan := sniff(body)) is not None:
                return plan
        call, stream = _call(models, body)
        return SpeechPlan(call, whole=None if stream else whole_file, reference=body.file)

    @router.post("/tts", openapi_extra=form_schema(SpeechFields, file="voice_file"), **SOUND_ROUTE)
    async def tts(request: Request) -> Response:
        """Text to speech, streamed while it is made unless `stream` is false."""
        return SpeechResponse(service, request, sound, limits=limits)

    @router.post("/tts/json", openapi_extra=form_schema(SpeechFields, file="voice_file"))
    async def tts_json(request: Request) -> Response:
        """As `/tts`, but answers with the figures of the speech instead of its sound."""

        def figures(call: SpeechRequest, _samples: F32, report: SpeechReport) -> Response:
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
                "sample_rate": call.format.sample_rate_hz,
                "seed": call.seed,
            }
            headers = {"Cache-Control": "no-store", "X-Seed": str(call.seed)}
            return JSONResponse(body, headers=headers)

        def read(body: Body) -> SpeechPlan:
            return SpeechPlan(_call(models, body)[0], whole=figures, reference=body.file)

        return SpeechResponse(service, request, read, limits=limits)

    return router


def _call(models: ModelPool, body: Body) -> tuple[SpeechRequest, bool]:
    """The request, and whether it is to be streamed. Raises InvalidValue."""
    fields = fields_of(SpeechFields, body)
    if body.file is not None:
        body.file.transcript = fields.transcript
        if fields.voice_id is not None:
            raise InvalidValue("Give 'voice_id' or 'voice_file', not both.", param="voice_id")
    seed = random_seed() if fields.seed is None else fields.seed
    call = SpeechRequest(
        text=fields.text,
        voice=fields.voice_id,
        sampling=models.engine.sampling(fields.sampling()),
        seed=seed,
        max_new_tokens=fields.max_new_tokens,
        format=audio_format(fields.response_format, fields.sample_rate),
        speed=fields.speed,
        loudness_lufs=fields.loudness,
        code_blocks=fields.code_blocks,
        deterministic=fields.seed is not None,
        model=models.chosen.name,
    )
    return call, fields.stream
