"""The voice library: registers, finds, encodes and moves voices.

Knows no HTTP, no graph and no family: a model says which voices it has and how it encodes a
recording (`families/voices.py`). All methods block (disk, decoder, encoder) and may be called from
any thread.
"""

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
from chatterbox.voices.built_in import built_in_voices
from chatterbox.voices.names import VoiceInfo, checked_name
from chatterbox.voices.places import watch
from chatterbox.voices.records import Stored
from chatterbox.voices.reference import Reference, ReferenceReport, prepare_reference
from chatterbox.voices.sandbox import AudioDecoder, guarded_decoder
from chatterbox.voices.store import VoiceStore
from chatterbox.voices.stored_voices import Encode, StoredVoices, log
from chatterbox.voices.voice_file import (
    ExportedVoice,
    read_voice_file,
    reference_to_flac,
    write_voice_file,
)


class VoiceLibrary(StoredVoices):
    """All voices of one store for one model. Work on one recording is done once however
    many ask for it (`_encoding`)."""

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
        """`cloned`, `fixed`: of the model. `encode`: called in place of the former's."""
        self._decoder = decoder or guarded_decoder()
        self._max_seconds = max_seconds
        self._cache = ByteLru[Voice](cache_bytes, cache_size)
        self._encoding = KeyedLocks()
        self._own_voice = fixed.default if fixed else built_in_voices()[0].voice_id
        self.default_voice = default_voice or self._own_voice
        self._closing = threading.Event()
        super().__init__(store, cloned, fixed, encode, max_voices)

    def start(self, stored: Callable[[], Stored] | None = None) -> None:
        """List the voices, `stored` ones from what has been read of them. Encodes nothing. Raises
        ConfigError where they are shared and cannot be read."""
        self.open(stored)
        if self.shared:
            watch(self.look, self._closing)

    @property
    def shared(self) -> bool:
        """Whether other servers may register, change and delete voices too."""
        return self._clones and self._store.shared

    def check_default(self, *, own_instead: bool = False) -> None:
        """Raises ConfigError where there is no default voice to speak in. `own_instead`: it is then
        the model's own."""
        if self._names.find(self.default_voice) is None:
            if not own_instead:
                raise ConfigError(
                    f"CHATTERBOX_DEFAULT_VOICE={excerpt(self.default_voice)}: there is no such"
                    " voice; `chatterbox voices` lists the voices"
                )
            self.default_voice = self._own_voice

    def close(self) -> None:
        """End the decode child, and look no more for what others change."""
        self._closing.set()
        self._decoder.close()

    def unload(self) -> None:
        """After `close`: let go of the encoded voices and of what encodes. The list stays."""
        self._cache = ByteLru(0)
        self._may_clone = self._instead = None

    @property
    def cached(self) -> tuple[int, int]:
        """How many encoded voices are in memory, and their bytes."""
        return len(self._cache), self._cache.nbytes

    # --- finding

    def get(self, id_or_name: str | None) -> Voice:
        """A voice to speak with, None for the default one: from memory, else from disk, else
        encoded from its reference for this model. Raises VoiceNotFound."""
        return self._voice(self.info(self.default_voice if id_or_name is None else id_or_name))

    def prepare(self, id_or_name: str) -> Voice | None:
        """Encode a voice for this model, where that has not been done. Gives the voice where memory
        can hold it beside all that it holds. Raises VoiceNotFound."""
        info = self.info(id_or_name)
        if info.report is None or self._cache.has_room():
            return self._voice(info)
        if not self._is_encoded(info.voice_id):
            with self._encoding.holding(info.voice_id):
                self._load(info.voice_id)
        return None

    # --- recordings

    def register(
        self, data: bytes, name: str | None = None, transcript: str | None = None
    ) -> tuple[VoiceInfo, bool]:
        """Keep the voice of a recording, and whether it is new. The same recording again gives
        the same voice, with `name` as a further name, and the report of this file. Raises what
        `prepare_reference` raises, CloningUnavailable, InvalidVoiceId for a name that cannot be or
        is another voice's, and storage errors."""
        kept_name = checked_name(name) if name else None
        reference = self._prepared(data, transcript)
        key = reference.voice_id
        self.look()  # what is deleted elsewhere is no known voice
        if kept_name:
            self._names.free_name(kept_name, key)  # before the slow part
        self._check_room(key)
        while True:
            with suppress(VoiceNotFound):  # deleted meanwhile: it is stored once more
                return self._registered(reference, kept_name)

    def _registered(self, reference: Reference, name: str | None) -> tuple[VoiceInfo, bool]:
        key = reference.voice_id
        with self._encoding.holding(key):
            existing = self._names.voices.get(key)
            if existing is None:
                voice = self._cache.get(key) or self._encode(key, reference)
                existing, created = self._add([name or key], reference, voice)
                if created:
                    return existing, True
            if existing.imported:
                existing = self._encoded_here(key, reference)
        if name is not None:
            existing = (self.rename if existing.name == key else self.set_alias)(key, name)
        return replace(existing, report=reference.report), False

    def _encoded_here(self, key: str, reference: Reference) -> VoiceInfo:
        """Tensors that came with an import answer for nobody's recording but the importer's: the
        voice gets its own. Raises VoiceNotFound where it is gone, and storage errors."""
        voice = self._encode(key, reference)
        info = self._store_arrays(key, self._cloned.to_arrays(voice.data), reference.report)
        self._cache.drop(_imported(key))
        self._hold(key, voice)
        return info

    def temporary(
        self, data: bytes, transcript: str | None = None
    ) -> tuple[Voice, ReferenceReport]:
        """The voice of a recording for one request: in memory for the next one, not on disk. Raises
        what `prepare_reference` raises, and CloningUnavailable."""
        reference = self._prepared(data, transcript)
        key = reference.voice_id
        registered = self._names.voices.get(key)
        if registered and not registered.imported:
            return self._voice(registered), reference.report
        with self._encoding.holding(key):
            voice = self._cache.get(key)
            if voice is None:
                voice = self._encode(key, reference)
                self._hold(key, voice)
        return voice, reference.report

    def rehearse(self) -> None:
        """Do once all that a registration needs (decode child, loudness meter, encoder), with the
        default voice's recording, and keep nothing: the first caller need not wait for it."""
        info = self.info(self.default_voice)
        if info.report is None:
            return
        known = self._reference(info.voice_id)
        recording = reference_to_flac(known.pcm)
        reference = self._prepared(recording, known.transcript)
        self._encode(reference.voice_id, reference)

    # --- moving

    def export(self, id_or_name: str) -> bytes:
        """One file that `import_` reads, here or elsewhere. Raises VoiceNotFound, and
        CloningUnavailable for a voice of the model's own."""
        info = self.info(id_or_name)
        if info.report is None:
            raise CloningUnavailable("A voice of the model's own cannot be exported.")
        arrays = self._cloned.to_arrays(self._voice(info).data)
        reference, own_key = self._reference(info.voice_id), self._cloned.key
        return write_voice_file(ExportedVoice(info.name, info.aliases, reference, own_key, arrays))

    def recording(self, id_or_name: str) -> bytes:
        """The recording of a voice as FLAC. Raises VoiceNotFound, and CloningUnavailable for a
        voice of the model's own."""
        info = self.info(id_or_name)
        if info.report is None:
            raise CloningUnavailable("A voice of the model's own has no recording.")
        return reference_to_flac(self._reference(info.voice_id).pcm)

    def import_(self, data: bytes) -> VoiceInfo:
        """Keep an exported voice. Names that other voices have here are left out; tensors of
        another model, or of other sizes than its own, are made again. Raises
        InvalidVoiceFile, CloningUnavailable and storage errors."""
        own_key = self._cloned.key
        exported = read_voice_file(data)
        reference, key = exported.reference, exported.reference.voice_id
        usable = exported.model_key == own_key
        try:
            given = self._made(key, exported.arrays) if usable else None
        except UnusableVoice as fault:
            raise InvalidVoiceFile(f"This is not a usable voice file: {fault}.") from None
        self.look()
        built_in = next(info for info in self.list() if info.report is not None)
        with self._encoding.holding(key):
            existing = self._names.voices.get(key)
            if existing:
                # Two imports of one recording: where they differ, neither is believed.
                if existing.imported and not (given and self._load(key)[0].key == given.key):
                    report = existing.report or reference.report
                    return self._encoded_here(key, replace(reference, report=report))
                return existing
            self._check_room(key)
            if given and not self._cloned.alike(given.data, self._voice(built_in).data):
                given = None
            voice = given or self._encode(key, reference)
            names = self._names.free_names((exported.name, *exported.aliases), key) or [key]
            info, created = self._add(names, reference, voice, imported=given is not None)
        return info if created else self.import_(data)

    # --- inside

    def _prepared(self, data: bytes, transcript: str | None) -> Reference:
        rules, most = self._cloned.rules, self._max_seconds
        return prepare_reference(
            self._decoder, data, rules, max_seconds=most, transcript=transcript
        )

    def _voice(self, info: VoiceInfo) -> Voice:
        key = info.voice_id
        if info.report is None:
            voice = self._fixed and self._fixed.voice(key)
            assert voice, "the model's own voices are known by their names"
            return voice
        held_as = _imported(key) if info.imported else key
        voice = self._cache.get(held_as)
        if voice:
            return voice
        with self._encoding.holding(key):
            voice = self._cache.get(held_as)
            if voice is None:
                voice, held_as = self._load(key)
                self._hold(held_as, voice)
        return voice

    def _load(self, key: str) -> tuple[Voice, str]:
        """From disk, else encoded, and stored; and what it may be held as in memory. Raises
        VoiceNotFound where it was deleted since it was found."""
        arrays, imported = self._arrays(key)
        if arrays is not None:
            try:
                return self._made(key, arrays), _imported(key) if imported else key
            except UnusableVoice as fault:
                log.warning("voice %s is encoded again: %s", key, fault)
        voice = self._encode(key, self._reference(key))
        self._keep_arrays(key, self._cloned.to_arrays(voice.data))
        return voice, key

    def _forget(self, key: str) -> None:
        for held_as in (key, _imported(key)):
            self._cache.drop(held_as)

    def _add(
        self, names: Sequence[str], reference: Reference, voice: Voice, *, imported: bool = False
    ) -> tuple[VoiceInfo, bool]:
        """Store a new voice, and hold it. As `_enter`."""
        arrays = self._cloned.to_arrays(voice.data)
        info, created = self._enter(names, reference, arrays, imported=imported)
        if created:
            self._hold(_imported(info.voice_id) if imported else info.voice_id, voice)
        return info, created

    def _hold(self, held_as: str, voice: Voice) -> None:
        self._cache.put(held_as, voice, voice.data.nbytes)


def _imported(key: str) -> str:
    """Where a voice's imported tensors are held in memory: under its id stand those made here."""
    return f"imported {key}"
