"""How does text that is still arriving become speech? One utterance after the other.

An utterance is whatever sentences are whole when the one before it has been sent; it holds a place
only while it is spoken. Knows no protocol: a listener says what happens to the sound.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from chatterbox.dialects.services import Services
from chatterbox.dialects.shared.char_timing import Timing
from chatterbox.dialects.shared.speech_queue import Mark, SpeechQueue
from chatterbox.engine.speech_stream import SpeechReport, SpeechRequest
from chatterbox.errors import ChatterboxError, EmptyText, InternalError, TextFault
from chatterbox.runtime.contract import F32, SAMPLE_RATE_HZ
from chatterbox.server.access_record import AccessRecord, request_id
from chatterbox.server.speech_service import LiveSpeech
from chatterbox.text import CodeBlocks

log = logging.getLogger("chatterbox.requests")

PART_SAMPLES = SAMPLE_RATE_HZ // 2
"""Sound is passed on half a second at a time: no message is long, and other sockets have turns."""
LOOK_AHEAD_S = 0.005
"""A piece waits so long for the one after it: where a segment is made at once, its end is known
with its beginning, and its characters get their true times."""

Ended = Callable[[AccessRecord], None]


@dataclass(slots=True)
class Utterance:
    """What is being spoken. `timing` and `heard_s` are by its own clock, which begins with the
    pause that parts it from the one before."""

    index: int
    call: SpeechRequest
    report: SpeechReport
    timing: Timing
    heard_s: float = 0.0  # of its sound, passed on so far

    @property
    def text(self) -> str:
        """As it was sent."""
        return self.call.text


class Listener(Protocol):
    """What becomes of the sound; each may wait as long as its reader does."""

    async def begins(self, utterance: Utterance, /) -> None:
        """There is sound of it."""
        ...

    async def sounds(self, utterance: Utterance, samples: F32, /) -> None:
        """[samples] of it, at 24 kHz; `utterance.heard_s` counts them already."""
        ...

    async def ends(self, utterance: Utterance, /) -> None:
        """All of it was passed on."""
        ...

    async def reaches(self, token: Any, /) -> None:
        """All that came before a mark has been spoken."""
        ...


class IncrementalSpeech:
    """Speaks what its `inbox` is given, until it is ended and empty; cancelling `run` is silence.

    `call_of` makes a call of text that came in pieces; its seed is the first one's, so that the
    same text and seed give the same speech however it arrived in sentences.
    """

    def __init__(
        self,
        backend: Services,
        ended: Ended,
        route: str,
        listener: Listener,
        *,
        call_of: Callable[[str], SpeechRequest],
        least_chars: tuple[int, ...] = (),
        code_blocks: CodeBlocks | None = None,
    ) -> None:
        self.inbox = SpeechQueue(
            backend.config.max_text_length,
            least_chars,
            code_blocks=code_blocks or backend.engine.config.code_blocks,
        )
        self.speaking = False
        self.spoken = 0  # utterances
        self._backend = backend
        self._ended = ended
        self._route = route
        self._listener = listener
        self._call_of = call_of
        self._pause_s = backend.engine.config.segment_pause_ms / 1000
        self._continues = False  # the next utterance continues the sound of the last one

    @property
    def busy(self) -> bool:
        """Whether it speaks or will without being asked again."""
        return self.speaking or self.inbox.waiting

    async def run(self) -> None:
        """Raises what stops a call from being spoken. Passed over, but in the log: text without
        words, and a text that could not be read for a fault of ours."""
        while (item := await self.inbox.next()) is not None:
            if isinstance(item, Mark):
                self._continues = False
                await self._listener.reaches(item.token)
                continue
            call = self._call_of(item) if isinstance(item, str) else item
            self._continues = self._continues and isinstance(item, str)
            if not call.text.strip():
                continue
            self.speaking = True
            try:
                with contextlib.suppress(EmptyText, TextFault):
                    await self._speak(call)
            finally:
                self.speaking = False

    async def _speak(self, call: SpeechRequest) -> None:
        service = self._backend.service
        with _recorded(self._route, self._ended) as record:
            async with service.open(call, record, plus_sound=True) as speaking:
                lead_s = self._pause_s if self._continues else 0.0
                timing = Timing(call.text, speaking.report, lead_s)
                utterance = Utterance(self.spoken, call, speaking.report, timing)
                self.spoken += 1
                self._continues = True
                await self._listener.begins(utterance)
                if lead_s:
                    silence = np.zeros(round(lead_s * SAMPLE_RATE_HZ), np.float32)
                    await self._pass_on(utterance, silence)
                async with contextlib.aclosing(_ahead(speaking)) as pieces:
                    async for piece in pieces:
                        for start in range(0, len(piece), PART_SAMPLES):
                            await self._pass_on(utterance, piece[start : start + PART_SAMPLES])
                await self._listener.ends(utterance)

    async def _pass_on(self, utterance: Utterance, samples: F32) -> None:
        utterance.heard_s += len(samples) / SAMPLE_RATE_HZ
        await self._listener.sounds(utterance, samples)
        await asyncio.sleep(0)  # a send to a fast reader does not wait; a cancel must be seen


async def _ahead(speaking: LiveSpeech) -> AsyncGenerator[F32, None]:
    """The pieces; each with the next one in view where that is there at once."""
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
