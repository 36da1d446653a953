"""Speech of text that is still arriving, one utterance after the other.

An utterance is whatever sentences are complete when the one before it has been sent; it holds a
place in the engine only while it is spoken. A socket protocol runs an `IncrementalSpeech` for each
continuous sound, and is the `Listener` that receives its audio.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.dialects.shared.char_timing import Timing
from chatterbox.dialects.shared.speech_queue import Mark, SpeechQueue
from chatterbox.engine.speech_stream import SpeechReport, SpeechRequest
from chatterbox.errors import ChatterboxError, EmptyText, InternalError, TextFault
from chatterbox.server.access_record import AccessRecord, request_id
from chatterbox.server.dialect import Services
from chatterbox.server.request_log import Ended
from chatterbox.server.speech_service import LiveSpeech
from chatterbox.text import CodeBlocks

log = logging.getLogger("chatterbox.requests")

PART_SAMPLES = SAMPLE_RATE_HZ // 2
"""Audio is passed on half a second at a time: messages stay short, and other sockets get turns."""
LOOK_AHEAD_S = 0.005
"""How long a piece waits for the one after it. Where a segment is made at once, its end is then
known with its beginning, and its characters get their true times."""


@dataclass(slots=True)
class Utterance:
    """What is being spoken. `timing` and `sent_s` count from the start of its audio, which begins
    with the pause after the utterance before."""

    index: int
    call: SpeechRequest
    report: SpeechReport
    timing: Timing
    sent_s: float = 0.0  # of its audio, passed on so far

    @property
    def text(self) -> str:
        """The text as the client sent it."""
        return self.call.text


class Listener:
    """Receives the audio; a protocol overrides what it sends. Each call may wait for a slow
    reader."""

    async def on_start(self, utterance: Utterance, /) -> None:
        """The utterance's first audio is there."""

    async def on_audio(self, utterance: Utterance, samples: F32, /) -> None:
        """[samples] at 24 kHz; `utterance.sent_s` counts them already."""

    async def on_end(self, utterance: Utterance, /) -> None:
        """All of the utterance was passed on."""

    async def on_mark(self, token: Any, /) -> None:
        """All that was queued before the mark has been spoken."""


class IncrementalSpeech:
    """Speaks what is put into `queue` until that is ended and empty. Cancelling `run` stops it.

    `call_of` makes a call of text that came in pieces.
    """

    def __init__(
        self,
        services: Services,
        route: str,
        listener: Listener,
        *,
        call_of: Callable[[str], SpeechRequest] | None = None,
        least_chars: tuple[int, ...] = (),
        code_blocks: CodeBlocks | None = None,
    ) -> None:
        self.queue = SpeechQueue(
            services.config.max_text_length,
            least_chars,
            code_blocks=code_blocks or services.engine.config.code_blocks,
        )
        self.speaking = False
        self.spoken = 0  # utterances
        self._services = services
        self._route = route
        self._listener = listener
        self._call_of = call_of
        self._pause_s = services.engine.config.segment_pause_ms / 1000
        self._continues = False  # the next utterance continues the sound of the last one

    @property
    def busy(self) -> bool:
        """Whether it is speaking, or has something left to speak."""
        return self.speaking or self.queue.waiting

    async def run(self) -> None:
        """Raises the error that stops a call. Skipped, but logged: text without words, and text
        that could not be read because of a fault here."""
        while (item := await self.queue.next()) is not None:
            if isinstance(item, Mark):
                self._continues = False
                await self._listener.on_mark(item.token)
                continue
            if isinstance(item, str):
                assert self._call_of is not None, "pieces of text need `call_of`"
                call = self._call_of(item)
            else:
                call, self._continues = item, False
            if not call.text.strip():
                continue
            self.speaking = True
            try:
                with contextlib.suppress(EmptyText, TextFault):
                    await self._speak(call)
            finally:
                self.speaking = False

    async def _speak(self, call: SpeechRequest) -> None:
        with _recorded(self._route, self._services.ended) as record:
            async with self._services.speech.open(call, record, plus_sound=True) as speaking:
                lead_s = self._pause_s if self._continues else 0.0
                timing = Timing(call.text, speaking.report, lead_s)
                utterance = Utterance(self.spoken, call, speaking.report, timing)
                self.spoken += 1
                self._continues = True
                await self._listener.on_start(utterance)
                if lead_s:
                    silence = np.zeros(round(lead_s * SAMPLE_RATE_HZ), np.float32)
                    await self._pass_on(utterance, silence)
                async with contextlib.aclosing(_ahead(speaking)) as pieces:
                    async for piece in pieces:
                        for start in range(0, len(piece), PART_SAMPLES):
                            await self._pass_on(utterance, piece[start : start + PART_SAMPLES])
                await self._listener.on_end(utterance)

    async def _pass_on(self, utterance: Utterance, samples: F32) -> None:
        utterance.sent_s += len(samples) / SAMPLE_RATE_HZ
        await self._listener.on_audio(utterance, samples)
        await asyncio.sleep(0)  # a send to a fast reader does not wait; a cancel must be seen


async def _ahead(speaking: LiveSpeech) -> AsyncGenerator[F32, None]:
    """The pieces; each waits a moment for the next, see LOOK_AHEAD_S."""
    pending: asyncio.Future[F32 | None] = asyncio.ensure_future(_next(speaking))
    try:
        piece = await pending
        while piece is not None:
            pending = asyncio.ensure_future(_next(speaking))
            await asyncio.wait({pending}, timeout=LOOK_AHEAD_S)
            yield piece
            piece = await pending
    finally:
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)


async def _next(speaking: LiveSpeech) -> F32 | None:
    return await anext(speaking, None)


@contextlib.contextmanager
def _recorded(route: str, ended: Ended) -> Iterator[AccessRecord]:
    """One line in the log and one count in the metrics for each utterance, as for a request."""
    record = AccessRecord(id=request_id(None), method="WS", route=route, speech=True)
    try:
        yield record
    except asyncio.CancelledError:
        record.outcome = "cancelled"
        raise
    except ChatterboxError as error:
        record.failed(error)
        raise
    except Exception:
        record.failed(InternalError("The server failed on this text."))
        raise
    finally:
        log.info("%s", record.line())
        ended(record)
