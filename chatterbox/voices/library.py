"""The voice library: registers, finds, encodes, moves and deletes voices.

Knows no HTTP and no graph: the speech encoder is a function that it is given. All methods block
(disk, decoder, encoder) and may be called from any thread.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from chatterbox.arrays import F32
from chatterbox.errors import GenerationFailed, VoiceNotFound
from chatterbox.families.base import Voice
from chatterbox.families.turbo.voice import VoiceTensors, tensors_fault
from chatterbox.runtime.lru import ByteLru
from chatterbox.voices.file_system import FileSystem
from chatterbox.voices.index import VoiceIndex, not_found
from chatterbox.voices.names import MAX_ALIASES, VoiceInfo, checked_name
from chatterbox.voices.reference import (
    I16,
    Reference,
    ReferenceReport,
    float_to_pcm,
    pcm_to_float,
    prepare_reference,
    voice_id,
)
from chatterbox.voices.repository import VoiceRepository
from chatterbox.voices.sandbox import AudioDecoder, guarded_decoder
from chatterbox.voices.store import BadEntry, VoiceStore
from chatterbox.voices.tensor_file import tensors_digest
from chatterbox.voices.voice_file import (
    ExportedVoice,
    read_voice_file,
    reference_to_flac,
    write_voice_file,
)


class KeyedLocks:
    """Locks made at first use and dropped after the last: their number does not grow."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    def __len__(self) -> int:
        with self._guard:
            return len(self._locks)

    @contextmanager
    def holding(self, key: str) -> Iterator[None]:
        """Alone with `key` inside the block."""
        with self._guard:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = (lock, users + 1)
        try:
            with lock:
                yield
        finally:
            with self._guard:
                users = self._locks[key][1] - 1
                if users:
                    self._locks[key] = (lock, users)
                else:
                    del self._locks[key]


KEY_HEX_CHARS = 12
"""Of the tensors' digest in `Voice.key`, behind the id: equal key, equal tensors."""


