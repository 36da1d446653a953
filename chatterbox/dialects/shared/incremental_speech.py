"""Speech of text that is still arriving: a queue of text, and a voice that speaks what is in it.

An utterance is whatever sentences are complete when the one before it has been sent; it holds a
place in the engine only while it is spoken. A protocol subclasses `IncrementalSpeech` for each
continuous sound, and overrides what is sent; `sockets.py` has its kinds of socket.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.dialects.shared.alignment import Timing, original_pieces
from chatterbox.dialects.shared.sentence_buffer import SentenceBuffer
from chatterbox.engine.speech_stream import SpeechReport, SpeechRequest
from chatterbox.errors import (
    ChatterboxError,
    EmptyText,
    InternalError,
    Overloaded,
    TextFault,
    TextTooLong,
)
from chatterbox.server.dialect import Services
from chatterbox.server.request_log import AccessRecord, OnRequestEnd, request_id
from chatterbox.server.speech_response import PART_SAMPLES
from chatterbox.server.speech_service import LiveSpeech
from chatterbox.text import CodeBlocks

MOST_ITEMS = 256
"""Most calls and marks that may wait on one socket."""
LOOK_AHEAD_S = 0.005
"""How long a piece waits for the one after it. Where a segment is made at once, its end is then
known with its beginning, and its characters get their true times."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Comes out of the queue once all before it has been spoken."""

    token: Any


Item = str | SpeechRequest | Mark


class SpeechQueue:
    """Text in pieces, whole calls and marks, in order. Filled by whoever reads the socket, emptied
    by whoever speaks; belongs to the event loop."""

    def __init__(
        self, max_chars: int, least_chars: Sequence[int] = (), *, code_blocks: CodeBlocks = "skip"
    ) -> None:
        self.ended = False
        self._max_chars = max_chars
        self._buffer = SentenceBuffer(least_chars, code_blocks=code_blocks)
        self._ready: deque[Item] = deque()
        self._at_once = False
        self._news = asyncio.Event()

    @property
    def waiting(self) -> bool:
        """Whether anything is left to speak without more text."""
        return bool(self._ready)

    def feed(self, text: str, *, complete: bool = False, at_once: bool = False) -> None:
        """More text; see SentenceBuffer. Raises TextTooLong where too much waits already."""
        self._check_room(len(text))
        self._buffer.feed(text, complete=complete)
        self._at_once |= at_once
        self._news.set()

    def flush(self) -> None:
        """Release what is there, whole sentence or not."""
        if not self._buffer.is_blank():  # blanks will lead what comes next
            self._put(self._buffer.flush())

    def call(self, call: SpeechRequest) -> None:
        """A text that is whole by itself. Raises TextTooLong and Overloaded."""
        self._check_room(len(call.text))
        self._close()
        self._put(call)

    def mark(self, token: Any) -> None:
        """Have `token` come out once everything before it has been spoken. Raises Overloaded."""
        self._close()
        self._put(Mark(token))

    def end(self, token: Any) -> None:
        """The last mark: nothing more comes."""
        self.mark(token)
        self.ended = True

    async def next(self) -> Item | None:
        """Wait for it; None: all has been spoken and nothing more comes."""
        while True:
            if self._ready:
                return self._ready.popleft()
            if whole := self._buffer.take(at_once=self._at_once):
                self._at_once = False
                return whole
            if self.ended:
                return None
            self._news.clear()
            await self._news.wait()

    def _close(self) -> None:
        """This text is over: code that was not closed does not reach into the next."""
        self.flush()
        self._buffer.close()

    def _put(self, item: Item) -> None:
        if len(self._ready) >= MOST_ITEMS:
            raise Overloaded(f"More than {MOST_ITEMS} things wait to be spoken.")
        self._ready.append(item)
        self._news.set()

    def _check_room(self, chars: int) -> None:
        if sum(map(_chars, self._ready)) + len(self._buffer) + chars > self._max_chars:
            raise TextTooLong(
                f"More than {self._max_chars} characters wait to be spoken.", param="text"
            )


def _chars(item: Item) -> int:
    return 0 if isinstance(item, Mark) else len(item if isinstance(item, str) else item.text)


