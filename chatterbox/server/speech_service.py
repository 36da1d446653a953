"""Synthesis within the server's limits: quotas, model lease, place in the queue, deadlines."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Self

import numpy as np

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.audio.encode import AudioFormat
from chatterbox.config import ServerConfig
from chatterbox.engine.engine import TTSEngine
from chatterbox.engine.speech_stream import SpeechReport, SpeechRequest
from chatterbox.errors import DeadlineExceeded, EmptyText, GenerationFailed, TextTooLong
from chatterbox.families.base import Voice
from chatterbox.server.admission_control import AdmissionControl
from chatterbox.server.auth import current_key
from chatterbox.server.body import BodyLimits
from chatterbox.server.model_pool import ModelPool
from chatterbox.server.multipart import FileField, Upload
from chatterbox.server.request_log import AccessRecord
from chatterbox.server.schemas import SEED_LIMIT, Sampling, random_seed
from chatterbox.text import CodeBlocks, Segment

RECORDING_FIELD = "voice_file"
"""Form field for a recording of the voice to use."""
WORDLESS_S = 0.1
"""Silence sent for a text without words when the request allows it. Clients that split text at
punctuation would otherwise show an error."""


class LiveSpeech:
    """Async iterator over the audio of one running request: [samples] float32 at 24 kHz.

    `on_piece` is called each time another piece is available.
    """

    def __init__(
        self,
        pieces: AsyncGenerator[F32, None],
        report: SpeechReport,
        on_piece: Callable[[], None] = lambda: None,
    ) -> None:
        self.report = report
        self._pieces = pieces
        self._on_piece = on_piece
        self._ready: deque[F32] = deque()

    async def wait_for_sound(self) -> None:
        """Wait for the first audible piece. A leading pause does not count: an error may still
        follow it. Raises GenerationFailed if the model makes no sound."""
        while self.report.first_audio_s is None:
            piece = await anext(self._pieces, None)
            if piece is None:
                raise GenerationFailed("The model made no sound for this text.")
            self._ready.append(piece)
        self._on_piece()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> F32:
        if self._ready:
            return self._ready.popleft()
        piece = await anext(self._pieces)
        self._on_piece()
        return piece


_Prepared = tuple[list[Segment], Voice | None]


class SpeechService:
    """Builds speech requests and runs them. One per server."""

    def __init__(
        self, models: ModelPool, config: ServerConfig, admission: AdmissionControl
    ) -> None:
        self.admission = admission
        self.models = models
        self._config = config
        self.limits = BodyLimits.for_text(config.max_text_length)
        recording = FileField(RECORDING_FIELD, config.max_voice_file_size, admission.upload_place)
        self.limits_with_recording = BodyLimits.for_text(config.max_text_length, recording)

    def build_request(
        self,
        text: str,
        voice: str | Upload | None,
        audio_format: AudioFormat,
        *,
        sampling: Sampling | None = None,
        seed: int | None = None,
        max_new_tokens: int | None = None,
        speed: float = 1.0,
        code_blocks: CodeBlocks | None = None,
        silence_if_wordless: bool = False,
        ignored: tuple[str, ...] = (),
        deterministic: bool = True,
    ) -> SpeechRequest:
        """Build a request for the current model.

        `voice` is an id or name, or an uploaded recording to clone. `seed` may be any integer. A
        `max_new_tokens` above the server's ceiling is dropped. Pass `deterministic=False` for a
        seed chosen by the server, not the client.
        """
        engine = self.models.engine
        is_below_ceiling = max_new_tokens is not None and max_new_tokens < engine.max_tokens
        return SpeechRequest(
            text=text,
            voice=voice,
            sampling=engine.sampling({} if sampling is None else sampling.sampling()),
            seed=random_seed() if seed is None else seed % SEED_LIMIT,
            max_new_tokens=max_new_tokens if is_below_ceiling else None,
            format=audio_format,
            speed=speed,
            code_blocks=code_blocks,
            silence_if_wordless=silence_if_wordless,
            deterministic=deterministic and seed is not None,
            ignored=ignored,
            model=self.models.current.name,
        )

    @asynccontextmanager
    async def open(self, request: SpeechRequest, record: AccessRecord) -> AsyncIterator[LiveSpeech]:
        """Run a request. The context is entered at the first audible sound, and leaving it releases
        the request's place and rows.

        If `request.streamed`, the first sound has its own deadline and the whole request's deadline
        grows with the audio made so far, so that a client reading at the speed of speech is never
        cut off.

        Raises, besides the errors of the engine and the voices: EmptyText, TextTooLong, Overloaded,
        KeyLimit, Draining, DeadlineExceeded.
        """
        self._check(request)
        total_s = self._config.request_timeout_s
        first_s = min(self._config.first_audio_timeout_s, total_s)
        record.queued_at, now = time.monotonic(), asyncio.get_running_loop().time
        started_at = now()
        record.model = request.model if len(self.models.models) > 1 else None
        async with (
            self.admission.quotas.reserve(requests=1, characters=len(request.text)),
            self.models.lease(first_s, request.model) as engine,
            self._preparing(engine, request) as preparing,
            self.admission.places.permit(timeout_s=started_at + first_s - now(), unless=preparing),
            _deadline(started_at + (first_s if request.streamed else total_s)) as timer,
        ):
            record.placed_at = time.monotonic()
            segments, voice = await preparing
            if not segments:
                record.report = SpeechReport(segments=0)
                record.first_sound_at = time.monotonic()
                yield LiveSpeech(_silence(record.report), record.report)
                return
            if voice is None:
                assert isinstance(request.voice, Upload)
                voice = await self._clone(engine, request.voice)
            request = replace(request, voice=voice, tenant=current_key.get())
            async with engine.speak(request, segments) as stream:
                pieces = aiter(stream)
                assert isinstance(pieces, AsyncGenerator)
                async with aclosing(pieces):
                    record.report = report = stream.report

                    def extend_deadline() -> None:
                        if request.streamed:
                            timer.reschedule(started_at + total_s + report.audio_s)

                    speech = LiveSpeech(pieces, report, extend_deadline)
                    await speech.wait_for_sound()
                    record.first_sound_at = time.monotonic()
                    yield speech

    async def synthesize(
        self, request: SpeechRequest, record: AccessRecord
    ) -> tuple[F32, SpeechReport]:
        """Run a request to its end. Returns all its audio [samples] and the report."""
        async with self.open(replace(request, streamed=False), record) as speech:
            pieces = [piece async for piece in speech]
            return np.concatenate(pieces), speech.report

    def _check(self, request: SpeechRequest) -> None:
        """Raises the errors of `Lifecycle.check_open`, TextTooLong and EmptyText."""
        self.admission.lifecycle.check_open()
        limit = self._config.max_text_length
        if len(request.text) > limit:
            raise TextTooLong(f"The text is longer than {limit} characters.", param="text")
        if not request.text.strip():
            raise EmptyText("The text is empty.", param="text")

    @asynccontextmanager
    async def _preparing(
        self, engine: TTSEngine, request: SpeechRequest
    ) -> AsyncIterator[asyncio.Future[_Prepared]]:
        """Yield a future of the request's segments and voice. They are prepared in a thread while
        the request waits for a place, so that a request that fails here needs no place. An empty
        list of segments means silence. A voice of None must be cloned from the recording."""

        def prepare() -> _Prepared:
            voice = request.voice
            if isinstance(voice, str) or voice is None:
                voice = engine.voices.get(voice)
            elif not isinstance(voice, Voice):
                voice = None
            try:
                return engine.segments(request.text, request.code_blocks), voice
            except EmptyText:
                if not request.silence_if_wordless:
                    raise
                return [], voice

        preparing = asyncio.ensure_future(
            self.models.voice_refresher.retry(
                lambda: asyncio.wrap_future(engine.texts.submit(prepare))
            )
        )
        preparing.add_done_callback(lambda done: done.cancelled() or done.exception())  # retrieved
        try:
            yield preparing
        finally:
            preparing.cancel()

    async def _clone(self, engine: TTSEngine, recording: Upload) -> Voice:
        """Encode an uploaded recording in the pool, then discard the upload."""

        def encode() -> Voice:
            return engine.voices.temporary_voice(recording.read(), recording.transcript)[0]

        voice = await asyncio.wrap_future(engine.pool.submit(encode))
        await recording.close()  # the next upload need not wait for the speech
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
        raise DeadlineExceeded("The request exceeded its time limit.") from None
