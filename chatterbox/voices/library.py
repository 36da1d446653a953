"""The voice library, through which the server registers, finds, exports and imports voices.

Independent of HTTP and of model families: `families/voices.py` has the interface through which a
model lists its voices and encodes recordings. All methods block (disk, decoder, encoder) and are
thread-safe.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from chatterbox.errors import (
    CloningUnavailable,
    ConfigError,
    InvalidVoiceFile,
    VoiceNotFound,
    excerpt,
)
from chatterbox.families.base import Voice
from chatterbox.families.voices import ClonedVoices, FixedVoices, UnusableVoice
from chatterbox.runtime.lru import ByteLru, KeyedLocks
from chatterbox.voices import voice_file
from chatterbox.voices.catalogue import VoiceCatalogue
from chatterbox.voices.names import VoiceInfo, normalize_name
from chatterbox.voices.reference import Reference, ReferenceReport, prepare_reference
from chatterbox.voices.sandbox import AudioDecoder, guarded_decoder
from chatterbox.voices.store import STORAGE_ERRORS, BadEntry, StoreContents, VoiceStore
from chatterbox.voices.stores import load_store, poll_in_background
from chatterbox.voices.voice_encoder import Encode, VoiceEncoder

log = logging.getLogger(__name__)


class VoiceLibrary(VoiceCatalogue):
    """All voices of one store for one model, with encoded voices cached in memory.

    Concurrent calls for the same recording encode it once. Imported arrays may not match their
    recording, so they have their own key in the cache and are never used for a request that sends
    the recording itself.
    """

    def __init__(
        self,
        store: VoiceStore,
        *,
        cloned: ClonedVoices | None,
        fixed: FixedVoices | None = None,
        encode: Encode | None = None,
        cache_size: int,
        cache_bytes: int,
        max_seconds: float,
        default_voice: str | None = None,
        max_voices: int = 10_000,
        decoder: AudioDecoder | None = None,
    ) -> None:
        """`cloned` and `fixed` are the model's voices. `encode` replaces `cloned.encode`."""
        super().__init__(store, cloned.key if cloned else None, fixed, max_voices)
        self._encoder = VoiceEncoder(cloned, fixed, encode)
        self._decoder = decoder or guarded_decoder()
        self._max_seconds = max_seconds
        self._cache = ByteLru[Voice](cache_bytes, cache_size)
        self._encoding = KeyedLocks()
        self._fixed_voices = fixed
        self._own_voice = fixed.default if fixed else next(iter(self._built_in))
        self.default_voice = default_voice or self._own_voice
        self._closing = threading.Event()

    def start(self, contents: Callable[[], StoreContents] | None = None) -> None:
        """List the voices, without encoding any. `contents` returns the result of `load_store`.
        Raises ConfigError if the store is shared and cannot be read."""
        if not self._clones:
            self._apply(([], []))
        else:
            self._apply(contents() if contents else load_store(self._store))
        for name, reason in self.skipped:
            log.warning("voice directory %s skipped: %s", name, reason)
        if self.shared:
            poll_in_background(self.refresh, self._closing)

    @property
    def shared(self) -> bool:
        """Whether other servers may register, change and delete voices too."""
        return self._clones and self._store.shared

    def check_default(self, *, fall_back: bool = False) -> None:
        """Raise ConfigError if the default voice does not exist, or with `fall_back`, use the
        model's own default instead."""
        if self._names.find(self.default_voice) is None:
            if not fall_back:
                raise ConfigError(
                    f"CHATTERBOX_DEFAULT_VOICE={excerpt(self.default_voice)}: there is no such"
                    " voice; `chatterbox voices` lists the voices"
                )
            self.default_voice = self._own_voice

    def close(self) -> None:
        """End the decode child and stop polling the store."""
        self._closing.set()
        self._decoder.close()

    def unload(self) -> None:
        """Release the model and the encoded voices, after `close`. The list stays available."""
        self._cache = ByteLru(0)
        self._encoder.unload()

    @property
    def cache_usage(self) -> tuple[int, int]:
        """Number of encoded voices in memory, and their size in bytes."""
        return len(self._cache), self._cache.nbytes

    def get(self, id_or_name: str | None) -> Voice:
        """Return an encoded voice; None means the default voice. Reads the voice from memory or
        from the store, or encodes it. Raises VoiceNotFound."""
        return self._voice(self.info(self.default_voice if id_or_name is None else id_or_name))

    def prepare(self, id_or_name: str) -> Voice | None:
        """Encode a voice unless the store has its arrays. Returns the voice if the cache has room
        for it. Raises VoiceNotFound."""
        info = self.info(id_or_name)
        if info.record is None or self._cache.has_room():
            return self._voice(info)
        if self._arrays_name not in info.record.files:
            with self._encoding.holding(info.voice_id):
                self._load(info.voice_id)
        return None

    # --- recordings

    def register(
        self, data: bytes, name: str | None = None, transcript: str | None = None
    ) -> tuple[VoiceInfo, bool]:
        """Store the voice of a recording. Returns the voice, and whether it is new. Registering a
        recording again adds `name` to its voice and returns the report of the new file. Raises the
        errors of `prepare_reference`, CloningUnavailable, InvalidVoiceId and storage errors."""
        name = normalize_name(name) if name else None
        reference = self._prepare_reference(data, transcript)
        self.refresh()  # the voice may have been deleted by another server
        if name:
            self._names.free_name(name, reference.voice_id)  # before the slow part
        self._check_room(reference.voice_id)
        while True:
            with suppress(VoiceNotFound):  # deleted meanwhile: store it again
                return self._register(reference, name)

    def _register(self, reference: Reference, name: str | None) -> tuple[VoiceInfo, bool]:
        voice_id = reference.voice_id
        with self._encoding.holding(voice_id):
            info = self._names.voices.get(voice_id)
            if info is None:
                voice = self._cache.get(voice_id) or self._encoder.encode(voice_id, reference)
                info, is_new = self._add_voice([name or voice_id], reference, voice)
                if is_new:
                    return info, True
            if info.imported:
                info = self._replace_imported(reference)
        if name is not None:
            info = (self.rename if info.name == voice_id else self.set_alias)(voice_id, name)
        return replace(info, report=reference.report), False

    def temporary_voice(
        self, data: bytes, transcript: str | None = None
    ) -> tuple[Voice, ReferenceReport]:
        """Return the voice of a recording for one request, cached in memory but not stored. Raises
        the errors of `prepare_reference`, and CloningUnavailable."""
        reference = self._prepare_reference(data, transcript)
        voice_id = reference.voice_id
        registered = self._names.voices.get(voice_id)
        if registered and not registered.imported:
            return self._voice(registered), reference.report
        with self._encoding.holding(voice_id):
            voice = self._cache.get(voice_id)
            if voice is None:
                voice = self._encoder.encode(voice_id, reference)
                self._cache.put(voice_id, voice, voice.data.nbytes)
        return voice, reference.report

    def rehearse(self) -> None:
        """Run a registration of the default voice's recording without storing it, so that the first
        caller does not wait for the decode child and for imports."""
        info = self.info(self.default_voice)
        if info.report is not None:
            known = self._reference(info.voice_id)
            reference = self._prepare_reference(
                voice_file.reference_to_flac(known.pcm), known.transcript
            )
            self._encoder.encode(reference.voice_id, reference)

    # --- files

    def export(self, id_or_name: str) -> bytes:
        """Return a file for `import_` on this or another server. Raises VoiceNotFound, and
        CloningUnavailable for a voice that the model was trained with."""
        info = self.info(id_or_name)
        if info.report is None:
            raise CloningUnavailable("A voice of the model's own cannot be exported.")
        cloned = self._encoder.cloned
        arrays = cloned.to_arrays(self._voice(info).data)
        reference, key = self._reference(info.voice_id), cloned.key
        voice = voice_file.ExportedVoice(info.name, info.aliases, reference, key, arrays)
        return voice_file.write_voice_file(voice)

    def recording(self, id_or_name: str) -> bytes:
        """Return the recording of a voice as FLAC. Raises as `export` does."""
        info = self.info(id_or_name)
        if info.report is None:
            raise CloningUnavailable("A voice of the model's own has no recording.")
        return voice_file.reference_to_flac(self._reference(info.voice_id).pcm)

    def import_(self, data: bytes) -> VoiceInfo:
        """Store an exported voice, without names that other voices already have. If its arrays are
        of another model or have the wrong sizes, encode its recording. Raises InvalidVoiceFile,
        CloningUnavailable and storage errors."""
        cloned = self._encoder.cloned
        exported = voice_file.read_voice_file(data)
        reference, voice_id = exported.reference, exported.reference.voice_id
        try:
            usable = exported.model_key == cloned.key
            voice = self._encoder.from_arrays(voice_id, exported.arrays) if usable else None
        except UnusableVoice as fault:
            raise InvalidVoiceFile(f"This is not a usable voice file: {fault}.") from None
        self.refresh()
        with self._encoding.holding(voice_id):
            existing = self._names.voices.get(voice_id)
            if existing:
                # If two imports of one recording differ, trust neither.
                if existing.imported and not (voice and self._load(voice_id)[0].key == voice.key):
                    report = existing.report or reference.report
                    return self._replace_imported(replace(reference, report=report))
                return existing
            self._check_room(voice_id)
            listed = self._names.voices.values()
            own = next(info for info in listed if info.report)  # a built-in voice
            if voice and not cloned.is_compatible(voice.data, self._voice(own).data):
                voice = None
            imported = voice is not None
            voice = voice or self._encoder.encode(voice_id, reference)
            names = self._names.free_names((exported.name, *exported.aliases), voice_id)
            info, is_new = self._add_voice(names or [voice_id], reference, voice, imported=imported)
        return info if is_new else self.import_(data)

    # --- inside

    def _prepare_reference(self, data: bytes, transcript: str | None) -> Reference:
        rules, longest_s = self._encoder.cloned.rules, self._max_seconds
        return prepare_reference(self._decoder, data, rules, longest_s, transcript)

    def _voice(self, info: VoiceInfo) -> Voice:
        if info.report is None:
            voice = self._fixed_voices and self._fixed_voices.voice(info.voice_id)
            assert voice, "fixed voices are listed under their own names"
            return voice
        cache_key = _cache_key(info.voice_id, info.imported)
        voice = self._cache.get(cache_key)
        if voice is None:
            with self._encoding.holding(info.voice_id):
                voice = self._cache.get(cache_key)
                if voice is None:
                    voice, cache_key = self._load(info.voice_id)
                    self._cache.put(cache_key, voice, voice.data.nbytes)
        return voice

    def _load(self, voice_id: str) -> tuple[Voice, str]:
        """Read a voice's arrays, or encode its recording and store the arrays. Returns the voice
        and its cache key. Raises VoiceNotFound if the voice was deleted."""
        record = self._record(voice_id)
        if self._arrays_name in record.files:
            try:
                arrays, _ = voice_file.unpack(self._read(voice_id, self._arrays_name))
                cache_key = _cache_key(voice_id, self._arrays_name in record.imported)
                return self._encoder.from_arrays(voice_id, arrays), cache_key
            except (BadEntry, voice_file.DamagedFile, UnusableVoice) as fault:
                log.warning("voice %s is encoded again: %s", voice_id, fault)
        voice = self._encoder.encode(voice_id, self._reference(voice_id))
        try:
            self._store_arrays(voice_id, self._encoder.cloned.to_arrays(voice.data))
        except VoiceNotFound:  # deleted while it was encoded
            pass
        except STORAGE_ERRORS:
            log.warning("voice %s will be encoded again after a restart", voice_id)
            with self._changing:
                if info := self._names.voices.get(voice_id):  # this voice was encoded here
                    self._names = self._names.with_voice(replace(info, imported=False))
        return voice, voice_id

    def _add_voice(
        self, names: Sequence[str], reference: Reference, voice: Voice, *, imported: bool = False
    ) -> tuple[VoiceInfo, bool]:
        """Call `_add`, and cache the voice if it is new."""
        arrays = self._encoder.cloned.to_arrays(voice.data)
        info, is_new = self._add(names, reference, arrays, imported=imported)
        if is_new:
            self._cache.put(_cache_key(info.voice_id, imported), voice, voice.data.nbytes)
        return info, is_new

    def _replace_imported(self, reference: Reference) -> VoiceInfo:
        """Replace imported arrays with arrays encoded from the recording. Raises VoiceNotFound if
        the voice was deleted, and storage errors."""
        voice_id = reference.voice_id
        voice = self._encoder.encode(voice_id, reference)
        arrays = self._encoder.cloned.to_arrays(voice.data)
        info = self._store_arrays(voice_id, arrays, reference.report)
        self._cache.drop(_cache_key(voice_id, imported=True))
        self._cache.put(voice_id, voice, voice.data.nbytes)
        return info

    def _drop_encoded(self, voice_id: str) -> None:
        for imported in (False, True):
            self._cache.drop(_cache_key(voice_id, imported))


def _cache_key(voice_id: str, imported: bool) -> str:
    return f"imported {voice_id}" if imported else voice_id
