"""llama.cpp's `POST /v1/completions`, as clients of Orpheus use it: a prompt in, audio tokens out.

docs/reference/dialects.md, "llama-server". These clients decode SNAC themselves and read only
one token from each event.
"""

import re
import time
from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, Request
from pydantic import AliasChoices, Field
from starlette.responses import JSONResponse, Response

from chatterbox.arrays import F32
from chatterbox.config.tts import RepetitionPenalty
from chatterbox.dialects.openai.speech import error_shape as openai_error
from chatterbox.dialects.openai.speech import event
from chatterbox.dialects.shared.incremental_speech import PCM
from chatterbox.engine.speech_stream import SpeechReport, SpeechRequest
from chatterbox.errors import ChatterboxError, RouteNotFound
from chatterbox.server.body import Body
from chatterbox.server.dialect import Dialect, Services
from chatterbox.server.request_log import record_of
from chatterbox.server.schemas import SamplingFields, Text, form_schema, parse_lenient_fields
from chatterbox.server.speech_response import Framing, SpeechPlan, SpeechResponse

PATH = "/v1/completions"
CONTROL = re.compile(r"<\|(?:audio|eot_id|begin_of_text)\|>|<custom_token_\d+>")
"""Control tokens that clients put around `voice: text`."""
PROMPT = re.compile(r"(?:(?P<voice>[^\s:]{1,64}):(?:\s+|$))?(?P<text>.*)", re.DOTALL)


class Fields(SamplingFields):
    """The fields of llama.cpp that have an effect here."""

    prompt: Text = Field(description="`<|audio|>voice: text<|eot_id|>`; the voice is optional")
    max_tokens: int | None = Field(
        None,
        ge=1,
        validation_alias=AliasChoices("max_tokens", "n_predict"),
        description="Limit of tokens per segment",
    )
    repetition_penalty: RepetitionPenalty | None = Field(
        None,
        validation_alias=AliasChoices("repetition_penalty", "repeat_penalty"),
        description="1 is off",
    )
    seed: int | None = Field(None, description="Same seed, same tokens; -1 is random, the default")
    stream: bool = False


class Tokens(Framing):
    """Sends the audio's tokens instead of the audio, as server-sent events."""

    media_type = "text/event-stream"

    def __init__(self, services: Services, fields: Fields, name: str) -> None:
        self._token_text = services.engine.family.token_text
        self._common: dict[str, Any] = {"id": name, "object": "text_completion"}
        self._common |= {"created": int(time.time()), "model": fields.model or "orpheus"}
        self._segment = 0  # index of the segment being sent
        self._sent = 0  # codes of that segment already sent

    def wrap(self, _data: bytes, report: SpeechReport, /) -> bytes:
        codes = self._new_codes(report)
        return b"".join(event(self._choice(self._text([code]))) for code in codes)

    def end(self, report: SpeechReport, /) -> bytes:
        """Return the remaining tokens, the finish reason, and the line that ends the stream."""
        return self.wrap(b"", report) + event(self._last("", report)) + b"data: [DONE]\n\n"

    def error(self, error: ChatterboxError, request_id: str, /) -> bytes:
        """Return an event with the field `error`, which llama.cpp's clients look for."""
        return event(self._common | error_shape(error, request_id)[1])

    def whole(self, _call: SpeechRequest, _samples: F32, report: SpeechReport) -> Response:
        """Build the answer with all tokens as one text."""
        text = "".join(map(self._text, report.segment_codes))
        return JSONResponse(self._last(text, report), headers={"Cache-Control": "no-store"})

    def _new_codes(self, report: SpeechReport) -> list[int]:
        """Return the codes not sent yet, of the complete segments and then of the open one."""
        new: list[int] = []
        while self._segment < len(report.segment_codes):
            new += report.segment_codes[self._segment][self._sent :]
            self._segment, self._sent = self._segment + 1, 0
        new += report.open_codes[self._sent :]
        self._sent = max(self._sent, len(report.open_codes))
        return new

    def _text(self, codes: Iterable[int]) -> str:
        assert self._token_text is not None, "add_routes refuses models without token texts"
        return "".join(map(self._token_text, codes))

    def _choice(self, text: str, finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
        return self._common | {"choices": [choice]}

    def _last(self, text: str, report: SpeechReport) -> dict[str, Any]:
        usage = {
            "prompt_tokens": report.text_ids,
            "completion_tokens": report.codes,
            "total_tokens": report.text_ids + report.codes,
        }
        reason = "length" if report.finish_reason == "length" else "stop"
        return self._choice(text, reason) | {"usage": usage}


def error_shape(error: ChatterboxError, request_id: str) -> tuple[int, Any]:
    """Return OpenAI's error body, with this call's name for the text field."""
    status, body = openai_error(error, request_id)
    if body["error"]["param"] == "input":
        body["error"]["param"] = "prompt"
    return status, body


def add_routes(routes: APIRouter, services: Services) -> None:
    @routes.post(PATH, openapi_extra=form_schema(Fields))
    async def completions(request: Request) -> Response:
        """llama-server: Orpheus' audio tokens for a prompt, for clients that decode SNAC."""
        name = f"cmpl-{record_of(request.scope).id}"

        def read_plan(body: Body) -> SpeechPlan:
            if services.engine.family.token_text is None:
                raise RouteNotFound(
                    f"{services.engine.info.name} has no tokens that clients can decode; this call "
                    "needs Orpheus (CHATTERBOX_MODEL=orpheus). For audio, call /v1/audio/speech."
                )
            fields, unknown = parse_lenient_fields(Fields, body)
            prompt = PROMPT.fullmatch(CONTROL.sub("", fields.prompt).strip())
            assert prompt is not None, "the pattern matches any text"
            call = services.speech.build_request(
                prompt["text"],
                services.voices.resolve(prompt["voice"]) if prompt["voice"] else None,
                PCM,
                sampling=fields,
                seed=None if fields.seed == -1 else fields.seed,
                max_new_tokens=fields.max_tokens,
                ignored=unknown,
            )
            tokens = Tokens(services, fields, name)
            return SpeechPlan(call, tokens, build=None if fields.stream else tokens.whole)

        return SpeechResponse(services.speech, request, read_plan)


DIALECT = Dialect(add_routes, tag="llama-server", paths=(PATH,), error_shape=error_shape)
