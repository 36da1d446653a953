"""Which native calls make speech? `POST /tts` and `POST /tts/json`.

Translates their fields into a SpeechCall; knows nothing of how it is spoken.
"""

import secrets
from typing import Any

from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from chatterbox.audio.encode import FORMATS, audio_format
from chatterbox.config import ServerConfig, TTSConfig
from chatterbox.errors import InvalidValue
from chatterbox.server.audio_response import send_streamed, whole_response
from chatterbox.server.body import BodyLimits, read_body
from chatterbox.server.departure import while_listening
from chatterbox.server.lifecycle import Lifecycle
from chatterbox.server.record import RequestRecord, record_of
from chatterbox.server.schemas import (
    SEED_LIMIT,
    SpeechFields,
    fields_of,
    form_schema,
    only_file,
)
from chatterbox.server.speech import SpeechCall, SpeechService, sampling_over

AUDIO_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"description": "Sound", "content": {row.media_type: {} for row in FORMATS.values()}}
}


class SpeechAnswer(Response):
    """Reads the call and answers it, all inside one scope: an upload, a place and the engine's
    rows are given back when this returns, however it does."""

    def __init__(
        self, routes: "SpeechRoutes", request: Request, *, metadata_only: bool = False
    ) -> None:
        super().__init__()
        self._routes = routes
        self._request = request
        self._metadata_only = metadata_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        routes, record = self._routes, record_of(scope)
        record.speech = True
        routes.lifecycle.check_room()
        async with read_body(self._request, routes.limits) as body:
            fields = fields_of(SpeechFields, body)
            call = routes.call(fields, only_file(body, "voice_file", required=False))
            routes.service.check(call)
            if self._metadata_only:
                answer = await routes.metadata(call, record, receive)
            elif fields.stream:
                await send_streamed(routes.service, call, record, receive, send)
                return
            else:
                answer = await whole_response(routes.service, call, record, receive)
        await answer(scope, receive, send)


class SpeechRoutes:
    """What the two calls share."""

    def __init__(
        self,
        service: SpeechService,
        lifecycle: Lifecycle,
        tts_config: TTSConfig,
        server_config: ServerConfig,
    ) -> None:
        self.service = service
        self.lifecycle = lifecycle
        self.limits = BodyLimits.for_text(
            server_config.max_text_length, server_config.max_voice_file_size
        )
        self._defaults = tts_config

    def router(self) -> APIRouter:
        """The routes."""
        router = APIRouter(tags=["speech"])

        @router.post(
            "/tts",
            response_class=Response,
            responses=AUDIO_ANSWER,
            openapi_extra=form_schema(SpeechFields, file="voice_file"),
        )
        async def tts(request: Request) -> Response:
            """Text to speech, streamed while it is made unless `stream` is false."""
            return SpeechAnswer(self, request)

        @router.post("/tts/json", openapi_extra=form_schema(SpeechFields, file="voice_file"))
        async def tts_json(request: Request) -> Response:
            """As `/tts`, but answers with the figures of the speech instead of its sound."""
            return SpeechAnswer(self, request, metadata_only=True)

        return router

    def call(self, fields: SpeechFields, reference: UploadFile | None) -> SpeechCall:
        """The call in our words. Raises InvalidValue."""
        if reference is not None and fields.voice_id is not None:
            raise InvalidValue("Give 'voice_id' or 'voice_file', not both.", param="voice_id")
        seed = secrets.randbelow(SEED_LIMIT) if fields.seed is None else fields.seed
        return SpeechCall(
            text=fields.text,
            voice=fields.voice_id,
            reference=reference,
            sampling=sampling_over(
                self._defaults,
                temperature=fields.temperature,
                top_k=fields.top_k,
                top_p=fields.top_p,
                repetition_penalty=fields.repetition_penalty,
            ),
            seed=seed,
            max_new_tokens=fields.max_new_tokens,
            format=audio_format(fields.response_format, fields.sample_rate),
        )

    async def metadata(self, call: SpeechCall, record: RequestRecord, receive: Receive) -> Response:
        """The figures of a call's speech."""
        _, report = await while_listening(receive, self.service.whole(call, record))
        body = {
            "request_id": record.id,
            "audio_duration": round(report.audio_s, 3),
            "generation_time": round(report.generation_s, 3),
            "rtf": round(report.rtf, 4),
            "tokens_generated": report.codes,
            "segments": report.segments,
            "first_audio": None if report.first_audio_s is None else round(report.first_audio_s, 3),
            "finish_reason": report.finish_reason,
            "sample_rate": call.format.sample_rate_hz,
            "seed": call.seed,
        }
        headers = {"Cache-Control": "no-store", "X-Seed": str(call.seed)}
        return JSONResponse(body, headers=headers)
