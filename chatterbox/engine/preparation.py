"""Work around speech: reading texts, encoding recordings, preparing voices before their first
request, and warming up the engine."""

import asyncio
import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from chatterbox.arrays import F32
from chatterbox.config import TTSConfig
from chatterbox.engine.sampler import Sampling
from chatterbox.engine.speech_stream import SpeechRequest, SpeechStream
from chatterbox.engine.threads import Heartbeat
from chatterbox.errors import (
    ChatterboxError,
    GenerationFailed,
    InvalidValue,
    ModelError,
    OutOfMemory,
    TextFault,
    first_line,
)
from chatterbox.families.base import Family, Voice
from chatterbox.families.voices import ClonedVoices
from chatterbox.runtime.ort_errors import device_is_lost, is_out_of_memory
from chatterbox.text import CodeBlocks, Segment, Tags, prepare
from chatterbox.voices.library import VoiceLibrary

log = logging.getLogger(__name__)

MAX_PAUSES_S = 120
"""Longest total of all `[pause:…]` in one text, in seconds; above it the text is refused."""
ENCODE_RETRY_S = 5
"""`Retry-After` of a voice that ran out of memory: other requests have ended by then."""
IDLE_LOOK_S = 0.05
"""Seconds between two checks whether the engine is idle."""
WARMUP_TEXT = "Hello there."
WARMUP_TOKENS = 30
WARMUP_TIMEOUT_S = 60
"""Longest duration of the warm-up. The watchdog finds a device that hangs."""


class TextReader:
    """Splits texts into segments. Thread-safe.

    Texts are read one at a time: two at once would not be quicker, and would keep the interpreter's
    lock from the event loop for longer.
    """

    def __init__(self, family: Family, config: TTSConfig) -> None:
        self._family = family
        self._code_blocks = config.code_blocks
        self._tags = Tags(family.tags)
        self._limits = replace(family.segments, **config.segments())
        self._one_at_a_time = threading.Lock()

    def segments(self, text: str, code_blocks: CodeBlocks | None = None) -> list[Segment]:
        """Split `text` into speakable segments. `code_blocks`: None means as configured. Raises
        EmptyText, InvalidText, InvalidValue, TextTooLong or TextFault."""
        with self._one_at_a_time:
            try:
                segments = prepare(
                    text,
                    self._limits,
                    code_blocks or self._code_blocks,
                    tags=self._tags,
                    english="en" in self._family.languages,
                    clean_up=self._family.clean_up,
                )
            except ChatterboxError:
                raise
            except Exception as fault:  # noqa: BLE001 - the fault is this text's alone
                log.warning("A text could not be read (%s).", type(fault).__name__)
                raise TextFault("The server failed to read this text.", param="text") from None
        pauses_s = sum(segment.pause_before_s + segment.pause_after_s for segment in segments)
        if pauses_s > MAX_PAUSES_S:  # a short text can ask for hours of silence
            raise InvalidValue(f"The pauses add up to more than {MAX_PAUSES_S} s.", param="text")
        return segments


class WatchedEncoder:
    """Encodes recordings, with a heartbeat for each, so that the watchdog notices one that hangs.
    Thread-safe."""

    def __init__(self, voices: ClonedVoices, lost: Callable[[Exception], ChatterboxError]) -> None:
        """`lost`: called when the device is lost; its result is raised."""
        self._voices = voices
        self._lost = lost
        self._running: dict[Heartbeat, None] = {}

    @property
    def heartbeats(self) -> list[Heartbeat]:
        """One for each recording being encoded."""
        return list(self._running)

    def __call__(self, audio: F32, transcript: str | None) -> Any:
        """Encode a recording. Raises OutOfMemory, and the encoder's errors."""
        heartbeat = Heartbeat("speech encoder")
        heartbeat.beat()
        self._running[heartbeat] = None
        try:
            return self._voices.encode(audio, transcript)
        except Exception as fault:
            if is_out_of_memory(fault):
                log.warning("no memory to encode a voice: %s", fault)
                raise OutOfMemory(
                    "The device has no memory left to encode a voice; nothing was stored.",
                    retry_after_s=ENCODE_RETRY_S,
                ) from fault
            if device_is_lost(fault):
                raise self._lost(fault) from fault
            raise
        finally:
            del self._running[heartbeat]


class VoicePreparation:
    """Prepares voices in a background thread, the default voice first.

    It rehearses a registration, then encodes every voice that is not yet encoded, and warms as many
    as memory holds. Each task starts while the engine is idle.
    """

    def __init__(
        self, voices: VoiceLibrary, warm: Callable[[Voice], None], idle: Callable[[], bool]
    ) -> None:
        """`idle`: whether a voice can be prepared now without delaying a request."""
        self._voices, self._warm, self._idle = voices, warm, idle
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="preparing voices", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Start no further task."""
        self._stopping.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the task in work, at most `timeout_s`."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        for task in self._tasks():
            while not (self._stopping.is_set() or self._idle()):
                self._stopping.wait(IDLE_LOOK_S)
            if self._stopping.is_set():
                return
            task()

    def _tasks(self) -> Iterator[Callable[[], None]]:
        yield self._rehearse
        listed = [info.voice_id for info in self._voices.list()]
        if self._voices.shared:
            random.shuffle(listed)  # so that servers that start together prepare different ones
        for voice_id in dict.fromkeys([self._voices.default_voice, *listed]):
            yield partial(self._prepare, voice_id)

    def _rehearse(self) -> None:
        try:
            self._voices.rehearse()
        except Exception as fault:  # noqa: BLE001 - a registration meets the same fault
            log.info("no registration was rehearsed: %s", first_line(fault))

    def _prepare(self, voice_id: str) -> None:
        try:
            prepared = self._voices.prepare(voice_id)
        except ChatterboxError as error:
            log.warning("voice %s was not prepared: %s", voice_id, error.message)
        except Exception:  # go on with the other voices
            log.exception("voice %s was not prepared", voice_id)
        else:
            if prepared is not None:
                self._warm(prepared)


def speak_and_drop(
    speak: Callable[[SpeechRequest], SpeechStream], voice: Voice, sampling: Sampling, most: int
) -> None:
    """Speak a short sentence of at most `most` tokens and drop the sound. Raises TimeoutError, and
    the stream's errors."""
    tokens = min(WARMUP_TOKENS, most)
    stream = speak(SpeechRequest(WARMUP_TEXT, voice, sampling, seed=0, max_new_tokens=tokens))

    async def listen() -> None:
        async with asyncio.timeout(WARMUP_TIMEOUT_S), stream:
            async for _ in stream:
                pass

    asyncio.run(listen())


def report_failure(fault: Exception, voices: VoiceLibrary) -> None:
    """Log why the warm-up failed. Raises ModelError if a built-in voice cannot be spoken with."""
    if isinstance(fault, GenerationFailed):
        with suppress(ChatterboxError):
            if voices.info(voices.default_voice).built_in:
                raise ModelError(f"the model cannot speak: {fault.message}") from None
    known = isinstance(fault, ChatterboxError | TimeoutError)
    reason = str(fault) or type(fault).__name__
    log.warning("the rehearsal failed: %s", reason, exc_info=None if known else fault)
