"""Stored voices, and those that come with the program: record, reference, and tensors for a model.

Knows no speech encoder and no name rules; callers serialise what changes a voice.
"""

import logging
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from chatterbox.errors import InvalidVoiceId
from chatterbox.families.turbo.voice import VoiceTensors
from chatterbox.voices.names import VoiceInfo, checked_name
from chatterbox.voices.reference import I16, ReferenceReport
from chatterbox.voices.store import (
    REFERENCE_NAME,
    SCHEMA,
    STORAGE_ERRORS,
    BadEntry,
    VoiceRecord,
    VoiceStore,
)
from chatterbox.voices.tensor_file import (
    DamagedFile,
    arrays_to_tensors,
    pack,
    tensors_to_arrays,
    unpack,
)
from chatterbox.voices.voice_file import flac_to_reference, reference_to_flac

DIRECTORY = Path(__file__).with_name("builtin")


@dataclass(frozen=True, slots=True)
class BuiltInVoice:
    """A shipped voice. Its id is its name, not a hash: `slt` is easy to ask for."""

    voice_id: str
    description: str
    sha256: str  # of the clip
    report: ReferenceReport

    def clip(self) -> bytes:
        """The reference as FLAC."""
        return (DIRECTORY / f"{self.voice_id}.flac").read_bytes()


def built_in_voices() -> list[BuiltInVoice]:
    """All of them; written by `tools/make_builtin_voices.sh`."""
    return TypeAdapter(list[BuiltInVoice]).validate_json((DIRECTORY / "voices.json").read_bytes())


log = logging.getLogger(__name__)

MODEL_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""It becomes part of a file's name."""


