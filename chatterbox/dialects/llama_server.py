"""llama.cpp's `POST /v1/completions`, as clients of Orpheus use it: a prompt in, audio tokens out.

docs/reference/dialects.md, "llama-server". Such clients decode SNAC themselves. Each token is an
event of its own: they read no more than one from an event.
"""

import json
import re
import time
from typing import Any

from fastapi import APIRouter, Request
from pydantic import AliasChoices, Field
from starlette.responses import JSONResponse, Response

from chatterbox.arrays import F32
from chatterbox.audio.encode import audio_format
from chatterbox.config.tts import RepetitionPenalty
from chatterbox.dialects.openai.speech import error_shape as openai_error
from chatterbox.engine.speech_stream import SpeechReport, SpeechRequest
from chatterbox.errors import ChatterboxError, RouteNotFound
from chatterbox.server.body import Body
from chatterbox.server.dialect import Dialect, Services
from chatterbox.server.request_log import record_of
from chatterbox.server.schemas import (
    SamplingFields,
    Text,
    form_schema,
    lenient_fields_of,
)
from chatterbox.server.speech_response import Framing, SpeechPlan, SpeechResponse

PATH = "/v1/completions"
PCM = audio_format("pcm")
CONTROL = re.compile(r"<\|(?:audio|eot_id|begin_of_text)\|>|<custom_token_\d+>")
"""What clients write around `voice: text`."""
PROMPT = re.compile(r"(?:(?P<voice>[^\s:]{1,64}):(?:\s+|$))?(?P<text>.*)", re.DOTALL)


class Fields(SamplingFields):
    """Of llama.cpp's own those that change something here."""

    prompt: Text = Field(description="`<|audio|>voice: text<|eot_id|>`; no voice: the default one")
    max_tokens: int | None = Field(
        None,
        ge=1,
        validation_alias=AliasChoices("max_tokens", "n_predict"),
        description="Most tokens of a segment",
    )
    repetition_penalty: RepetitionPenalty | None = Field(
        None,
        validation_alias=AliasChoices("repetition_penalty", "repeat_penalty"),
        description="1: off",
    )
    seed: int | None = Field(None, description="Equal seeds, equal tokens; none or -1: drawn")
    stream: bool = False


class Tokens(Framing):
    """Server-sent events in place of the sound: the tokens behind it."""

    def __init__(self, services: Services, fields: Fields, name: str) -> None:
        self._write = services.engine.family.token_text
        self._common: dict[str, Any] = {"id": name, "object": "text_completion"}
        self._common |= {"created": int(time.time()), "model": fields.model or "orpheus"}
        self._segment = self._sent = 0  # segments whose codes are sent, and codes of the next one

    def media_type(self, _call: SpeechRequest, /) -> str:
        return "text/event-stream"

    def wrap(self, _data: bytes, report: SpeechReport, /) -> bytes:
        """An event for each new token."""
        return b"".join(self._event(self._choice(self._text(code))) for code in self._new(report))

    def end(self, report: SpeechReport, /) -> bytes:
        """The rest, why it ended, and the last line that clients wait for."""
        last = self._event(self._choice("", _reason(report)) | {"usage": _usage(report)})
        return self.wrap(b"", report) + last + b"data: [DONE]\n\n"

    def error(self, error: ChatterboxError, request_id: str, /) -> bytes:
        """llama.cpp's clients look for `error` in an event."""
        return self._event(error_shape(error, request_id)[1])

    def whole(self, _call: SpeechRequest, _samples: F32, report: SpeechReport) -> Response:
        """All tokens as one text."""
        text = "".join(self._text(code) for codes in report.segment_codes for code in codes)
        body = self._common | self._choice(text, _reason(report)) | {"usage": _usage(report)}
        return JSONResponse(body, headers={"Cache-Control": "no-store"})

    def _new(self, report: SpeechReport) -> list[int]:
        """Codes that were not sent, in order; those of whole segments first."""
        new: list[int] = []
        while self._segment < len(report.segment_codes):
            new += report.segment_codes[self._segment][self._sent :]
            self._segment, self._sent = self._segment + 1, 0
        new += report.open_codes[self._sent :]
        self._sent = max(self._sent, len(report.open_codes))
        return new

    def _text(self, code: int) -> str:
        assert self._write is not None, "asked before the call was taken"
        return self._write(code)

    def _event(self, body: dict[str, Any]) -> bytes:
        return b"data: " + json.dumps(self._common | body).encode("ascii") + b"\n\n"

    def _choice(self, text: str, finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
        return {"choices": [choice]}


def _reason(report: SpeechReport) -> str:
    return "length" if report.finish_reason == "length" else "stop"


def _usage(report: SpeechReport) -> dict[str, int]:
    return {
        "prompt_tokens": report.text_ids,
        "completion_tokens": report.codes,
        "total_tokens": report.text_ids + report.codes,
    }


def error_shape(error: ChatterboxError, request_id: str) -> tuple[int, Any]:
    """OpenAI's, with the field named as here."""
    status, body = openai_error(error, request_id)
    if body["error"]["param"] == "input":
        body["error"]["param"] = "prompt"
    return status, body


def add_routes(routes: APIRouter, services: Services) -> None:
    @routes.post(PATH, openapi_extra=form_schema(Fields))
    async def completions(request: Request) -> Response:
        """llama-server: Orpheus' audio tokens for a prompt, for clients that decode SNAC."""
        name = f"cmpl-{record_of(request.scope).id}"

        def read(body: Body) -> SpeechPlan:
            if services.engine.family.token_text is None:
                raise RouteNotFound(
                    f"{services.engine.info.name} has no tokens that a client could decode; this "
                    "call needs Orpheus (CHATTERBOX_MODEL=orpheus). For sound, call "
                    "/v1/audio/speech."
                )
            fields, unknown = lenient_fields_of(Fields, body)
            said = PROMPT.fullmatch(CONTROL.sub("", fields.prompt).strip())
            assert said is not None, "it matches anything"
            voice = said["voice"]
            call = services.speech.build_request(
                said["text"],
                None if voice is None else services.voices.resolve(voice),
                PCM,
                sampling=fields,
                seed=None if fields.seed == -1 else fields.seed,
                max_new_tokens=fields.max_tokens,
                ignored=unknown,
            )
            tokens = Tokens(services, fields, name)
            return SpeechPlan(call, tokens, build=None if fields.stream else tokens.whole)

        return SpeechResponse(services.speech, request, read)


DIALECT = Dialect(add_routes, tag="llama-server", paths=(PATH,), error_shape=error_shape)
