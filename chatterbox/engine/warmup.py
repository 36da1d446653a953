"""Warm-up: voices prepared while the engine is idle, and a first sentence that nobody hears."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from chatterbox.engine.sampler import Sampling
from chatterbox.engine.speech_stream import SpeechRequest, SpeechStream
from chatterbox.errors import ChatterboxError, GenerationFailed, ModelError
from chatterbox.families.base import Voice
from chatterbox.runtime.ort_errors import is_out_of_memory, is_request_error
from chatterbox.voices.library import VoiceLibrary

T = TypeVar("T")
log = logging.getLogger(__name__)

MAX_WAITING_VOICES = 100
"""Each keeps its tensors in memory (2 MB); the oldest ones are dropped first."""
WARMUP_TEXT = "Hello there."
WARMUP_TOKENS = 40
WARMUP_TIMEOUT_S = 60
"""A device that hangs longer is found by the watchdog."""


class VoiceWarmup(Generic[T]):
    """Voices waiting to be prepared, one at a time, by the thread that owns the model.

    Any thread adds. A voice that cannot be prepared meets its fault at its first request.
    """

    def __init__(self, prepare: Callable[[T], None], idle: Callable[[], bool]) -> None:
        """`prepare`: takes a voice as the thread's model knows it. `idle`: whether no segment is in
        work: only then is a voice prepared."""
        self._prepare = prepare
        self._idle = idle
        self._waiting: deque[T] = deque(maxlen=MAX_WAITING_VOICES)

    def __bool__(self) -> bool:
        """Whether any voice waits."""
        return bool(self._waiting)

    def add(self, voice: T) -> None:
        """Have `voice` prepared when the engine is next idle."""
        self._waiting.append(voice)

    def run_one(self) -> bool:
        """Prepare the next voice unless something is in work; returns whether it did. Faults of
        the voice, and a lack of memory, are logged; anything else is raised."""
        if not (self._waiting and self._idle()):
            return False
        try:
            self._prepare(self._waiting.popleft())
        except Exception as fault:
            if not (is_out_of_memory(fault) or is_request_error(fault)):
                raise
            log.warning("a voice could not be prepared: %s", fault)
        return True


def rehearse(
    speak: Callable[[SpeechRequest], SpeechStream], voice: Voice, sampling: Sampling, most: int
) -> None:
    """Speak a short sentence to nobody, of `most` tokens. Raises TimeoutError, and what the stream
    does."""
    tokens = min(WARMUP_TOKENS, most)
    request = SpeechRequest(WARMUP_TEXT, voice, sampling, seed=0, max_new_tokens=tokens)
    asyncio.run(_drain(speak(request)))


def report_failure(fault: Exception, voices: VoiceLibrary) -> None:
    """Log why a rehearsal failed. Raises ModelError where the fault can be nobody else's."""
    if isinstance(fault, GenerationFailed):
        with suppress(ChatterboxError):
            if voices.info(voices.default_voice).built_in:
                raise ModelError(f"the model cannot speak: {fault.message}") from None
    known = isinstance(fault, ChatterboxError | TimeoutError)
    told = str(fault) or type(fault).__name__
    log.warning("the rehearsal failed: %s", told, exc_info=None if known else fault)


async def _drain(stream: SpeechStream) -> None:
    async with asyncio.timeout(WARMUP_TIMEOUT_S), stream:
        async for _ in stream:
            pass
