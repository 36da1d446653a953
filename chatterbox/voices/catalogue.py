"""The catalogue: which voices there are, what they are called, and what is kept of each.

Holds the voices of one store, those that come with the program, and those that the model itself was
trained with. Encodes nothing. All methods block (disk, network); any thread may call them.
"""

import builtins
import logging
import random
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from chatterbox.errors import InvalidVoiceId, StorageUnavailable, VoiceProtected
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
from chatterbox.voices.places import read_stored
from chatterbox.voices.records import REFERENCE_NAME, SCHEMA, Outdated, Stored, VoiceRecord
from chatterbox.voices.store import VoiceStore
from chatterbox.voices.voice_file import pack

log = logging.getLogger(__name__)

MODEL_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""It becomes part of a file's name."""
P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound="VoiceCatalogue")
CHANGE_S = 30.0
"""So long one change is tried again while other servers are quicker."""
PAUSE_S = 0.05


def exclusively(change: Callable[Concatenate[C, P], T]) -> Callable[Concatenate[C, P], T]:
    """A method that changes voices: with what all servers have stored until then, while no other
    one changes it, here or elsewhere."""

    @wraps(change)
    def alone(self: C, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if not self._clones:
            return change(self, *args, **kwargs)
        until = time.monotonic() + CHANGE_S
        while time.monotonic() < until:
            with suppress(Outdated), self._changing, self._store.exclusive() as found:
                self._take(found)
                return change(self, *args, **kwargs)
            time.sleep(random.uniform(0, PAUSE_S))
        raise StorageUnavailable(
            "Other servers change voices all the time; nothing was changed.", retry_after_s=1
        )

    return alone


class VoiceCatalogue:
    """Changes are made one at a time (`exclusively`); finding needs no lock.

    A built-in voice is stored when its arrays or an alias are first kept; where that fails it
    speaks nevertheless.
    """

    def __init__(
        self, store: VoiceStore, encoder_key: str | None, fixed: FixedVoices | None
    ) -> None:
        """`encoder_key`: of what voices are encoded for; None: there are only the `fixed` ones."""
        assert encoder_key is None or MODEL_KEY.fullmatch(encoder_key), "no part of a file's name"
        self._store = store
        self._clones = encoder_key is not None
        self._encoded = f"encoded-{encoder_key}.safetensors"
        self._fixed = fixed
        self._names = NameIndex()
        self._records: dict[str, VoiceRecord] = {}
        self._lost: dict[str, VoiceRecord] = {}
        self._built_in: dict[str, BuiltInVoice] = {}
        self._skipped: list[tuple[str, str]] = []
        self._changing = threading.Lock()

    def open(self, stored: Callable[[], Stored] | None = None) -> None:
        """List the voices: the model's own, the built-in ones, then by age. A directory that cannot
        be used leaves the former. `stored`: where the disk has been read already."""
        self._built_in = {v.voice_id: v for v in built_in_voices()} if self._clones else {}
        if self._clones:
            self._take(stored() if stored else read_stored(self._store))
            for name, reason in self._skipped:
                log.warning("voice directory %s skipped: %s", name, reason)
        else:
            self._list()

    def look(self) -> None:
        """See what other servers have changed since the last look. Raises storage errors."""
        if self._clones:
            with self._changing:
                self._take(self._store.look())

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """(directory name, reason) of what is in the voices' directory but is no good voice."""
        return tuple(self._skipped)

    # --- finding

    def info(self, id_or_name: str) -> VoiceInfo:
        """One voice, as far as is known here: `look` finds what is new elsewhere. Raises
        VoiceNotFound."""
        found = self._names.find(id_or_name)
        if found is None:
            raise not_found(id_or_name)
        return found

    def list(self) -> builtins.list[VoiceInfo]:
        """All voices: those that were there from the beginning, then from old to new."""
        return sorted(self._names.voices.values(), key=lambda info: info.created_at)

    # --- changing

    @exclusively
    def rename(self, id_or_name: str, name: str) -> VoiceInfo:
        """Give a voice another name. Raises VoiceNotFound, VoiceProtected, InvalidVoiceId."""
        info = self._owned(id_or_name, "keeps its name")
        kept = self._names.free_name(name, info.voice_id)
        return self._update(replace(info, name=kept, aliases=without_alias(info, kept)))

    @exclusively
    def describe(self, id_or_name: str, description: str) -> VoiceInfo:
        """Note what the voice is like, or what it is for. Raises VoiceNotFound, VoiceProtected."""
        info = self._owned(id_or_name, "keeps its description")
        return self._update(replace(info, description=description.strip()))

    @exclusively
    def set_alias(self, id_or_name: str, alias: str) -> VoiceInfo:
        """Let a voice answer to a further name. Raises VoiceNotFound, VoiceProtected,
        InvalidVoiceId."""
        info = self.info(id_or_name)
        kept = self._names.free_name(alias, info.voice_id)
        return self._update(replace(info, aliases=with_alias(info, kept)))

    @exclusively
    def remove_alias(self, alias: str) -> VoiceInfo:
        """Take an alias away from its voice. Raises VoiceNotFound."""
        info = self.info(alias)
        kept = without_alias(info, alias)
        if kept == info.aliases:  # it is the voice's id or name
            raise not_found(alias)
        return self._update(replace(info, aliases=kept))

    @exclusively
    def delete(self, id_or_name: str) -> VoiceInfo:
        """Delete a voice; requests that speak with it finish. Raises VoiceNotFound,
        VoiceProtected and storage errors."""
        info = self._owned(id_or_name, "cannot be deleted")
        self._store.delete(info.voice_id)
        del self._records[info.voice_id]
        self._names = self._names.without(info.voice_id)
        self._forget(info.voice_id)
        return info

    # --- inside

    def _owned(self, id_or_name: str, otherwise: str) -> VoiceInfo:
        """A voice that somebody has registered. Raises VoiceNotFound, VoiceProtected."""
        info = self.info(id_or_name)
        if info.built_in:
            raise VoiceProtected(f"A built-in voice {otherwise}.", param="voice_id")
        return info

    def _take(self, found: Stored | None) -> None:
        """What is stored now; None: what was there before."""
        if found is None:
            return
        records, skipped = found
        stored: dict[str, VoiceRecord] = {}
        for record in sorted(records, key=lambda record: record.created_at):
            try:
                for name in (record.name, *record.aliases):
                    checked_name(name)
            except InvalidVoiceId:
                skipped.append((record.voice_id, "its name cannot be a voice's name"))
                continue
            if self._lost.get(record.voice_id) == record:
                skipped.append((record.voice_id, "its recording is lost"))
            else:
                stored[record.voice_id] = record
        before, self._skipped = self._records, skipped
        self._records = {
            name: self._own(voice, stored.pop(name, None)) for name, voice in self._built_in.items()
        } | stored
        self._list()
        for key, record in before.items():
            now, sha = self._records.get(key), record.files.get(self._encoded)
            if now is None or sha not in (None, now.files.get(self._encoded)):
                self._forget(key)

    def _list(self) -> None:
        known = [VoiceInfo.fixed(voice) for voice in (self._fixed.voices if self._fixed else ())]
        known += [self._info(record) for record in self._records.values()]
        self._names = NameIndex({info.voice_id: info for info in known})

    def _own(self, voice: BuiltInVoice, stored: VoiceRecord | None) -> VoiceRecord:
        """What is stored of it, or, before that and when the clip has changed, only its facts."""
        name, report, said = voice.voice_id, voice.report, voice.transcript
        record = VoiceRecord(SCHEMA, name, name, (), 0, report, {}, transcript=said)
        if stored is None:
            return record
        if stored.files.get(REFERENCE_NAME) == voice.sha256:
            record = replace(record, files=stored.files, imported=stored.imported)
        return replace(record, aliases=stored.aliases)

    def _forget(self, key: str) -> None:
        """A voice is gone, or encoded anew by another server."""

    def _record(self, key: str) -> VoiceRecord:
        record = self._records.get(key)
        if record is None:
            raise not_found(key)
        return record

    def _update(self, info: VoiceInfo) -> VoiceInfo:
        """Store a voice's changed name, aliases and description."""
        record = self._records.get(info.voice_id)
        if record is None:
            raise VoiceProtected("The model's own voices keep their names.", param="voice_id")
        own = "" if info.built_in else info.description
        record = replace(record, name=info.name, aliases=info.aliases, description=own)
        if not record.files:
            return self._create(record, self._built_in[info.voice_id].clip(), None)
        self._store.update(record)
        return self._put(record)

    def _create(self, record: VoiceRecord, flac: bytes, arrays: Arrays | None) -> VoiceInfo:
        if record.voice_id in self._built_in:  # the program may have had another clip of it
            self._store.delete(record.voice_id)
        else:
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
            record.voice_id,
            record.name,
            record.aliases,
            record.created_at,
            built_in=built_in is not None,
            report=record.report,
            imported=self._encoded in record.imported,
            description=built_in.description if built_in else record.description,
        )
