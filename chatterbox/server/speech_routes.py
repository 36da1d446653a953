"""The native calls for speech: `POST /tts` and `POST /tts/json`."""

from collections.abc import Callable, Sequence

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from chatterbox.arrays import F32
from chatterbox.audio.encode import audio_format
from chatterbox.engine.speech_stream import SpeechReport, SpeechRequest
from chatterbox.errors import InvalidValue
from chatterbox.server.body import Body
from chatterbox.server.model_pool import ModelPool
from chatterbox.server.request_log import record_of
from chatterbox.server.schemas import (
    SOUND_ROUTE,
    SpeechFields,
    fields_of,
    form_schema,
    random_seed,
    refuse_other_files,
    sampling_of,
)
from chatterbox.server.speech_response import SpeechPlan, SpeechResponse, whole_file
from chatterbox.server.speech_service import SpeechService

Sniffer = Callable[[Body], SpeechPlan | None]
"""Reads a body that a dialect's clients send to `/tts`; None: it is not theirs."""


def speech_router(
    service: SpeechService, models: ModelPool, sniffers: Sequence[Sniffer] = ()
) -> APIRouter:
    """The two calls. `sniffers`: of dialects whose clients post to `/tts` too."""
    router = APIRouter(tags=["speech"])
    limits = service.limits_with_recording

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
    refuse_other_files(body)
    if body.file is not None:
        body.file.transcript = fields.transcript
        if fields.voice_id is not None:
            raise InvalidValue("Give 'voice_id' or 'voice_file', not both.", param="voice_id")
    seed = random_seed() if fields.seed is None else fields.seed
    call = SpeechRequest(
        text=fields.text,
        voice=fields.voice_id,
        sampling=models.engine.sampling(sampling_of(fields)),
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
