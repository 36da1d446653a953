"""How does sound leave? Streamed while it is made, or whole with its figures in the headers.

Knows formats and HTTP; knows neither fields nor voices.
"""

import asyncio
from collections.abc import Iterator, Mapping

from starlette.responses import Response
from starlette.types import Receive, Send

from chatterbox.audio.encode import encode_whole, encoder_for, media_type
from chatterbox.engine.speech import SpeechReport
from chatterbox.errors import ChatterboxError
from chatterbox.model.contract import F32, SAMPLE_RATE_HZ
from chatterbox.server.departure import while_listening
from chatterbox.server.record import RequestRecord
from chatterbox.server.speech import SpeechCall, SpeechService

PART_SAMPLES = SAMPLE_RATE_HZ
"""A piece is encoded and sent a second at a time, with a turn of the event loop between: a whole
segment at once would hold up every other connection."""


def audio_headers(call: SpeechCall) -> dict[str, str]:
    """What is known of the sound before it is made."""
    return {
        "Content-Type": media_type(call.response_format),
        "Content-Disposition": f'inline; filename="speech.{call.response_format}"',
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",  # nginx would collect the stream before passing it on
        "X-Sample-Rate": str(SAMPLE_RATE_HZ),
        "X-Seed": str(call.seed),
    }


def report_headers(report: SpeechReport) -> dict[str, str]:
    """What is known of it afterwards."""
    return {
        "X-Audio-Duration": f"{report.audio_s:.3f}",
        "X-Generation-Time": f"{report.generation_s:.3f}",
        "X-RTF": f"{report.rtf:.4f}",
        "X-Tokens-Generated": str(report.codes),
    }


async def send_streamed(
    service: SpeechService, call: SpeechCall, record: RequestRecord, receive: Receive, send: Send
) -> None:
    """Speak `call` to the client as it is made.

    Nothing is sent before the first sound, so until then errors are raised and get their status.
    After it there is no status left: the answer stays without its last chunk, which makes the
    server cut the connection, and the client sees a broken transfer rather than a short file.
    """
    encoder = encoder_for(call.response_format)
    started = False

    async def speak() -> None:
        nonlocal started
        async with service.open(call, record, plus_sound=True) as speaking:
            started = True
            await _send_start(send, audio_headers(call))
            await _send_body(send, encoder.start())
            async for piece in speaking:
                for part in _parts(piece):
                    await _send_body(send, encoder.feed(part))
            await _send_body(send, encoder.finish())

    try:
        await while_listening(receive, speak())
    except ChatterboxError as error:
        if not started:
            raise
        record.failed(error)
    else:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def whole_response(
    service: SpeechService, call: SpeechCall, record: RequestRecord, receive: Receive
) -> Response:
    """Speak `call` to its end, then answer with one file whose header has its true length."""
    samples, report = await while_listening(receive, service.whole(call, record))
    data = await asyncio.to_thread(encode_whole, call.response_format, samples)
    return Response(data, headers={**audio_headers(call), **report_headers(report)})


def _parts(piece: F32) -> Iterator[F32]:
    for start in range(0, len(piece), PART_SAMPLES):
        yield piece[start : start + PART_SAMPLES]


async def _send_start(send: Send, headers: Mapping[str, str]) -> None:
    raw = [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
    ]
    await send({"type": "http.response.start", "status": 200, "headers": raw})


async def _send_body(send: Send, data: bytes) -> None:
    if data:
        await send({"type": "http.response.body", "body": data, "more_body": True})
        await asyncio.sleep(0)  # a send to a fast reader does not wait; a departure must be seen
