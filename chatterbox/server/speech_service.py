"""Speaks requests within the limits and deadlines: voice and text, place, first sound, the rest."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Self

import numpy as np

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.config import ServerConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.engine.speech_stream import SpeechReport, SpeechRequest
from chatterbox.errors import DeadlineExceeded, EmptyText, GenerationFailed, TextTooLong
from chatterbox.families.base import Voice
from chatterbox.server.admission_control import AdmissionControl
from chatterbox.server.auth import current_key
from chatterbox.server.body import BodyLimits
from chatterbox.server.model_pool import ModelPool
from chatterbox.server.multipart import Files, Upload
from chatterbox.server.request_log import AccessRecord
from chatterbox.text import Segment
from chatterbox.text.markup import unknown_tags

RECORDING = "voice_file"
"""The file to speak like."""
WORDLESS_S = 0.1
"""Sound of a text without words, where a client that cuts at punctuation would show an error."""


class LiveSpeech:
    """A request that has begun to sound: an async iterator of [samples] float32 at 24 kHz.
    `progressed` is called whenever there is more."""

    def __init__(
        self,
        pieces: AsyncGenerator[F32, None],
        report: SpeechReport,
        progressed: Callable[[], None] = lambda: None,
    ) -> None:
        self.report = report
        self._pieces = pieces
        self._progressed = progressed
        self._ready: deque[F32] = deque()

    async def begin(self) -> None:
        """Wait for the first audible piece (a pause alone may still be followed by an error)."""
        while self.report.first_audio_s is None:
            piece = await anext(self._pieces, None)
            if piece is None:
                raise GenerationFailed("The model made no sound for this text.")
            self._ready.append(piece)
        self._progressed()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> F32:
        if self._ready:
            return self._ready.popleft()
        piece = await anext(self._pieces)
        self._progressed()
        return piece


_Read = tuple[list[Segment], str | Voice | None]


class SpeechService:
    def __init__(
        self, models: ModelPool, config: ServerConfig, admission: AdmissionControl
    ) -> None:
        self.admission = admission
        self.models = models
        self._config = config
        self.limits = BodyLimits.for_text(config.max_text_length)
        recording = Files(RECORDING, config.max_voice_file_size, admission.upload_place)
        self.limits_with_recording = BodyLimits.for_text(config.max_text_length, recording)

    def unknown_tags(self, text: str) -> Iterator[str]:
        """What looks like one of the model's tags, and is none."""
        return unknown_tags(text, self.models.engine.family.tags)

    @asynccontextmanager
    async def open(
        self,
        request: SpeechRequest,
        record: AccessRecord,
        *,
        plus_sound: bool,
        reference: Upload | None = None,
    ) -> AsyncIterator[LiveSpeech]:
        """Hold a place, and speak in it; entered once there is sound to hear. Everything is given
        back on leaving, however that happens. `plus_sound` moves the deadline on by the sound
        already made, so that a listener who reads at the speed of speech is never cut off.
        `reference`: a recording to speak like, instead of the request's voice.

        Raises, besides what the engine and the voices do: EmptyText, TextTooLong, Overloaded,
        KeyLimit, Draining, DeadlineExceeded.
        """
        self._check(request)
        total_s = self._config.request_timeout_s
        first_s = min(self._config.first_audio_timeout_s, total_s)
        record.queued, now = time.monotonic(), asyncio.get_running_loop().time
        began_at = now()
        record.model = request.model if len(self.models.models) > 1 else None
        async with (
            self.admission.quotas.reserve(requests=1, characters=len(request.text)),
            self.models.lease(first_s, request.model) as engine,
            self._reading(engine, request, reference) as reading,
            self.admission.places.permit(timeout_s=began_at + first_s - now(), unless=reading),
            _deadline(began_at + (first_s if plus_sound else total_s)) as timer,
        ):
            record.placed = time.monotonic()
            segments, voice = await reading
            if not segments:
                record.report = SpeechReport(segments=0)
                record.sounded = time.monotonic()
                yield LiveSpeech(_silence(record.report), record.report)
                return
            if reference is not None:
                voice = await self._encoded(engine, reference)
            request = replace(request, voice=voice, streamed=plus_sound, tenant=current_key.get())
            async with engine.speak(request, segments) as stream:
                pieces = aiter(stream)
                assert isinstance(pieces, AsyncGenerator)
                async with aclosing(pieces):
                    record.report = report = stream.report

                    def extend() -> None:
                        if plus_sound:
                            timer.reschedule(began_at + total_s + report.audio_s)

                    speaking = LiveSpeech(pieces, report, extend)
                    await speaking.begin()
                    record.sounded = time.monotonic()
                    yield speaking

    async def whole(
        self, request: SpeechRequest, record: AccessRecord, reference: Upload | None = None
    ) -> tuple[F32, SpeechReport]:
        """All of the sound [samples], and what came of the request."""
        async with self.open(request, record, plus_sound=False, reference=reference) as speaking:
            pieces = [piece async for piece in speaking]
            return np.concatenate(pieces), speaking.report

    def _check(self, request: SpeechRequest) -> None:
        """What can be refused before waiting for a place."""
        self.admission.lifecycle.check_open()
        limit = self._config.max_text_length
        if len(request.text) > limit:
            raise TextTooLong(f"The text is longer than {limit} characters.", param="text")
        if not request.text.strip():
            raise EmptyText("The text is empty.", param="text")

    @asynccontextmanager
    async def _reading(
        self, engine: TTSEngine, request: SpeechRequest, reference: Upload | None
    ) -> AsyncIterator[asyncio.Future[_Read]]:
        """The text's segments (none: silence), and the voice unless a recording brings it: made in
        the pool while the request waits for its place, which what cannot be spoken does not need.
        """

        def read() -> _Read:
            voice = request.voice
            if reference is None and not isinstance(voice, Voice):
                voice = engine.voices.get(voice)
            try:
                return engine.segments(request.text, request.code_blocks), voice
            except EmptyText:
                if not request.silence_if_wordless:
                    raise
                return [], voice

        def begun() -> asyncio.Future[_Read]:
            return asyncio.wrap_future(engine.texts.submit(read))

        reading = asyncio.ensure_future(self.models.fresh.found(begun))
        reading.add_done_callback(lambda done: done.cancelled() or done.exception())  # is seen
        try:
            yield reading
        finally:
            reading.cancel()

    async def _encoded(self, engine: TTSEngine, reference: Upload) -> Voice:
        """The voice of a recording that came with the call; looking voices up goes ahead of it."""

        def encoded() -> Voice:
            return engine.voices.temporary(reference.read(), reference.transcript)[0]

        voice = await asyncio.wrap_future(engine.pool.submit(encoded))
        await reference.close()  # the next upload need not wait for the speech
        return voice


async def _silence(report: SpeechReport) -> AsyncGenerator[F32, None]:
    report.first_audio_s, report.audio_s = 0.0, WORDLESS_S
    yield np.zeros(round(WORDLESS_S * SAMPLE_RATE_HZ), np.float32)


@asynccontextmanager
async def _deadline(at: float) -> AsyncIterator[asyncio.Timeout]:
    try:
        async with asyncio.timeout_at(at) as timer:
            yield timer
    except TimeoutError:
        raise DeadlineExceeded("The request was not done within its time.") from None
