"""Which voices are there, and what are their tensors? Registers, finds, encodes, moves, deletes.

Knows no HTTP and no graph: the speech encoder is a function that it is given. All methods block
(disk, decoder, encoder) and may be called from any thread.
"""

import builtins
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from chatterbox.errors import (
    GenerationFailed,
    StorageFull,
    VoiceNotFound,
    VoiceProtected,
    shown,
)
from chatterbox.model.contract import F32, Voice, VoiceTensors
from chatterbox.voices.cache import VoiceCache
from chatterbox.voices.catalogue import (
    MAX_ALIASES,
    Catalogue,
    VoiceInfo,
    checked_name,
    with_alias,
    without_alias,
)
from chatterbox.voices.decoder import AudioDecoder, guarded_decoder
from chatterbox.voices.file_system import FileSystem
from chatterbox.voices.reference import (
    I16,
    Reference,
    ReferenceReport,
    float_to_pcm,
    pcm_to_float,
    prepare_reference,
    voice_id,
)
from chatterbox.voices.reference_file import reference_to_flac
from chatterbox.voices.shelf import Shelf
from chatterbox.voices.single_flight import KeyedLocks
from chatterbox.voices.store import BadEntry, VoiceStore
from chatterbox.voices.tensor_file import tensors_digest, tensors_fault
from chatterbox.voices.voice_file import ExportedVoice, read_voice_file, write_voice_file

log = logging.getLogger(__name__)

KEY_HEX_CHARS = 12
"""Of the tensors' digest in `Voice.key`, behind the id: equal key, equal tensors."""


