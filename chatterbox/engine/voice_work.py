"""The engine's work on voices: encoding recordings, and preparing voices while nobody speaks."""

import logging
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from chatterbox.arrays import F32
from chatterbox.engine.threads import Heartbeat
from chatterbox.errors import ChatterboxError, OutOfMemory, first_line
from chatterbox.families.base import Voice
from chatterbox.families.voices import ClonedVoices
from chatterbox.runtime.ort_errors import device_is_lost, is_out_of_memory
from chatterbox.voices.library import VoiceLibrary

log = logging.getLogger(__name__)

ENCODE_RETRY_S = 5
"""Other requests have moved on by then."""
IDLE_LOOK_S = 0.05
"""How often is looked whether the next voice can be prepared."""


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
