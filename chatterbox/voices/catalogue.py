"""The catalogue: which voices there are, what they are called, and what is kept of each on disk.

Holds the voices of one data directory, those that come with the program, and those that the model
itself was trained with. Encodes nothing. All methods block (disk); any thread may call them.
"""

import builtins
import logging
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from chatterbox.errors import (
    InvalidVoiceId,
    StorageFull,
    VoiceProtected,
)
from chatterbox.families.voices import Arrays, FixedVoices
from chatterbox.voices.built_in import BuiltInVoice, built_in_voices
from chatterbox.voices.names import (
    NameIndex,
    VoiceInfo,
    checked_name,
    not_found,
    with_alias,
    without_alias,
)
from chatterbox.voices.reference import I16, Reference, ReferenceReport, pcm_to_float
from chatterbox.voices.store import (
    REFERENCE_NAME,
    SCHEMA,
    STORAGE_ERRORS,
    BadEntry,
    Stored,
    VoiceRecord,
    VoiceStore,
    read_stored,
)
from chatterbox.voices.voice_file import (
    DamagedFile,
    flac_to_reference,
    pack,
    reference_to_flac,
    unpack,
)

log = logging.getLogger(__name__)

MODEL_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""It becomes part of a file's name."""


class VoiceCatalogue:
    """Changes are made one at a time (`_changing`); finding needs no lock.

    A built-in voice gets its directory when its arrays or an alias are first kept; where that fails
    it speaks nevertheless.
    """

    def __init__(
        self, store: VoiceStore, encoder_key: str | None, fixed: FixedVoices | None, max_voices: int
    ) -> None:
        """`encoder_key`: of what voices are encoded for; None: there are only the `fixed` ones."""
        assert encoder_key is None or MODEL_KEY.fullmatch(encoder_key), "no part of a file's name"
        self._store = store
        self._clones = encoder_key is not None
        self._encoded = f"encoded-{encoder_key}.safetensors"
        self._fixed = fixed
        self._max_voices = max_voices
        self._names = NameIndex()
        self._records: dict[str, VoiceRecord] = {}
        self._built_in: dict[str, BuiltInVoice] = {}
        self._skipped: list[tuple[str, str]] = []
        self._changing = threading.Lock()

    def open(self, stored: Callable[[], Stored] | None = None) -> None:
        """List the voices: the model's own, the built-in ones, then by age. A directory that cannot
        be used leaves the former. `stored`: where the disk has been read already."""
        known = [VoiceInfo.fixed(voice) for voice in (self._fixed.voices if self._fixed else ())]
        if self._clones:
            self._take(stored() if stored else read_stored(self._store))
            known += [self._info(record) for record in self._records.values()]
        self._names = NameIndex({info.voice_id: info for info in known})

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """(directory name, reason) of what is in the voices' directory but is no good voice."""
        return tuple(self._skipped)

    # --- finding

    def info(self, id_or_name: str) -> VoiceInfo:
        """One voice. Raises VoiceNotFound."""
        found = self._names.find(id_or_name)
        if found is None:
            raise not_found(id_or_name)
        return found

    def list(self) -> builtins.list[VoiceInfo]:
        """All voices: those that were there from the beginning, then from old to new."""
        return sorted(self._names.voices.values(), key=lambda info: info.created_at)

    # --- changing

    def rename(self, id_or_name: str, name: str) -> VoiceInfo:
        """Give a voice another name. Raises VoiceNotFound, VoiceProtected, InvalidVoiceId."""
        with self._changing:
            info = self.info(id_or_name)
            if info.built_in:
                raise VoiceProtected("A built-in voice keeps its name.", param="voice_id")
            kept = self._names.free_name(name, info.voice_id)
            return self._update(replace(info, name=kept, aliases=without_alias(info, kept)))

    def set_alias(self, id_or_name: str, alias: str) -> VoiceInfo:
        """Let a voice answer to a further name. Raises VoiceNotFound, VoiceProtected,
        InvalidVoiceId."""
        with self._changing:
            info = self.info(id_or_name)
            kept = self._names.free_name(alias, info.voice_id)
            return self._update(replace(info, aliases=with_alias(info, kept)))

    def remove_alias(self, alias: str) -> VoiceInfo:
        """Take an alias away from its voice. Raises VoiceNotFound."""
        with self._changing:
            info = self.info(alias)
            kept = without_alias(info, alias)
            if kept == info.aliases:  # it is the voice's id or name
                raise not_found(alias)
            return self._update(replace(info, aliases=kept))

    def delete(self, id_or_name: str) -> VoiceInfo:
        """Delete a voice; requests that speak with it finish. Raises VoiceNotFound,
        VoiceProtected and storage errors."""
        with self._changing:
            info = self.info(id_or_name)
            if info.built_in:
                raise VoiceProtected("A built-in voice cannot be deleted.", param="voice_id")
            self._store.delete(info.voice_id)
            del self._records[info.voice_id]
            self._names = self._names.without(info.voice_id)
        return info

    # --- for the library

    def _reference(self, key: str) -> Reference:
        """The kept recording. A voice whose recording is lost leaves the catalogue. Raises
        VoiceNotFound."""
        record, voice = self._record(key), self._built_in.get(key)
        try:
            flac = voice.clip() if voice else self._store.read(record, REFERENCE_NAME)
            pcm = flac_to_reference(flac)
        except (BadEntry, DamagedFile) as lost:
            with self._changing:
                if self._records.pop(key, None):
                    log.warning("voice %s is out of service: %s", key, lost)
                    self._skipped.append((key, str(lost)))
                self._names = self._names.without(key)
            raise not_found(key) from lost
        return Reference(pcm_to_float(pcm), record.report, record.transcript)

    def _arrays(self, key: str) -> tuple[Arrays | None, bool]:
        """What is kept of the voice for this encoder, None where nothing is, and whether it came
        with an import. Raises VoiceNotFound."""
        record = self._record(key)
        if self._encoded not in record.files:
            return None, False
        try:
            arrays, _ = unpack(self._store.read(record, self._encoded))
        except (BadEntry, DamagedFile) as damage:
            log.warning("voice %s is encoded again: %s", key, damage)
            return None, False
        return arrays, self._encoded in record.imported

    def _is_encoded(self, key: str) -> bool:
        record = self._records.get(key)
        return record is not None and self._encoded in record.files

    def _existing(self, key: str) -> VoiceInfo | None:
        """The voice of that id, also where only the disk knows it: taking it back failed."""
        info = self._names.voices.get(key)
        if info is None:
            with self._changing, suppress(BadEntry):
                record = self._store.load(key)
                if _well_named(record):
                    info = self._put(record)
        return info

    def _check_room(self, key: str) -> None:
        """Raises StorageFull where `key` would be one voice too many."""
        voices = self._names.voices
        if key not in voices and len(self._records) - len(self._built_in) >= self._max_voices:
            raise StorageFull(
                f"There is room for {self._max_voices} voices (max_voices); delete some first."
            )

    def _enter(self, info: VoiceInfo, pcm: I16, arrays: Arrays, transcript: str | None) -> None:
        """Store a new voice, wholly or not at all. A damaged one in its place is set aside."""
        assert info.report is not None, "a voice of a recording"
        record = VoiceRecord(
            schema=SCHEMA,
            voice_id=info.voice_id,
            name=info.name,
            aliases=info.aliases,
            created_at=info.created_at,
            report=info.report,
            files={},
            imported=(self._encoded,) if info.imported else (),
            transcript=transcript,
        )
        with self._changing:
            self._names.free_name(info.name, info.voice_id)  # again, now that none can come
            self._check_room(info.voice_id)
            self._create(record, reference_to_flac(pcm), arrays)

    def _keep_arrays(self, key: str, arrays: Arrays) -> None:
        """What was made here of a known voice, where it can be stored: it can be made again."""
        with self._changing:
            record = self._records.get(key)
            if record is None:  # deleted while they were made
                return
            try:
                if record.files:
                    self._put(self._store.add_file(record, self._encoded, pack(arrays, {})))
                else:
                    self._create(record, self._built_in[key].clip(), arrays)
            except STORAGE_ERRORS:
                log.warning("voice %s will be encoded again after a restart", key)
                info = replace(self._info(record), imported=False)  # what came with it was lost
                self._names = self._names.with_voice(info)

    def _replace_arrays(self, key: str, arrays: Arrays, report: ReferenceReport) -> VoiceInfo:
        """What was made here, in place of what came with an import. Raises VoiceNotFound where the
        voice is gone, and storage errors."""
        with self._changing:
            record = replace(self._record(key), report=report)
            return self._put(self._store.add_file(record, self._encoded, pack(arrays, {})))

    # --- inside

    def _take(self, found: Stored) -> None:
        stored: dict[str, VoiceRecord] = {}
        records, self._skipped = found
        for record in sorted(records, key=lambda record: record.created_at):
            if _well_named(record):
                stored[record.voice_id] = record
            else:
                self._skipped.append((record.voice_id, "its name cannot be a voice's name"))
        self._built_in = {voice.voice_id: voice for voice in built_in_voices()}
        self._records = {
            name: self._own(voice, stored.pop(name, None)) for name, voice in self._built_in.items()
        } | stored
        for name, reason in self._skipped:
            log.warning("voice directory %s skipped: %s", name, reason)

    def _own(self, voice: BuiltInVoice, stored: VoiceRecord | None) -> VoiceRecord:
        """What is on disk of it, or, before that and when the clip has changed, only its facts."""
        if stored and stored.files.get(REFERENCE_NAME) == voice.sha256:
            return voice.record(stored.aliases, stored.files, stored.imported)
        if stored:
            with suppress(*STORAGE_ERRORS):
                self._store.delete(voice.voice_id)
        return voice.record(stored.aliases if stored else (), {}, ())

    def _record(self, key: str) -> VoiceRecord:
        record = self._records.get(key)
        if record is None:
            raise not_found(key)
        return record

    def _update(self, info: VoiceInfo) -> VoiceInfo:
        """Store a voice's changed name and aliases."""
        record = self._records.get(info.voice_id)
        if record is None:
            raise VoiceProtected("The model's own voices keep their names.", param="voice_id")
        record = replace(record, name=info.name, aliases=info.aliases)
        if not record.files:
            return self._create(record, self._built_in[info.voice_id].clip(), None)
        self._store.update(record)
        return self._put(record)

    def _create(self, record: VoiceRecord, flac: bytes, arrays: Arrays | None) -> VoiceInfo:
        if self._store.exists(record.voice_id):
            self._store.set_aside(record.voice_id)
        contents = {REFERENCE_NAME: flac}
        if arrays is not None:
            contents[self._encoded] = pack(arrays, {})
        return self._put(self._store.create(record, contents))

    def _put(self, record: VoiceRecord) -> VoiceInfo:
        """What is stored of a voice now."""
        self._records[record.voice_id] = record
        info = self._info(record)
        self._names = self._names.with_voice(info)
        return info

    def _info(self, record: VoiceRecord) -> VoiceInfo:
        built_in = self._built_in.get(record.voice_id)
        return VoiceInfo(
            voice_id=record.voice_id,
            name=record.name,
            aliases=record.aliases,
            created_at=record.created_at,
            built_in=built_in is not None,
            report=record.report,
            imported=self._encoded in record.imported,
            description=built_in.description if built_in else "",
        )


def _well_named(record: VoiceRecord) -> bool:
    try:
        return all(checked_name(name) for name in (record.name, *record.aliases))
    except InvalidVoiceId:
        return False