class VoiceLibrary:
    """All voices of one data directory for one model.

    Work on one recording is done once however many ask for it (`_flights`); changes of the
    catalogue and the disk are done one at a time (`_changing`); finding needs no lock.
    """

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
        self._default_voice = default_voice
        self._max_voices = max_voices
        self._decoder = decoder or guarded_decoder()
        self._shelf = Shelf(VoiceStore(directory, files), model_key=model_key)
        self._cache = VoiceCache(max_voices=cache_size, max_bytes=cache_bytes)
        self._catalogue = Catalogue()
        self._flights = KeyedLocks()
        self._changing = threading.Lock()

    def start(self) -> None:
        """Clean up after an interrupted process and list the voices. Encodes nothing."""
        self._catalogue = Catalogue({info.voice_id: info for info in self._shelf.open()})
        if self._catalogue.find(self._default_voice) is None:
            log.warning("there is no voice %s, the default one", shown(self._default_voice))

    def close(self) -> None:
        """End the decode child."""
        self._decoder.close()

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """(directory name, reason) of what is in the voices' directory but is no good voice."""
        return self._shelf.skipped

    @property
    def cached(self) -> tuple[int, int]:
        """How many encoded voices are in memory, and their bytes."""
        return len(self._cache), self._cache.nbytes

    # --- finding

    def info(self, id_or_name: str) -> VoiceInfo:
        """One voice. Raises VoiceNotFound."""
        found = self._catalogue.find(id_or_name)
        if found is None:
            raise _not_found(id_or_name)
        return found

    def get(self, id_or_name: str | None) -> Voice:
        """A voice to speak with, None for the default one: from memory, else from disk, else
        encoded from its reference for this model. Raises VoiceNotFound."""
        return self._voice(self.info(self._default_voice if id_or_name is None else id_or_name))

    def prepare(self, id_or_name: str) -> Voice | None:
        """Encode a voice for this model, where that has not been done. Gives the voice where memory
        can hold it beside all that it holds. Raises VoiceNotFound."""
        info = self.info(id_or_name)
        if self._cache.has_room:
            return self._voice(info)
        if not self._shelf.is_encoded(info.voice_id):
            with self._flights.holding(info.voice_id):
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
            self._catalogue.free_name(kept_name, key)  # before the slow part
        self._check_room(key)
        with self._flights.holding(key):
            existing = self._existing(key)
            if existing is None:
                voice = self._cache.get(key) or self._encode(key, reference.audio)
                info = _new_info(key, kept_name or key, (), reference.report)
                self._add(info, float_to_pcm(reference.audio), voice)
                return info, True
        if kept_name is not None:
            give_name = self.rename if existing.name == key else self.set_alias
            existing = give_name(key, kept_name)
        return replace(existing, report=reference.report), False

    def temporary(self, data: bytes) -> tuple[Voice, ReferenceReport]:
        """The voice of a recording for one request: in memory for the next one, not on disk."""
        reference = prepare_reference(self._decoder, data, max_seconds=self._max_seconds)
        key = voice_id(reference)
        registered = self._catalogue.voices.get(key)
        if registered:
            return self._voice(registered), reference.report
        with self._flights.holding(key):
            voice = self._cache.get(key)
            if voice is None:
                voice = self._encode(key, reference.audio)
                self._cache.put(key, voice)
        return voice, reference.report

    def rehearse(self) -> None:
        """Do once all that a registration needs (decode child, loudness meter, encoder), with the
        default voice's recording, and keep nothing: the first caller need not wait for it."""
        recording = reference_to_flac(self._reference(self.info(self._default_voice)))
        reference = prepare_reference(self._decoder, recording, max_seconds=self._max_seconds)
        self._encode(voice_id(reference), reference.audio)

    # --- changing

    def rename(self, id_or_name: str, name: str) -> VoiceInfo:
        """Give a voice another name. Raises VoiceNotFound, VoiceProtected, InvalidVoiceId."""
        with self._changing:
            info = self.info(id_or_name)
            if info.built_in:
                raise VoiceProtected("A built-in voice keeps its name; give it an alias instead.")
            kept = self._catalogue.free_name(name, info.voice_id)
            return self._update(replace(info, name=kept, aliases=without_alias(info, kept)))

    def set_alias(self, id_or_name: str, alias: str) -> VoiceInfo:
        """Let a voice answer to a further name. Raises VoiceNotFound, InvalidVoiceId."""
        with self._changing:
            info = self.info(id_or_name)
            kept = self._catalogue.free_name(alias, info.voice_id)
            return self._update(replace(info, aliases=with_alias(info, kept)))

    def remove_alias(self, alias: str) -> VoiceInfo:
        """Take an alias away from its voice. Raises VoiceNotFound."""
        with self._changing:
            info = self.info(alias)
            kept = without_alias(info, alias)
            if kept == info.aliases:  # it is the voice's id or name
                raise _not_found(alias)
            return self._update(replace(info, aliases=kept))

    def delete(self, id_or_name: str) -> None:
        """Delete a voice; requests that speak with it finish. Raises VoiceNotFound,
        VoiceProtected and storage errors."""
        with self._changing:
            info = self.info(id_or_name)
            if info.built_in:
                raise VoiceProtected("A built-in voice cannot be deleted.", param="voice_id")
            self._shelf.remove(info.voice_id)
            self._catalogue = self._catalogue.without(info.voice_id)
        self._cache.drop(info.voice_id)

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
                tensors=voice.tensors,
            )
        )

    def import_(self, data: bytes) -> VoiceInfo:
        """Keep an exported voice. Names that other voices have here are left out; tensors of
        another model are made again. Raises InvalidVoiceFile and storage errors."""
        exported = read_voice_file(data)
        audio = pcm_to_float(exported.reference)
        key = voice_id(Reference(audio, exported.report))
        with self._flights.holding(key):
            existing = self._existing(key)
            if existing:
                return existing
            self._check_room(key)
            if exported.model_key == self._model_key and self._fit(exported.tensors):
                voice = _voice_of(key, exported.tensors)
            else:
                voice = self._encode(key, audio)
            names = self._catalogue.free_names((exported.name, *exported.aliases), key)
            aliases = tuple(names[1 : MAX_ALIASES + 1])
            info = _new_info(key, names[0] if names else key, aliases, exported.report)
            self._add(info, exported.reference, voice)
        return info

    def _fit(self, tensors: VoiceTensors) -> bool:
        """Whether a stranger's tensors have the widths that this model's have: others would
        end the engine, not only the request."""
        own = self.get(None).tensors
        return (
            tensors.features.shape[1] == own.features.shape[1]
            and tensors.speaker.shape == own.speaker.shape
            and tensors.prompt_mel.shape[1] == own.prompt_mel.shape[1]
        )

    # --- inside

    def _voice(self, info: VoiceInfo) -> Voice:
        key = info.voice_id
        voice = self._cache.get(key)
        if voice:
            return voice
        with self._flights.holding(key):
            voice = self._cache.get(key) or self._load(info)
            self._cache.put(key, voice)
        return voice

    def _load(self, info: VoiceInfo) -> Voice:
        """From disk, else encoded, and stored."""
        key = info.voice_id
        try:
            tensors = self._shelf.tensors(key)
        except BadEntry:  # deleted since it was found
            raise _not_found(key) from None
        if tensors:
            return _voice_of(key, tensors)
        voice = self._encode(key, pcm_to_float(self._reference(info)))
        with self._changing:
            self._shelf.keep_tensors(key, voice.tensors)
        return voice

    def _reference(self, info: VoiceInfo) -> I16:
        """The kept recording. A voice whose recording is lost leaves the catalogue."""
        try:
            return self._shelf.reference(info.voice_id)
        except BadEntry as lost:
            with self._changing:
                self._shelf.skip(info.voice_id, str(lost))
                self._catalogue = self._catalogue.without(info.voice_id)
            raise _not_found(info.voice_id) from lost

    def _encode(self, key: str, audio: F32) -> Voice:
        tensors = self._encoder(audio)
        fault = tensors_fault(tensors)
        if fault:
            raise GenerationFailed(f"The model could not encode this recording: {fault}.")
        return _voice_of(key, tensors)

    def _existing(self, key: str) -> VoiceInfo | None:
        """The voice of that id, also where only the disk knows it."""
        info = self._catalogue.voices.get(key)
        if info is None:
            with self._changing:
                info = self._shelf.rediscover(key)
                if info:
                    self._catalogue = self._catalogue.with_voice(info)
        return info

    def _check_room(self, key: str) -> None:
        """Raises StorageFull where `key` would be one voice too many."""
        voices = self._catalogue.voices
        if key not in voices and len(voices) - self._shelf.built_in >= self._max_voices:
            raise StorageFull(
                f"There is room for {self._max_voices} voices (max_voices); delete some first."
            )

    def _add(self, info: VoiceInfo, reference: I16, voice: Voice) -> None:
        with self._changing:
            self._catalogue.free_name(info.name, info.voice_id)  # again, now that none can come
            self._check_room(info.voice_id)
            self._shelf.add(info, reference, voice.tensors)
            self._catalogue = self._catalogue.with_voice(info)
        self._cache.put(info.voice_id, voice)

    def _update(self, info: VoiceInfo) -> VoiceInfo:
        self._shelf.update(info)
        self._catalogue = self._catalogue.with_voice(info)
        return info

    def list(self) -> builtins.list[VoiceInfo]:
        """All voices: the built-in ones, then the others from old to new."""
        return sorted(self._catalogue.voices.values(), key=lambda info: info.created_at)


def _not_found(asked: str) -> VoiceNotFound:
    return VoiceNotFound(
        f"There is no voice {shown(asked)!r}; GET /voices lists the voices.", param="voice_id"
    )


def _voice_of(key: str, tensors: VoiceTensors) -> Voice:
    return Voice(f"{key}.{tensors_digest(tensors)[:KEY_HEX_CHARS]}", tensors)


def _new_info(key: str, name: str, aliases: tuple[str, ...], report: ReferenceReport) -> VoiceInfo:
    return VoiceInfo(key, name, aliases, time.time(), built_in=False, report=report)
