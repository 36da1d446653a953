"""One request's speech: text → segments → sequences → pieces in order → one stream.

Belongs to the event loop.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.audio.encode import AudioFormat, audio_format
from chatterbox.audio.shaping import Joiner, Loudness, Pace
from chatterbox.engine import sequence as engine
from chatterbox.engine.sampler import Sampling
from chatterbox.engine.sequence import (
    FinishReason,
    Outbox,
    PlaybackClock,
    SegmentEnd,
)
from chatterbox.errors import ChatterboxError, TextTooLong
from chatterbox.families.base import Prompts, Voice
from chatterbox.text import CodeBlocks, Segment

WAV = audio_format("wav")
LEAST_CODES = 25  # a second of sound
BADNESS: tuple[FinishReason, ...] = ("stop", "length", "guard")


class Recording(Protocol):
    """A recording sent with a request. The server encodes it before the engine gets the request."""

    transcript: str | None

    def read(self) -> bytes:
        """Return the audio file's bytes."""


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """What to say, in whose voice, and how: from a client's call to the engine."""

    text: str
    voice: str | Voice | Recording | None  # a str is an id or name; None: the default voice
    sampling: Sampling
    seed: int
    max_new_tokens: int | None = None  # for each segment; None: the configured ceiling
    streamed: bool = True  # whether somebody hears it while it is made
    speed: float = 1.0  # 0.25 to 4, the pitch kept
    loudness_lufs: float | None = None  # None: as the model speaks
    tenant: Hashable = None  # who asks, where clients are told apart
    deterministic: bool = False  # the same samples again for the same request: nothing about the
    # sound then depends on time
    code_blocks: CodeBlocks | None = None  # None: as configured
    silence_if_wordless: bool = False  # a short silence for `---` or an emoji, not EmptyText
    format: AudioFormat = WAV  # of the answer
    ignored: tuple[str, ...] = ()  # names of the call's parameters that change nothing
    model: str | None = None  # which one, where there are several; None: the default one


@dataclass(slots=True)
class SpeechReport:
    """What came of a request; complete once its stream has ended."""

    segments: int
    segment_texts: tuple[str, ...] = ()  # as they are spoken
    segment_starts_s: list[float] = field(default_factory=list)  # in the sound, of those begun
    segment_ends_s: list[float] = field(default_factory=list)  # of those whose sound is complete
    segment_codes: list[tuple[int, ...]] = field(default_factory=list)  # of the same
    open_codes: tuple[int, ...] = ()  # of the segment whose sound is not complete, as far as heard
    text_ids: int = 0  # of the segments put to work so far
    audio_s: float = 0.0
    first_audio_s: float | None = None  # since `speak`
    generation_s: float = 0.0  # since `speak`; not the time that a slow reader takes
    finish_reason: FinishReason = "stop"  # the worst of all segments
    retries: int = 0  # attempts at segments that the guard threw away

    @property
    def codes(self) -> int:
        """Codes of all segments."""
        return sum(len(codes) for codes in self.segment_codes)

    @property
    def rtf(self) -> float:
        """Generation time over audio time; 0 when there is no audio."""
        return self.generation_s / self.audio_s if self.audio_s else 0.0


class SpeechStream:
    """The sound of one request, in order: an async context manager and iterator of [samples]
    float32 at 24 kHz. Leaving the context is the cancel: all its rows go at the next step."""

    def __init__(
        self,
        request: SpeechRequest,
        segments: Sequence[Segment],
        *,
        prompts: Prompts,
        submit: Callable[[engine.Sequence], None],
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
            self._leave()  # those already in work have no reader
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
        """The segments and the pauses between them, at the model's own pace."""
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
        """Have segment `index` and the ones after it, as far as allowed, in work."""
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
                engine.Sequence(
                    voice=self._voice,
                    prompt=prompt,
                    text_chars=len(text),
                    sampling=request.sampling,
                    max_tokens=self._cap_codes(len(prompt)),
                    seed=request.seed,
                    index=index,
                    outbox=outbox,
                    playback=self._playback,
                    tenant=request.tenant,
                    deterministic=request.deterministic,
                )
            )

    def _pause_before_s(self, index: int) -> float:
        """The silence that the text asks for before a segment, or the usual one."""
        return self._segments[index].pause_before_s or (self._pause_s if index else 0.0)

    def _cap_codes(self, prompt: int) -> int:
        """The ceiling, or what the model's positions leave behind voice and text."""
        room = self._positions - prompt
        if room < LEAST_CODES:
            raise TextTooLong("A sentence of the text has too many symbols for this model.")
        return min(self._ceiling_codes, room)

    async def _pieces(self, outbox: Outbox) -> AsyncIterator[F32]:
        """The pieces of one segment, its edges faded; what is empty is not passed on."""
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
        """The segment is whole with its last piece, which is about to be passed on: whoever gets
        that piece finds the segment's end in the report."""
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
        """How long so much of the model's sound lasts at the request's speed."""
        return samples / SAMPLE_RATE_HZ / self._request.speed


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:  # the loop is closed: nobody is left to hear
        return