class VoiceLibrary(VoiceIndex):
    """All voices of one data directory for one model. Work on one recording is done once however
    many ask for it (`_encoding`)."""

    def __init__(
        self,
        directory: Path,
        *,
        encode: Callable[[F32], VoiceTensors],
        model_key: str,
        cache_size: int,
        cache_bytes: int,
        max_seconds: float,
        default_voice: str,
        max_voices: int = 10_000,
        decoder: AudioDecoder | None = None,
        files: FileSystem | None = None,
    ) -> None:
        self._encoder = encode
        self._model_key = model_key
        self._max_seconds = max_seconds
        self._decoder = decoder or guarded_decoder()
        self._cache = ByteLru[Voice](cache_bytes, cache_size)
        self._encoding = KeyedLocks()
        repository = VoiceRepository(VoiceStore(directory, files), model_key=model_key)
        super().__init__(repository, default_voice=default_voice, max_voices=max_voices)

    def close(self) -> None:
        """End the decode child."""
        self._decoder.close()

    @property
    def cached(self) -> tuple[int, int]:
        """How many encoded voices are in memory, and their bytes."""
        return len(self._cache), self._cache.nbytes

    # --- finding

    def get(self, id_or_name: str | None) -> Voice:
        """A voice to speak with, None for the default one: from memory, else from disk, else
        encoded from its reference for this model. Raises VoiceNotFound."""
        return self._voice(self.info(self._default_voice if id_or_name is None else id_or_name))

    def prepare(self, id_or_name: str) -> Voice | None:
        """Encode a voice for this model, where that has not been done. Gives the voice where memory
        can hold it beside all that it holds. Raises VoiceNotFound."""
        info = self.info(id_or_name)
        if self._cache.has_room():
            return self._voice(info)
        if not self._repository.is_encoded(info.voice_id):
            with self._encoding.holding(info.voice_id):
                self._load(info)
        return None

    # --- recordings

    def register(self, data: bytes, name: str | None = None) -> tuple[VoiceInfo, bool]:
        """Keep the voice of a recording, and whether it is new. The same recording again gives
        the same voice, with `name` as a further name, and the report of this file. Raises what
        `prepare_reference` raises, InvalidVoiceId for a name that cannot be or is another voice's,
        and storage errors."""
        kept_name = checked_name(name) if name else None
        reference = prepare_reference(self._decoder, data, max_seconds=self._max_seconds)
        key = voice_id(reference)
        if kept_name:
            self._names.free_name(kept_name, key)  # before the slow part
        self._check_room(key)
        while True:
            with suppress(VoiceNotFound):  # deleted meanwhile: it is stored once more
                return self._registered(key, reference, kept_name)

    def _registered(
        self, key: str, reference: Reference, name: str | None
    ) -> tuple[VoiceInfo, bool]:
        with self._encoding.holding(key):
            existing = self._existing(key)
            if existing is None:
                voice = self._cache.get(key) or self._encode(key, reference.audio)
                info = _new_info(key, name or key, (), reference.report)
                self._add(info, float_to_pcm(reference.audio), voice)
                return info, True
            if existing.imported:
                existing = self._encoded_here(key, reference)
        if name is not None:
            existing = (self.rename if existing.name == key else self.set_alias)(key, name)
        return replace(existing, report=reference.report), False

    def _encoded_here(self, key: str, reference: Reference) -> VoiceInfo:
        """Tensors that came with an import answer for nobody's recording but the importer's: the
        voice gets its own. Raises VoiceNotFound where it is gone, and storage errors."""
        voice = self._encode(key, reference.audio)
        info = self._replace_tensors(key, voice.data, reference.report)
        self._cache.drop(_imported(key))
        self._hold(key, voice)
        return info

    def temporary(self, data: bytes) -> tuple[Voice, ReferenceReport]:
        """The voice of a recording for one request: in memory for the next one, not on disk."""
        reference = prepare_reference(self._decoder, data, max_seconds=self._max_seconds)
        key = voice_id(reference)
        registered = self._names.voices.get(key)
        if registered and not registered.imported:
            return self._voice(registered), reference.report
        with self._encoding.holding(key):
            voice = self._cache.get(key)
            if voice is None:
                voice = self._encode(key, reference.audio)
                self._hold(key, voice)
        return voice, reference.report

    def rehearse(self) -> None:
        """Do once all that a registration needs (decode child, loudness meter, encoder), with the
        default voice's recording, and keep nothing: the first caller need not wait for it."""
        recording = reference_to_flac(self._reference(self.info(self._default_voice)))
        reference = prepare_reference(self._decoder, recording, max_seconds=self._max_seconds)
        self._encode(voice_id(reference), reference.audio)

    # --- moving

    def export(self, id_or_name: str) -> bytes:
        """One file that `import_` reads, here or elsewhere."""
        info = self.info(id_or_name)
        voice = self._voice(info)
        return write_voice_file(
            ExportedVoice(
                name=info.name,
                aliases=info.aliases,
                report=info.report,
                reference=self._reference(info),
                model_key=self._model_key,
                tensors=voice.data,
            )
        )

    def import_(self, data: bytes) -> VoiceInfo:
        """Keep an exported voice. Names that other voices have here are left out; tensors of
        another model are made again. Raises InvalidVoiceFile and storage errors."""
        exported = read_voice_file(data)
        audio = pcm_to_float(exported.reference)
        key = voice_id(Reference(audio, exported.report))
        with self._encoding.holding(key):
            existing = self._existing(key)
            usable = exported.model_key == self._model_key and self._fit(exported.tensors)
            if existing:
                # Two imports of one recording: where they differ, neither is believed.
                given = _voice_of(key, exported.tensors)
                if existing.imported and self._load(existing)[0].key != given.key:
                    return self._encoded_here(key, Reference(audio, existing.report))
                return existing
            self._check_room(key)
            voice = _voice_of(key, exported.tensors) if usable else self._encode(key, audio)
            names = self._names.free_names((exported.name, *exported.aliases), key)
            aliases = tuple(names[1 : MAX_ALIASES + 1])
            info = _new_info(key, names[0] if names else key, aliases, exported.report)
            info = replace(info, imported=usable)
            self._add(info, exported.reference, voice)
        return info

    def _fit(self, tensors: VoiceTensors) -> bool:
        """Whether a stranger's tensors have the widths that this model's have: others would
        end the engine, not only the request. A built-in voice is always there."""
        own: VoiceTensors = self._voice(self.list()[0]).data
        return (
            tensors.features.shape[1] == own.features.shape[1]
            and tensors.speaker.shape == own.speaker.shape
            and tensors.prompt_mel.shape[1] == own.prompt_mel.shape[1]
        )

    # --- inside

    def _voice(self, info: VoiceInfo) -> Voice:
        key = info.voice_id
        held_as = _imported(key) if info.imported else key
        voice = self._cache.get(held_as)
        if voice:
            return voice
        with self._encoding.holding(key):
            voice = self._cache.get(held_as)
            if voice is None:
                voice, held_as = self._load(info)
                self._hold(held_as, voice)
        return voice

    def _load(self, info: VoiceInfo) -> tuple[Voice, str]:
        """From disk, else encoded, and stored; and what it may be held as in memory."""
        key = info.voice_id
        try:
            tensors, imported = self._repository.tensors(key)
        except BadEntry:  # deleted since it was found
            raise not_found(key) from None
        if tensors:
            return _voice_of(key, tensors), _imported(key) if imported else key
        voice = self._encode(key, pcm_to_float(self._reference(info)))
        self._keep_tensors(info, voice.data)
        return voice, key

    def delete(self, id_or_name: str) -> VoiceInfo:
        """Delete a voice; requests that speak with it finish. Raises VoiceNotFound,
        VoiceProtected and storage errors."""
        info = super().delete(id_or_name)
        for held_as in (info.voice_id, _imported(info.voice_id)):
            self._cache.drop(held_as)
        return info

    def _add(self, info: VoiceInfo, reference: I16, voice: Voice) -> None:
        self._enter(info, reference, voice.data)
        self._hold(_imported(info.voice_id) if info.imported else info.voice_id, voice)

    def _hold(self, held_as: str, voice: Voice) -> None:
        self._cache.put(held_as, voice, voice.data.nbytes)

    def _encode(self, key: str, audio: F32) -> Voice:
        tensors = self._encoder(audio)
        fault = tensors_fault(tensors)
        if fault:
            raise GenerationFailed(f"The model could not encode this recording: {fault}.")
        return _voice_of(key, tensors)


def _imported(key: str) -> str:
    """Where a voice's imported tensors are held in memory: under its id stand those made here."""
    return f"imported {key}"


def _voice_of(key: str, tensors: VoiceTensors) -> Voice:
    return Voice(f"{key}.{tensors_digest(tensors)[:KEY_HEX_CHARS]}", tensors)


def _new_info(key: str, name: str, aliases: tuple[str, ...], report: ReferenceReport) -> VoiceInfo:
    return VoiceInfo(key, name, aliases, time.time(), built_in=False, report=report)
