"""Speech of text that is still arriving: a queue of text, and the loop that speaks it.

An utterance consists of all sentences that are complete when the previous utterance has been sent.
It occupies a place in the engine only while it is spoken. A protocol subclasses `IncrementalSpeech`
and overrides the methods that send messages; each object is one continuous audio stream.
`sockets.py` has base classes for WebSockets with one stream and with several.

For example, a protocol that speaks each message and sends bare samples:

    class Plain(SocketSpeech):
        route = "/plain"

        async def take(self, message):
            self.queue.feed(message)

        def request_for(self, text):
            return self.services.speech.build_request(text, None, PCM)

        async def on_audio(self, utterance, samples):
            await self.socket.send(self.file.feed(samples))
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.audio.encode import AudioFormat, audio_format
from chatterbox.audio.encoders import Encoder
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
from chatterbox.server.request_log import AccessRecord, request_id
from chatterbox.server.speech_response import PART_SAMPLES
from chatterbox.server.speech_service import LiveSpeech
from chatterbox.text import CodeBlocks

PCM = audio_format("pcm")
MAX_ITEMS = 256
"""Most requests and actions that may wait in one queue; more are refused as `overloaded`."""
LOOK_AHEAD_S = 0.005
"""Longest time that a piece of audio is held back for the next piece. If a whole segment is decoded
at once, its end is then known when its first audio is sent, and its characters get exact times."""
Action = Callable[[], Awaitable[None]]
"""Sends a message once everything before it in the queue has been spoken."""
QueueItem = str | SpeechRequest | Action


class SpeechQueue:
    """Queue of text, complete requests and actions. The reader of a socket fills the queue and
    `IncrementalSpeech.run` empties it, both in the event loop."""

    def __init__(self, max_chars: int, *, code_blocks: CodeBlocks = "skip") -> None:
        self.ended = False
        self._max_chars = max_chars
        self._buffer = SentenceBuffer(code_blocks=code_blocks)
        self._ready: deque[QueueItem] = deque()
        self._at_once = False
        self._changed = asyncio.Event()

    @property
    def has_ready(self) -> bool:
        """Whether an item can be spoken without more text."""
        return bool(self._ready)

    def set_schedule(self, min_chars: Sequence[int]) -> None:
        """Set the minimum lengths of the parts that are spoken together; see SentenceBuffer."""
        self._buffer.min_chars = min_chars

    def feed(self, text: str, *, complete: bool = False, at_once: bool = False) -> None:
        """Add text in pieces of any size; see SentenceBuffer for the flags. Raises TextTooLong when
        more than `max_chars` would wait."""
        self._check_room(len(text))
        self._buffer.feed(text, complete=complete)
        self._at_once |= at_once
        self._changed.set()

    def flush(self) -> None:
        """Release the text that was fed, even in mid sentence."""
        if not self._buffer.is_blank():  # whitespace stays, to begin the next text
            self._put(self._buffer.flush())

    def add(self, request: SpeechRequest) -> None:
        """Add a request with a complete text. Raises TextTooLong and Overloaded."""
        self._check_room(len(request.text))
        self._end_text()
        self._put(request)

    def then(self, action: Action) -> None:
        """Run `action` once everything before it has been spoken. Raises Overloaded."""
        self._end_text()
        self._put(action)

    def end(self, action: Action) -> None:
        """End the queue; `action` is its last item. Raises Overloaded."""
        self.then(action)
        self.ended = True

    async def next(self) -> QueueItem | None:
        """Wait for the next item. Returns None once the queue is ended and empty."""
        while True:
            if self._ready:
                return self._ready.popleft()
            if sentences := self._buffer.take(at_once=self._at_once):
                self._at_once = False
                return sentences
            if self.ended:
                return None
            self._changed.clear()
            await self._changed.wait()

    def _end_text(self) -> None:
        """Flush the text, and close a code block that is still open."""
        self.flush()
        self._buffer.reset()

    def _put(self, item: QueueItem) -> None:
        if len(self._ready) >= MAX_ITEMS:
            raise Overloaded(f"More than {MAX_ITEMS} texts are waiting to be spoken.")
        self._ready.append(item)
        self._changed.set()

    def _check_room(self, chars: int) -> None:
        texts = (item.text if isinstance(item, SpeechRequest) else item for item in self._ready)
        waiting = sum(len(text) for text in texts if isinstance(text, str))
        if waiting + len(self._buffer) + chars > self._max_chars:
            raise TextTooLong(
                f"More than {self._max_chars} characters are waiting to be spoken.", param="text"
            )


@dataclass(slots=True)
class Utterance:
    """The utterance being spoken. Its audio begins with the pause after the previous utterance;
    `timing` and `sent_s` count from the start of that pause."""

    index: int
    request: SpeechRequest
    report: SpeechReport
    timing: Timing
    sent_s: float = 0.0  # audio sent so far


class OutputFile:
    """Encodes the audio of successive utterances into one file. The first samples open the
    encoder."""

    def __init__(self, form: AudioFormat) -> None:
        self._form = form
        self._encoder: Encoder | None = None

    def feed(self, samples: F32) -> bytes:
        """Encode [n] samples at 24 kHz. Returns the bytes that are ready, file header included."""
        if self._encoder is not None:
            return self._encoder.feed(samples)
        self._encoder = self._form.encoder()
        return self._encoder.start() + self._encoder.feed(samples)

    def finish(self) -> bytes:
        """Complete the file and return its last bytes. The next samples start another file."""
        data = self._encoder.finish() if self._encoder else b""
        self.close()
        return data

    def close(self) -> None:
        """Release the encoder, whether the file is complete or not."""
        if self._encoder is not None:
            self._encoder.close()
        self._encoder = None


class IncrementalSpeech:
    """Speaks the items of `queue` until it is ended and empty. Cancelling `run` stops the speech.

    Subclasses override the `on_` methods to send messages; each may wait for a slow reader.
    """

    route: str
    """Path of the call in the log and the metrics."""

    def __init__(
        self,
        services: Services,
        form: AudioFormat = PCM,
        *,
        code_blocks: CodeBlocks | None = None,
    ) -> None:
        self.services = services
        self.form = form
        self.file = OutputFile(form)
        self.queue = SpeechQueue(
            services.config.max_text_length,
            code_blocks=code_blocks or services.engine.config.code_blocks,
        )
        self.spoken = 0  # utterances started
        self.spoken_s = 0.0  # audio of the finished utterances
        self._is_speaking = False
        self._continues = False  # a pause separates the next utterance from the last one

    def request_for(self, text: str) -> SpeechRequest:  # noqa: ARG002
        """Return the request for sentences of the text that was fed in pieces."""
        raise AssertionError("a protocol that feeds pieces overrides this")

    async def on_start(self, utterance: Utterance, /) -> None:
        """Called when the utterance's first audio is ready."""

    async def on_audio(self, utterance: Utterance, samples: F32, /) -> None:
        """Send [n] samples at 24 kHz, already counted in `utterance.sent_s`."""

    async def on_end(self, utterance: Utterance, /) -> None:
        """Called when all audio of the utterance has been sent."""

    @property
    def is_busy(self) -> bool:
        """Whether an item is being spoken or can be spoken without more text."""
        return self._is_speaking or self.queue.has_ready

    async def run(self) -> None:
        """Speak until the queue is ended and empty. Raises the error of a request that fails. Text
        without words, and text that the server failed to read, is logged and skipped."""
        try:
            while (item := await self.queue.next()) is not None:
                self._continues &= isinstance(item, str)
                if not isinstance(item, str | SpeechRequest):
                    await item()
                    continue
                request = self.request_for(item) if isinstance(item, str) else item
                if request.text.strip():
                    with contextlib.suppress(EmptyText, TextFault):
                        await self._speak(request)
        finally:
            self.file.close()

    async def _speak(self, request: SpeechRequest) -> None:
        """Speak one utterance. It has a line in the log and counts as a request in the metrics."""
        record = AccessRecord(id=request_id(None), method="WS", route=self.route, is_speech=True)
        self._is_speaking = True
        try:
            async with self.services.speech.open(request, record) as speaking:
                await self._send_utterance(request, speaking)
        except asyncio.CancelledError:
            record.outcome = "cancelled"
            raise
        except ChatterboxError as error:
            record.set_error(error)
            raise
        except Exception:
            record.set_error(InternalError("The server failed on this text."))
            raise
        finally:
            self._is_speaking = False
            record.log()
            self.services.on_request_end(record)

    async def _send_utterance(self, request: SpeechRequest, speaking: LiveSpeech) -> None:
        pause_s = self.services.engine.config.segment_pause_ms / 1000
        lead_s = pause_s if self._continues else 0.0
        report = speaking.report
        timing = Timing(original_pieces(request.text, report.segment_texts), report, lead_s)
        utterance = Utterance(self.spoken, request, report, timing)
        self.spoken += 1
        self._continues = True
        await self.on_start(utterance)
        if lead_s:
            silence = np.zeros(round(lead_s * SAMPLE_RATE_HZ), np.float32)
            await self._send_part(utterance, silence)
        async with contextlib.aclosing(_with_look_ahead(speaking)) as pieces:
            async for piece in pieces:
                for start in range(0, len(piece), PART_SAMPLES):
                    await self._send_part(utterance, piece[start : start + PART_SAMPLES])
        await self.on_end(utterance)
        self.spoken_s += utterance.sent_s

    async def _send_part(self, utterance: Utterance, samples: F32) -> None:
        utterance.sent_s += len(samples) / SAMPLE_RATE_HZ
        await self.on_audio(utterance, samples)
        await asyncio.sleep(0)  # a send to a fast reader never waits, and would delay a cancel


async def _with_look_ahead(speaking: LiveSpeech) -> AsyncGenerator[F32, None]:
    """Yield each piece of audio once the next piece is ready, or after LOOK_AHEAD_S."""
    pending = asyncio.ensure_future(anext(speaking, None))
    try:
        while (piece := await pending) is not None:
            pending = asyncio.ensure_future(anext(speaking, None))
            await asyncio.wait({pending}, timeout=LOOK_AHEAD_S)
            yield piece
    finally:
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)