@dataclass(slots=True)
class Utterance:
    """What is being spoken. `timing` and `sent_s` count from the start of its audio, which begins
    with the pause after the utterance before."""

    index: int
    call: SpeechRequest
    report: SpeechReport
    timing: Timing
    sent_s: float = 0.0  # of its audio, passed on so far


class IncrementalSpeech:
    """Speaks what is put into `queue` until that is ended and empty. Cancelling `run` stops it.

    The `on_` methods say what is sent; each call may wait for a slow reader.
    """

    route: str
    """As the log and the metrics name it."""

    def __init__(
        self,
        services: Services,
        *,
        least_chars: tuple[int, ...] = (),
        code_blocks: CodeBlocks | None = None,
    ) -> None:
        self.services = services
        self.queue = SpeechQueue(
            services.config.max_text_length,
            least_chars,
            code_blocks=code_blocks or services.engine.config.code_blocks,
        )
        self.spoken = 0  # utterances
        self.spoken_s = 0.0  # audio of those that are over
        self._speaking = False
        self._continues = False  # the next utterance continues the sound of the last one

    def call_of(self, text: str) -> SpeechRequest:  # noqa: ARG002
        """The call for text that came in pieces."""
        raise AssertionError("a protocol that feeds pieces says what they are spoken as")

    async def on_start(self, utterance: Utterance, /) -> None:
        """The utterance's first audio is there."""

    async def on_audio(self, utterance: Utterance, samples: F32, /) -> None:
        """[samples] at 24 kHz; `utterance.sent_s` counts them already."""

    async def on_end(self, utterance: Utterance, /) -> None:
        """All of the utterance was passed on."""

    async def on_mark(self, token: Any, /) -> None:
        """All that was queued before the mark has been spoken."""

    @property
    def busy(self) -> bool:
        """Whether it is speaking, or has something left to speak."""
        return self._speaking or self.queue.waiting

    async def run(self) -> None:
        """Raises the error that stops a call. Skipped, but logged: text without words, and text
        that could not be read because of a fault here."""
        while (item := await self.queue.next()) is not None:
            if not isinstance(item, str):
                self._continues = False
            if isinstance(item, Mark):
                await self.on_mark(item.token)
                continue
            call = self.call_of(item) if isinstance(item, str) else item
            if not call.text.strip():
                continue
            self._speaking = True
            try:
                with contextlib.suppress(EmptyText, TextFault):
                    await self._speak(call)
            finally:
                self._speaking = False

    async def _speak(self, call: SpeechRequest) -> None:
        services = self.services
        with _recorded(self.route, services.on_request_end) as record:
            async with services.speech.open(call, record) as speaking:
                pause_s = services.engine.config.segment_pause_ms / 1000
                lead_s = pause_s if self._continues else 0.0
                report = speaking.report
                timing = Timing(original_pieces(call.text, report.segment_texts), report, lead_s)
                utterance = Utterance(self.spoken, call, report, timing)
                self.spoken += 1
                self._continues = True
                await self.on_start(utterance)
                if lead_s:
                    silence = np.zeros(round(lead_s * SAMPLE_RATE_HZ), np.float32)
                    await self._pass_on(utterance, silence)
                async with contextlib.aclosing(_ahead(speaking)) as pieces:
                    async for piece in pieces:
                        for start in range(0, len(piece), PART_SAMPLES):
                            await self._pass_on(utterance, piece[start : start + PART_SAMPLES])
                await self.on_end(utterance)
                self.spoken_s += utterance.sent_s

    async def _pass_on(self, utterance: Utterance, samples: F32) -> None:
        utterance.sent_s += len(samples) / SAMPLE_RATE_HZ
        await self.on_audio(utterance, samples)
        await asyncio.sleep(0)  # a send to a fast reader does not wait; a cancel must be seen


async def _ahead(speaking: LiveSpeech) -> AsyncGenerator[F32, None]:
    """The pieces; each waits a moment for the next, see LOOK_AHEAD_S."""
    pending = asyncio.ensure_future(anext(speaking, None))
    try:
        while (piece := await pending) is not None:
            pending = asyncio.ensure_future(anext(speaking, None))
            await asyncio.wait({pending}, timeout=LOOK_AHEAD_S)
            yield piece
    finally:
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)


@contextlib.contextmanager
def _recorded(route: str, ended: OnRequestEnd) -> Iterator[AccessRecord]:
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
        record.log()
        ended(record)