class VoiceRepository:
    """The voices of one data directory and the built-in ones, for one model.

    A built-in voice gets its directory when its tensors or an alias are first kept; where that
    fails it speaks nevertheless.
    """

    def __init__(self, store: VoiceStore, *, model_key: str) -> None:
        assert MODEL_KEY.fullmatch(model_key), "a model key that cannot be in a file's name"
        self._store = store
        self._tensors_name = f"encoded-{model_key}.safetensors"
        self._records: dict[str, VoiceRecord] = {}
        self._built_in: dict[str, BuiltInVoice] = {}
        self._skipped: list[tuple[str, str]] = []

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """(directory name, reason) of everything that is not a good voice."""
        return tuple(self._skipped)

    @property
    def built_in(self) -> int:
        """How many voices came with the program."""
        return len(self._built_in)

    def is_encoded(self, voice_id: str) -> bool:
        """Whether tensors for this model are kept of the voice."""
        record = self._records.get(voice_id)
        return record is not None and self._tensors_name in record.files

    def open(self) -> list[VoiceInfo]:
        """Clean up, and all voices, the built-in ones first, then by age. A directory that cannot
        be used leaves the built-in ones."""
        try:
            self._store.prepare()
        except STORAGE_ERRORS:
            log.warning("voices cannot be stored: the data directory cannot be written")
        stored: dict[str, VoiceRecord] = {}
        self._skipped = []
        with suppress(*STORAGE_ERRORS):
            records, self._skipped = self._store.scan()
            for record in sorted(records, key=lambda record: record.created_at):
                if _well_named(record):
                    stored[record.voice_id] = record
                else:
                    self._skipped.append((record.voice_id, "its name cannot be a voice's name"))
        self._built_in = {voice.voice_id: voice for voice in built_in_voices()}
        self._records = {
            voice.voice_id: self._built_in_record(voice, stored.pop(voice.voice_id, None))
            for voice in self._built_in.values()
        } | stored
        for name, reason in self._skipped:
            log.warning("voice directory %s skipped: %s", name, reason)
        return [self._info(record) for record in self._records.values()]

    def add(self, info: VoiceInfo, reference: I16, tensors: VoiceTensors) -> None:
        """Store a new voice, wholly or not at all. A damaged one in its place is set aside."""
        record = _record(info)
        if info.imported:
            record = replace(record, imported=(self._tensors_name,))
        self._create(record, reference_to_flac(reference), tensors)

    def rediscover(self, voice_id: str) -> VoiceInfo | None:
        """A good voice that is on disk but unknown here: stored when taking it back failed."""
        try:
            record = self._store.load(voice_id)
        except BadEntry:
            return None
        if not _well_named(record):
            return None
        self._records[voice_id] = record
        return self._info(record)

    def tensors(self, voice_id: str) -> tuple[VoiceTensors | None, bool]:
        """The voice's tensors, None where there are none for this model, and whether they came
        with an import. Raises BadEntry for an unknown voice."""
        record = self._record(voice_id)
        if self._tensors_name not in record.files:
            return None, False
        try:
            arrays, _ = unpack(self._store.read(record, self._tensors_name))
            return arrays_to_tensors(arrays), self._tensors_name in record.imported
        except (BadEntry, DamagedFile) as damage:
            log.warning("voice %s is encoded again: %s", voice_id, damage)
            return None, False

    def keep_tensors(self, voice_id: str, tensors: VoiceTensors) -> None:
        """Store tensors for this model, where that is possible: they can be made again."""
        record = self._records.get(voice_id)
        if record is None:  # deleted while they were made
            return
        try:
            if record.files:
                data = self._pack(tensors)
                self._records[voice_id] = self._store.add_file(record, self._tensors_name, data)
            else:
                self._create(record, self._built_in[voice_id].clip(), tensors)
        except STORAGE_ERRORS:
            log.warning("voice %s will be encoded again after a restart", voice_id)

    def replace_tensors(
        self, voice_id: str, tensors: VoiceTensors, report: ReferenceReport
    ) -> VoiceInfo:
        """Store what was made here in place of what came with an import. Raises BadEntry for an
        unknown voice, and storage errors."""
        record = replace(self._record(voice_id), report=report)
        record = self._store.add_file(record, self._tensors_name, self._pack(tensors))
        self._records[voice_id] = record
        return self._info(record)

    def reference(self, voice_id: str) -> I16:
        """The voice's prepared recording. Raises BadEntry where it is lost."""
        voice = self._built_in.get(voice_id)
        record = self._record(voice_id)
        try:
            return flac_to_reference(
                voice.clip() if voice else self._store.read(record, REFERENCE_NAME)
            )
        except DamagedFile as damage:
            raise BadEntry(str(damage)) from damage

    def update(self, info: VoiceInfo) -> None:
        """Store a voice's changed name and aliases."""
        record = replace(self._record(info.voice_id), name=info.name, aliases=info.aliases)
        if record.files:
            self._store.update(record)
            self._records[info.voice_id] = record
        else:
            self._create(record, self._built_in[info.voice_id].clip(), None)

    def remove(self, voice_id: str) -> None:
        """Delete a voice. Raises where the disk does not let it go."""
        self._store.delete(voice_id)
        del self._records[voice_id]

    def skip(self, voice_id: str, reason: str) -> None:
        """Take a voice that turned out to be damaged out of service; its files stay."""
        if self._records.pop(voice_id, None):
            log.warning("voice %s is out of service: %s", voice_id, reason)
            self._skipped.append((voice_id, reason))

    def _record(self, voice_id: str) -> VoiceRecord:
        record = self._records.get(voice_id)
        if record is None:
            raise BadEntry("no such voice")
        return record

    def _info(self, record: VoiceRecord) -> VoiceInfo:
        return VoiceInfo(
            voice_id=record.voice_id,
            name=record.name,
            aliases=record.aliases,
            created_at=record.created_at,
            built_in=record.voice_id in self._built_in,
            report=record.report,
            imported=self._tensors_name in record.imported,
        )

    def _built_in_record(self, voice: BuiltInVoice, stored: VoiceRecord | None) -> VoiceRecord:
        """What is on disk of it, or, before that and when the clip has changed, only its facts."""
        if stored and stored.files.get(REFERENCE_NAME) == voice.sha256:
            return replace(stored, name=voice.voice_id, created_at=0, report=voice.report)
        if stored:
            with suppress(*STORAGE_ERRORS):
                self._store.delete(voice.voice_id)
        return VoiceRecord(
            schema=SCHEMA,
            voice_id=voice.voice_id,
            name=voice.voice_id,
            aliases=stored.aliases if stored else (),
            created_at=0,
            report=voice.report,
            files={},
        )

    def _create(self, record: VoiceRecord, flac: bytes, tensors: VoiceTensors | None) -> None:
        if self._store.exists(record.voice_id):
            self._store.set_aside(record.voice_id)
        contents = {REFERENCE_NAME: flac}
        if tensors:
            contents[self._tensors_name] = self._pack(tensors)
        self._records[record.voice_id] = self._store.create(record, contents)

    def _pack(self, tensors: VoiceTensors) -> bytes:
        return pack(tensors_to_arrays(tensors), {})


def _well_named(record: VoiceRecord) -> bool:
    try:
        return all(checked_name(name) for name in (record.name, *record.aliases))
    except InvalidVoiceId:
        return False


def _record(info: VoiceInfo) -> VoiceRecord:
    return VoiceRecord(
        schema=SCHEMA,
        voice_id=info.voice_id,
        name=info.name,
        aliases=info.aliases,
        created_at=info.created_at,
        report=info.report,
        files={},
    )
