"""The voices of one store for one model: recordings are encoded by the model's rules, and kept with
what was made of them. What the model cannot do is refused."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from chatterbox.arrays import F32, SAMPLE_RATE_HZ
from chatterbox.errors import (
    CloningUnavailable,
    GenerationFailed,
    InvalidValue,
    StorageFull,
    VoiceNotFound,
)
from chatterbox.families.base import Voice
from chatterbox.families.voices import Arrays, ClonedVoices, FixedVoices, UnusableVoice
from chatterbox.voices import records, voice_file
from chatterbox.voices.catalogue import VoiceCatalogue, exclusively
from chatterbox.voices.names import MAX_ALIASES, VoiceInfo, not_found
from chatterbox.voices.records import BadEntry, VoiceRecord
from chatterbox.voices.reference import Reference, ReferenceReport, pcm_to_float
from chatterbox.voices.store import VoiceStore
from chatterbox.voices.voice_file import DamagedFile

log = logging.getLogger(__name__)

Encode = Callable[[F32, str | None], Any]


class StoredVoices(VoiceCatalogue):
    """A catalogue that encodes, and reads and writes the files of voices."""

    def __init__(
        self,
        store: VoiceStore,
        cloned: ClonedVoices | None,
        fixed: FixedVoices | None,
        encode: Encode | None,
        max_voices: int,
    ) -> None:
        """`cloned`, `fixed`: of the model. `encode`: called in place of the former's."""
        super().__init__(store, cloned.key if cloned else None, fixed)
        self._may_clone = cloned
        self._instead = encode
        self._max_voices = max_voices

    @property
    def _cloned(self) -> ClonedVoices:
        """How the model clones. Raises CloningUnavailable."""
        if self._may_clone is None:
            names = [voice.name for voice in self._fixed.voices] if self._fixed else []
            raise CloningUnavailable(
                "This model speaks only in the voices it was trained with, and learns none from a "
                f"recording. Choose one of them: {', '.join(names)}."
            )
        return self._may_clone

    def _encode(self, key: str, reference: Reference) -> Voice:
        """The voice of the id `key`. Raises GenerationFailed, and InvalidValue for a reference that
        came without the words that the model needs."""
        rules = self._cloned.rules
        if rules.transcript == "required" and not reference.transcript:
            raise InvalidValue(
                "This model needs to know what is said in the recording, and this voice came "
                "without it. Register it again, with 'transcript'.",
                param="voice_id",
            )
        longest = int(rules.max_s * SAMPLE_RATE_HZ)  # one that was kept for another model
        encode = self._instead or self._cloned.encode
        data = encode(reference.audio[:longest], reference.transcript)
        try:
            return self._made(key, self._cloned.to_arrays(data))
        except UnusableVoice as fault:
            raise GenerationFailed(f"The model could not encode this recording: {fault}.") from None

    def _made(self, key: str, arrays: Arrays) -> Voice:
        """The voice of these arrays: equal key, equal arrays. Raises UnusableVoice."""
        return Voice(f"{key}.{voice_file.digest_of(arrays)[:12]}", self._cloned.from_arrays(arrays))

    def _read(self, key: str, name: str) -> bytes:
        """A file of a voice; where it is not what is known of it here, another server may have
        replaced it. Raises BadEntry, VoiceNotFound and storage errors."""
        known = self._record(key)
        try:
            return self._store.read(known, name)
        except BadEntry:
            self.look()
            if self._record(key) == known:
                raise
            return self._store.read(self._record(key), name)

    def _reference(self, key: str) -> Reference:
        """The kept recording. A voice whose recording is lost leaves the catalogue. Raises
        VoiceNotFound."""
        voice = self._built_in.get(key)
        try:
            flac = voice.clip() if voice else self._read(key, records.REFERENCE_NAME)
            pcm = voice_file.flac_to_reference(flac)
        except (BadEntry, DamagedFile) as lost:
            with self._changing:
                if gone := self._records.pop(key, None):
                    log.warning("voice %s is out of service: %s", key, lost)
                    self._skipped.append((key, str(lost)))
                    self._lost[key] = gone
                self._names = self._names.without(key)
            raise not_found(key) from lost
        record = self._record(key)
        return Reference(pcm_to_float(pcm), record.report, record.transcript)

    def _arrays(self, key: str) -> tuple[Arrays | None, bool]:
        """What is kept of the voice for this encoder, None where nothing is, and whether it came
        with an import. Raises VoiceNotFound."""
        record = self._record(key)
        if self._encoded not in record.files:
            return None, False
        try:
            arrays, _ = voice_file.unpack(self._read(key, self._encoded))
        except (BadEntry, DamagedFile) as damage:
            log.warning("voice %s is encoded again: %s", key, damage)
            return None, False
        return arrays, self._encoded in record.imported

    def _is_encoded(self, key: str) -> bool:
        record = self._records.get(key)
        return record is not None and self._encoded in record.files

    def _check_room(self, key: str) -> None:
        """Raises StorageFull where `key` would be one voice too many."""
        voices = self._names.voices
        if key not in voices and len(self._records) - len(self._built_in) >= self._max_voices:
            raise StorageFull(
                f"There is room for {self._max_voices} voices (max_voices); delete some first."
            )

    @exclusively
    def _enter(
        self, names: Sequence[str], reference: Reference, arrays: Arrays, *, imported: bool
    ) -> tuple[VoiceInfo, bool]:
        """Store a new voice, wholly or not at all, and whether it is new: another server may have
        stored one of the recording meanwhile. A damaged one in its place is set aside."""
        key = reference.voice_id
        if key in self._records:
            return self._info(self._records[key]), False
        self._names.free_name(names[0], key)  # again, now that none can come
        self._check_room(key)
        record = VoiceRecord(
            schema=records.SCHEMA,
            voice_id=key,
            name=names[0],
            aliases=tuple(self._names.free_names(names[1 : MAX_ALIASES + 1], key)),
            created_at=time.time(),
            report=reference.report,
            files={},
            imported=(self._encoded,) if imported else (),
            transcript=reference.transcript,
        )
        return self._create(record, voice_file.reference_to_flac(reference.pcm), arrays), True

    def _keep_arrays(self, key: str, arrays: Arrays) -> None:
        """What was made here of a known voice, where it can be stored: it can be made again."""
        try:
            self._store_arrays(key, arrays)
        except VoiceNotFound:  # deleted while they were made
            pass
        except records.STORAGE_ERRORS:
            log.warning("voice %s will be encoded again after a restart", key)
            with self._changing:
                if record := self._records.get(key):  # what came with it was lost
                    info = replace(self._info(record), imported=False)
                    self._names = self._names.with_voice(info)

    @exclusively
    def _store_arrays(
        self, key: str, arrays: Arrays, report: ReferenceReport | None = None
    ) -> VoiceInfo:
        """What was made here, in place of what was there. Raises VoiceNotFound where the voice is
        gone, and storage errors."""
        record = self._record(key)
        if not record.files:
            return self._create(record, self._built_in[key].clip(), arrays)
        record = replace(record, report=report or record.report)
        return self._put(self._store.add_file(record, self._encoded, voice_file.pack(arrays, {})))
