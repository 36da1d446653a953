"""One request's speech: submits its segments as sequences, and joins their sound in order.

Not thread-safe: used by the event loop alone.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Hashable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.audio.encode import AudioFormat, audio_format
from chatterbox.audio.shaping import Joiner, Loudness, Pace
from chatterbox.engine.sampler import Sampling
from chatterbox.engine.sequence import (
    FinishReason,
    Outbox,
    PlaybackClock,
    SegmentEnd,
    Sequence,
)
from chatterbox.errors import ChatterboxError, TextTooLong
from chatterbox.families.base import Prompts, Voice
from chatterbox.text import CodeBlocks, Segment

WAV = audio_format("wav")
MIN_TOKENS = 25
"""Tokens that must fit behind a prompt: a second of sound. Longer prompts are refused."""
BADNESS: tuple[FinishReason, ...] = ("stop", "length", "guard")
"""Finish reasons; a request reports the last of its segments' in this order."""


class Recording(Protocol):
    """A recording sent with a request. The server encodes it before the engine gets the request."""

    transcript: str | None

    def read(self) -> bytes:
        """Return the audio file's bytes."""


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """A request for speech: text, voice and parameters."""

    text: str
    voice: str | Voice | Recording | None  # a str is an id or name; None: the default voice
    sampling: Sampling
    seed: int
    max_new_tokens: int | None = None  # for each segment; None: the configured ceiling
    streamed: bool = True  # whether a listener plays it while it is made
    speed: float = 1.0  # 0.25 to 4, the pitch kept
    loudness_lufs: float | None = None  # None: unchanged
    tenant: Hashable = None  # the client, where API keys tell clients apart
    deterministic: bool = False  # equal requests give equal samples: nothing depends on time
    code_blocks: CodeBlocks | None = None  # None: as configured
    silence_if_wordless: bool = False  # a short silence for `---` or an emoji, not EmptyText
    format: AudioFormat = WAV  # of the answer
    ignored: tuple[str, ...] = ()  # names of the call's parameters that change nothing
    model: str | None = None  # name of the model; None: the default one


@dataclass(slots=True)
class SpeechReport:
    """Facts about a request's speech; complete once its stream has ended."""

    segments: int
    segment_texts: tuple[str, ...] = ()  # as they are spoken
    segment_starts_s: list[float] = field(default_factory=list)  # in the sound, of started segments
    segment_ends_s: list[float] = field(default_factory=list)  # of complete segments
    segment_codes: list[tuple[int, ...]] = field(default_factory=list)  # of complete segments
    open_codes: tuple[int, ...] = ()  # of the incomplete segment, as far as it was read
    text_ids: int = 0  # of the segments submitted so far
    audio_s: float = 0.0
    first_audio_s: float | None = None  # since `speak`
    generation_s: float = 0.0  # since `speak`, without waiting for a slow reader
    finish_reason: FinishReason = "stop"  # the worst of all segments
    retries: int = 0  # takes that were thrown away

    @property
    def codes(self) -> int:
        """Codes of all segments."""
        return sum(len(codes) for codes in self.segment_codes)

    @property
    def rtf(self) -> float:
        """Generation time over audio time; 0 when there is no audio."""
        return self.generation_s / self.audio_s if self.audio_s else 0.0


