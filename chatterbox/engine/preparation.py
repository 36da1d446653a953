"""What is prepared around speech: texts, recordings, voices that nobody has asked for yet, and the
engine itself, by a sentence that nobody hears."""

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
"""Of one text, all `[pause:…]` together."""
ENCODE_RETRY_S = 5
"""Other requests have moved on by then."""
IDLE_LOOK_S = 0.05
"""How often is looked whether the next voice can be prepared."""
WARMUP_TEXT = "Hello there."
WARMUP_TOKENS = 30
WARMUP_TIMEOUT_S = 60
"""A device that hangs longer is found by the watchdog."""


class TextReader:
    """Prepares texts, one at a time: two at once would not be quicker, and the event loop would get
    the interpreter's lock back after both of them. Any thread may call."""

    def __init__(self, family: Family, config: TTSConfig) -> None:
        self._family = family
        self._code_blocks = config.code_blocks
        self._tags = Tags(family.tags)
        self._limits = replace(family.segments, **config.segments())
        self._one_at_a_time = threading.Lock()

    def segments(self, text: str, code_blocks: CodeBlocks | None = None) -> list[Segment]:
        """What `text` is spoken as. `code_blocks`: none, as configured. Raises EmptyText,
        InvalidText, InvalidValue, TextTooLong, TextFault."""
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
            except Exception as fault:  # noqa: BLE001 - a fault here is this text's alone
                log.warning("A text could not be read (%s).", type(fault).__name__)
                raise TextFault("The server failed to read this text.", param="text") from None
        asked_s = sum(segment.pause_before_s + segment.pause_after_s for segment in segments)
        if asked_s > MAX_PAUSES_S:  # a short text can ask for hours of silence
            raise InvalidValue(f"The pauses add up to more than {MAX_PAUSES_S} s.", param="text")
        return segments


class WatchedEncoder:
    """Encodes recordings, in any thread; the heart of each beats once, so that one that hangs is
    noticed."""

    def __init__(self, voices: ClonedVoices, lost: Callable[[Exception], ChatterboxError]) -> None:
        """`lost`: called when the device is; what it returns is raised."""
        self._voices = voices
        self._lost = lost
        self._running: dict[Heartbeat, None] = {}

    @property
    def heartbeats(self) -> list[Heartbeat]:
        """Of the recordings being encoded."""
        return list(self._running)

    def __call__(self, audio: F32, transcript: str | None) -> Any:
        """Encode. Raises OutOfMemory, and what the encoder does."""
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
    """In the background: rehearses a registration; then encodes every voice that has not been yet,
    and warms as many as memory holds, the default one first. One at a time, each begun while
    nothing is in work."""

    def __init__(
        self, voices: VoiceLibrary, warm: Callable[[Voice], None], idle: Callable[[], bool]
    ) -> None:
        """`idle`: whether nobody would be kept waiting by a voice that is prepared now."""
        self._voices, self._warm, self._idle = voices, warm, idle
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="preparing voices", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Begin with no further voice."""
        self._stopping.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the one in work, so long at most."""
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
            random.shuffle(listed)  # servers that start together take different ones
        for voice_id in dict.fromkeys([self._voices.default_voice, *listed]):
            yield partial(self._prepare, voice_id)

    def _rehearse(self) -> None:
        try:
            self._voices.rehearse()
        except Exception as fault:  # noqa: BLE001 - what fails here fails again where it is heard of
            log.info("no registration was rehearsed: %s", first_line(fault))

    def _prepare(self, voice_id: str) -> None:
        try:
            prepared = self._voices.prepare(voice_id)
        except ChatterboxError as error:
            log.warning("voice %s was not prepared: %s", voice_id, error.message)
        except Exception:  # as where somebody asks for this voice: all others are prepared
            log.exception("voice %s was not prepared", voice_id)
        else:
            if prepared is not None:
                self._warm(prepared)


def rehearse(
    speak: Callable[[SpeechRequest], SpeechStream], voice: Voice, sampling: Sampling, most: int
) -> None:
    """Speak a short sentence to nobody, of `most` tokens. Raises TimeoutError, and what the stream
    does."""
    tokens = min(WARMUP_TOKENS, most)
    stream = speak(SpeechRequest(WARMUP_TEXT, voice, sampling, seed=0, max_new_tokens=tokens))

    async def listen() -> None:
        async with asyncio.timeout(WARMUP_TIMEOUT_S), stream:
            async for _ in stream:
                pass

    asyncio.run(listen())


def report_failure(fault: Exception, voices: VoiceLibrary) -> None:
    """Log why a rehearsal failed. Raises ModelError where the fault can be nobody else's."""
    if isinstance(fault, GenerationFailed):
        with suppress(ChatterboxError):
            if voices.info(voices.default_voice).built_in:
                raise ModelError(f"the model cannot speak: {fault.message}") from None
    known = isinstance(fault, ChatterboxError | TimeoutError)
    told = str(fault) or type(fault).__name__
    log.warning("the rehearsal failed: %s", told, exc_info=None if known else fault)
