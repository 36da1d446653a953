"""The catalogue: the existing voices, their names, and their files in the store.

Lists stored voices, built-in voices, and voices that the model was trained with. Does not encode.
Methods may block on disk or network and are thread-safe.
"""

import builtins
import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from chatterbox.errors import InvalidVoiceId, StorageFull, VoiceProtected
from chatterbox.families.voices import Arrays, FixedVoices
from chatterbox.voices.built_in import built_in_voices
from chatterbox.voices.names import (
    MAX_ALIASES,
    NameIndex,
    VoiceInfo,
    normalize_name,
    voice_not_found,
    with_alias,
    without_alias,
)
from chatterbox.voices.reference import Reference, ReferenceReport, pcm_to_float
from chatterbox.voices.store import (
    REFERENCE_NAME,
    SCHEMA,
    BadEntry,
    StoreContents,
    VoiceRecord,
    VoiceStore,
    retry_outdated,
)
from chatterbox.voices.voice_file import DamagedFile, flac_to_reference, pack, reference_to_flac

log = logging.getLogger(__name__)

MODEL_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound="VoiceCatalogue")


def exclusively(change: Callable[Concatenate[C, P], T]) -> Callable[Concatenate[C, P], T]:
    """Decorate a method that changes voices, so that it works on the store's current contents and
    no other change, on any server, runs at the same time."""

    @wraps(change)
    def alone(self: C, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if not self._clones:
            return change(self, *args, **kwargs)

        def attempt() -> T:
            with self._changing, self._store.exclusive() as contents:
                self._apply(contents)
                return change(self, *args, **kwargs)

        return retry_outdated(attempt)

    return alone


class VoiceCatalogue:
    """The list of voices. Changes run one at a time (`exclusively`); lookups need no lock.

    A built-in voice is stored when it gets its first alias or arrays, and works without that.
    """

    def __init__(
        self,
        store: VoiceStore,
        encoder_key: str | None,
        fixed: FixedVoices | None,
        max_voices: int,
    ) -> None:
        """`encoder_key` identifies the encoder of the stored arrays; None means that the model
        cannot clone, so that only its `fixed` voices are listed."""
        assert encoder_key is None or MODEL_KEY.fullmatch(encoder_key), (
            "the key must be valid in a file name"
        )
        self._store = store
        self._clones = encoder_key is not None
        self._arrays_name = f"encoded-{encoder_key}.safetensors"
        self._fixed = [VoiceInfo.of_fixed(voice) for voice in (fixed.voices if fixed else ())]
        self._max_voices = max_voices
        self._names = NameIndex()
        self._lost: dict[str, VoiceRecord] = {}  # voices whose recordings cannot be read
        self._built_in = {v.voice_id: v for v in built_in_voices()} if self._clones else {}
        self.skipped: tuple[tuple[str, str], ...] = ()
        """(name, reason) of each entry in the store that is not a usable voice."""
        self._changing = threading.Lock()

    def refresh(self) -> None:
        """Load the changes of other servers. Raises storage errors."""
        if self._clones:
            with self._changing:
                self._apply(self._store.poll())

    def info(self, id_or_name: str) -> VoiceInfo:
        """Look up a voice in memory; `refresh` finds new voices of other servers. Raises
        VoiceNotFound."""
        found = self._names.find(id_or_name)
        if found is None:
            raise voice_not_found(id_or_name)
        return found

    def list(self) -> builtins.list[VoiceInfo]:
        """Return all voices: the model's own, then built-in ones, then others from old to new."""
        return sorted(self._names.voices.values(), key=lambda info: info.created_at)

    # --- changes by the owner

    @exclusively
    def rename(self, id_or_name: str, name: str) -> VoiceInfo:
        """Change a voice's name. Raises VoiceNotFound, VoiceProtected, InvalidVoiceId."""
        info = self._owned(id_or_name, "cannot be renamed")
        name = self._names.free_name(name, info.voice_id)
        return self._update(info, name=name, aliases=without_alias(info, name))

    @exclusively
    def describe(self, id_or_name: str, description: str) -> VoiceInfo:
        """Set a voice's description. Raises VoiceNotFound, VoiceProtected."""
        info = self._owned(id_or_name, "keeps its description")
        return self._update(info, description=description.strip())

    @exclusively
    def set_alias(self, id_or_name: str, alias: str) -> VoiceInfo:
        """Add an alias. Raises VoiceNotFound, VoiceProtected, InvalidVoiceId."""
        info = self.info(id_or_name)
        alias = self._names.free_name(alias, info.voice_id)
        return self._update(info, aliases=with_alias(info, alias))

    @exclusively
    def remove_alias(self, alias: str) -> VoiceInfo:
        """Remove an alias. Raises VoiceNotFound if no voice has this alias."""
        info = self.info(alias)
        remaining = without_alias(info, alias)
        if remaining == info.aliases:  # `alias` is an id or a name
            raise voice_not_found(alias)
        return self._update(info, aliases=remaining)

    @exclusively
    def delete(self, id_or_name: str) -> VoiceInfo:
        """Delete a voice; running requests finish. Raises VoiceNotFound, VoiceProtected and storage
        errors."""
        info = self._owned(id_or_name, "cannot be deleted")
        self._store.delete(info.voice_id)
        self._names = self._names.without(info.voice_id)
        self._drop_encoded(info.voice_id)
        return info

    def _owned(self, id_or_name: str, rule: str) -> VoiceInfo:
        """Look up a voice that is not built in. Raises VoiceNotFound, VoiceProtected."""
        info = self.info(id_or_name)
        if info.built_in:
            raise VoiceProtected(f"A built-in voice {rule}.")
        return info

    def _update(self, info: VoiceInfo, **changes: Any) -> VoiceInfo:
        """Change fields of a voice's record."""
        if info.record is None:
            raise VoiceProtected("The model's own voices cannot be changed.")
        return self._save(replace(info.record, **changes))

    def _apply(self, contents: StoreContents | None) -> None:
        """Replace the list with the store's contents; None means that they have not changed."""
        if contents is None:
            return
        records, skipped = contents
        stored: dict[str, VoiceRecord] = {}
        for record in sorted(records, key=lambda record: record.created_at):
            try:
                for name in (record.name, *record.aliases):
                    normalize_name(name)
            except InvalidVoiceId:
                skipped.append((record.voice_id, "its name cannot be a voice's name"))
                continue
            if self._lost.get(record.voice_id) == record:
                skipped.append((record.voice_id, "its recording is lost"))
            else:
                stored[record.voice_id] = record
        own = [voice.record(stored.pop(key, None)) for key, voice in self._built_in.items()]
        before, self.skipped = self._names.voices, tuple(skipped)
        self._names = NameIndex([*self._fixed, *map(self._info, [*own, *stored.values()])])
        for voice_id, info in before.items():
            now = self._names.voices.get(voice_id)
            if now is None or self._arrays_sha(info) not in (None, self._arrays_sha(now)):
                self._drop_encoded(voice_id)

    def _drop_encoded(self, voice_id: str) -> None:
        """Hook, called when a voice was deleted or was encoded again by another server."""

    def _arrays_sha(self, info: VoiceInfo) -> str | None:
        return info.record.files.get(self._arrays_name) if info.record else None

    def _record(self, voice_id: str) -> VoiceRecord:
        info = self._names.voices.get(voice_id)
        if info is None or info.record is None:
            raise voice_not_found(voice_id)
        return info.record

    def _enter(self, record: VoiceRecord) -> VoiceInfo:
        """Add or replace a voice in the list."""
        info = self._info(record)
        self._names = self._names.with_voice(info)
        return info

    def _info(self, record: VoiceRecord) -> VoiceInfo:
        built_in = self._built_in.get(record.voice_id)
        description = built_in.description if built_in else record.description
        imported = self._arrays_name in record.imported
        return VoiceInfo.of_record(record, description, bool(built_in), imported)

    # --- the files

    def _read(self, voice_id: str, name: str) -> bytes:
        """Read a file of a voice. If the file is damaged, try again if another server has replaced
        the voice. Raises BadEntry, VoiceNotFound and storage errors."""
        record = self._record(voice_id)
        try:
            return self._store.read(record, name)
        except BadEntry:
            self.refresh()
            if self._record(voice_id) == record:
                raise
            return self._store.read(self._record(voice_id), name)

    def _reference(self, voice_id: str) -> Reference:
        """Read the stored recording. If it cannot be read, unlist the voice and raise
        VoiceNotFound."""
        voice = self._built_in.get(voice_id)
        try:
            flac = voice.clip() if voice else self._read(voice_id, REFERENCE_NAME)
            pcm = flac_to_reference(flac)
        except (BadEntry, DamagedFile) as lost:
            with self._changing:
                info = self._names.voices.get(voice_id)
                if info and info.record:
                    log.warning("voice %s is unavailable: %s", voice_id, lost)
                    self.skipped += ((voice_id, str(lost)),)
                    self._lost[voice_id] = info.record
                self._names = self._names.without(voice_id)
            raise voice_not_found(voice_id) from lost
        record = self._record(voice_id)
        return Reference(pcm_to_float(pcm), record.report, record.transcript)

    def _check_room(self, voice_id: str) -> None:
        """Raise StorageFull if a new voice would exceed `max_voices`."""
        voices = self._names.voices
        stored = len(voices) - len(self._built_in) - len(self._fixed)
        if voice_id not in voices and stored >= self._max_voices:
            raise StorageFull(
                f"There is room for {self._max_voices} voices (max_voices); delete some first."
            )

    @exclusively
    def _add(
        self, names: Sequence[str], reference: Reference, arrays: Arrays, *, imported: bool
    ) -> tuple[VoiceInfo, bool]:
        """Store a new voice. Returns the voice, and False if another server stored it meanwhile."""
        voice_id = reference.voice_id
        if existing := self._names.voices.get(voice_id):
            return existing, False
        self._names.free_name(names[0], voice_id)  # again: the name may be taken now
        self._check_room(voice_id)
        record = VoiceRecord(
            schema=SCHEMA,
            voice_id=voice_id,
            name=names[0],
            aliases=tuple(self._names.free_names(names[1 : MAX_ALIASES + 1], voice_id)),
            created_at=time.time(),
            report=reference.report,
            files={},
            imported=(self._arrays_name,) if imported else (),
            transcript=reference.transcript,
        )
        flac = reference_to_flac(reference.pcm)
        self._store.set_aside(voice_id)
        contents = {REFERENCE_NAME: flac, self._arrays_name: pack(arrays)}
        return self._enter(self._store.create(record, contents)), True

    @exclusively
    def _store_arrays(
        self, voice_id: str, arrays: Arrays, report: ReferenceReport | None = None
    ) -> VoiceInfo:
        """Store arrays encoded by this server, replacing any others. Raises VoiceNotFound if the
        voice was deleted, and storage errors."""
        record = self._record(voice_id)
        return self._save(replace(record, report=report or record.report), arrays)

    def _save(self, record: VoiceRecord, arrays: Arrays | None = None) -> VoiceInfo:
        """Store the changed record of a voice, and its arrays if given."""
        files = {} if arrays is None else {self._arrays_name: pack(arrays)}
        if not record.files:  # a built-in voice that is not stored, or stored with another clip
            files = {REFERENCE_NAME: self._built_in[record.voice_id].clip(), **files}
            self._store.delete(record.voice_id)
            record = self._store.create(record, files)
        elif files:
            record = self._store.add_file(record, self._arrays_name, files[self._arrays_name])
        else:
            self._store.update(record)
        return self._enter(record)