class SpeechStream:
    """The sound of one request: an async context manager and iterator of float32 samples [n] at
    24 kHz. Leaving the context cancels the request's sequences at the next step."""

    def __init__(
        self,
        request: SpeechRequest,
        segments: list[Segment],
        *,
        prompts: Prompts,
        submit: Callable[[Sequence], None],
        wake: Callable[[], None],
        ceiling_codes: int,
        positions: int,
        max_inflight_segments: int,
        pause_s: float,
    ) -> None:
        assert isinstance(request.voice, Voice), "the engine speaks with encoded voices"
        texts = tuple(segment.text for segment in segments)
        self.report = SpeechReport(segments=len(segments), segment_texts=texts)
        self._request, self._voice, self._segments = request, request.voice, segments
        self._prompts, self._submit, self._wake = prompts, submit, wake
        self._ceiling_codes = min(ceiling_codes, request.max_new_tokens or ceiling_codes)
        self._positions, self._pause_s = positions, pause_s
        self._segments_ahead = max_inflight_segments
        self._outboxes: list[Outbox] = []
        self._playback = PlaybackClock(live=request.streamed, speed=request.speed)
        self._joiner = Joiner()
        self._pace = Pace(request.speed)
        self._loudness = Loudness(request.loudness_lufs) if request.loudness_lufs else None
        self._started_s = time.monotonic()
        self._news: asyncio.Event | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        news = self._news = asyncio.Event()
        self._listener = lambda: _call_soon(loop, news.set)
        try:
            self._submit_ahead(0)
        except BaseException:
            self._leave()  # cancel the sequences already submitted
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        for outbox in self._outboxes:
            outbox.close()
        self._wake()

    async def __aiter__(self) -> AsyncIterator[F32]:
        async for samples in self._joined():
            piece = self._pace.feed(self._loudness.feed(samples) if self._loudness else samples)
            if len(piece):
                yield piece
        if len(rest := self._pace.finish()):
            yield rest

    async def _joined(self) -> AsyncIterator[F32]:
        """The segments and the pauses between them, at the model's own speed."""
        for index, segment in enumerate(self._segments):
            self._submit_ahead(index)
            if pause_s := self._pause_before_s(index):
                yield self._count(self._joiner.silence(pause_s), audible=False)
            self.report.segment_starts_s.append(self.report.audio_s)
            async for piece in self._pieces(self._outboxes[index]):
                yield self._count(piece)
            if segment.pause_after_s:
                silence = self._joiner.silence(segment.pause_after_s)
                yield self._count(silence, audible=False)

    def _submit_ahead(self, index: int) -> None:
        """Submit segment `index` and as many later ones as may be in work."""
        wanted = min(index + self._segments_ahead, len(self._segments))
        for index in range(len(self._outboxes), wanted):
            text, request = self._segments[index].text, self._request
            outbox = Outbox(self._listener)
            self._outboxes.append(outbox)
            prompt = self._prompts.prompt(text, self._voice)
            self.report.text_ids += prompt.text_tokens
            if index:
                self._playback.add(index, self._pause_before_s(index), time.monotonic())
            self._submit(
                Sequence(
                    voice=self._voice,
                    prompt=prompt,
                    text_chars=len(text),
                    sampling=request.sampling,
                    max_tokens=self._max_tokens(len(prompt)),
                    seed=request.seed,
                    index=index,
                    outbox=outbox,
                    playback=self._playback,
                    tenant=request.tenant,
                    deterministic=request.deterministic,
                )
            )

    def _pause_before_s(self, index: int) -> float:
        """Seconds of silence before a segment: as the text says, or the default."""
        return self._segments[index].pause_before_s or (self._pause_s if index else 0.0)

    def _max_tokens(self, prompt: int) -> int:
        """Most tokens of a segment: the ceiling, or the positions left behind the prompt."""
        room = self._positions - prompt
        if room < MIN_TOKENS:
            raise TextTooLong("A sentence of the text has too many symbols for this model.")
        return min(self._ceiling_codes, room)

    async def _pieces(self, outbox: Outbox) -> AsyncIterator[F32]:
        """The non-empty pieces of one segment, its edges faded."""
        assert self._news is not None, "a SpeechStream is used inside `async with`"
        first, end = True, None
        while end is None:
            self._news.clear()
            was_full = outbox.full
            item = outbox.take()
            if item is None:
                await self._news.wait()
                continue
            if isinstance(item, ChatterboxError):
                raise item
            end = item if isinstance(item, SegmentEnd) else None
            samples = np.zeros(0, np.float32) if isinstance(item, SegmentEnd) else item
            self.report.open_codes = () if end else outbox.codes
            piece = self._joiner.piece(
                samples, first_of_segment=first, last_of_segment=end is not None
            )
            first = False
            if end is not None:
                self._note(end, len(piece))
            if len(piece):
                yield piece
            if was_full and not outbox.full:
                self._wake()

    def _note(self, end: SegmentEnd, last_samples: int) -> None:
        """Add a segment's end to the report, before its last piece is yielded."""
        report = self.report
        report.segment_codes.append(end.codes)
        report.segment_ends_s.append(report.audio_s + self._seconds(last_samples))
        report.generation_s = max(report.generation_s, end.at_s - self._started_s)
        report.retries += end.retries
        report.finish_reason = max(report.finish_reason, end.finish_reason, key=BADNESS.index)

    def _count(self, samples: F32, *, audible: bool = True) -> F32:
        report = self.report
        if audible and report.first_audio_s is None:
            report.first_audio_s = time.monotonic() - self._started_s
        report.audio_s += self._seconds(len(samples))
        return samples

    def _seconds(self, samples: int) -> float:
        """Duration of `samples` at the request's speed."""
        return samples / SAMPLE_RATE_HZ / self._request.speed


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:  # the event loop is closed
        return
