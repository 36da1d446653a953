"""Which encoded voices are in memory? The most recently used, within a count and a size.

Does not know where voices come from.
"""

import threading
from collections import OrderedDict

from chatterbox.runtime.contract import Voice


class VoiceCache:
    """An LRU of voices by id, bounded by their number and their bytes. Thread-safe."""

    def __init__(self, *, max_voices: int, max_bytes: int) -> None:
        self._max_voices = max_voices
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._voices: OrderedDict[str, Voice] = OrderedDict()
        self._nbytes = 0

    def __len__(self) -> int:
        with self._lock:
            return len(self._voices)

    @property
    def nbytes(self) -> int:
        """Bytes of all voices held."""
        with self._lock:
            return self._nbytes

    @property
    def has_room(self) -> bool:
        """Whether one more, of the usual size, would push none out."""
        with self._lock:
            held = len(self._voices)
            return held < self._max_voices and self._nbytes * (held + 1) <= self._max_bytes * max(
                held, 1
            )

    def get(self, voice_id: str) -> Voice | None:
        """The voice, now the most recently used; None where it is not held."""
        with self._lock:
            voice = self._voices.get(voice_id)
            if voice is not None:
                self._voices.move_to_end(voice_id)
            return voice

    def put(self, voice_id: str, voice: Voice) -> None:
        """Hold a voice, and drop the least recently used ones that no longer fit. One that is
        larger than the whole cache is not held."""
        with self._lock:
            self._remove(voice_id)
            if voice.data.nbytes > self._max_bytes:
                return
            self._voices[voice_id] = voice
            self._nbytes += voice.data.nbytes
            while len(self._voices) > self._max_voices or self._nbytes > self._max_bytes:
                self._remove(next(iter(self._voices)))

    def drop(self, voice_id: str) -> None:
        """Forget a voice; fine where it is not held."""
        with self._lock:
            self._remove(voice_id)

    def _remove(self, voice_id: str) -> None:
        voice = self._voices.pop(voice_id, None)
        if voice is not None:
            self._nbytes -= voice.data.nbytes
