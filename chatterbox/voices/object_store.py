"""Voices in an object store: their files as objects, and one index that says which there are.

An object is never changed. A voice is there once the index names its objects, and is gone once it
does not; the index is replaced only by whoever has read it as it is, so that changes by any number
of servers come one after another.
"""

import gzip
import logging
import secrets
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from pydantic import TypeAdapter, ValidationError

from chatterbox.errors import StorageFull, StorageUnavailable
from chatterbox.voices import records
from chatterbox.voices.blobs import NEW, Blobs
from chatterbox.voices.records import (
    BadEntry,
    Outdated,
    Stored,
    VoiceRecord,
    sha256,
    storage_errors,
)
from chatterbox.voices.store import LocalCopies, VoiceStore

log = logging.getLogger(__name__)

INDEX = "voices.jsonl.gz"
FILES = "files/"
MAX_INDEX_BYTES = 64 * 1024 * 1024
"""Compressed: some hundred thousand voices."""
COMMITS_KEPT = 64
ORPHAN_S = 24 * 3600.0
"""An object that no index names by then never will be: its server was killed."""
ATTEMPTS = 20
PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class _Header:
    """The first line of the index."""

    schema: int
    commits: tuple[str, ...]  # by whom it was changed last: who has no answer finds himself here


@dataclass(frozen=True, slots=True)
class _Entry:
    """One further line of it."""

    record: VoiceRecord
    objects: Mapping[str, str]  # name of a file → key of its object
    line: bytes = field(default=b"", compare=False)


_HEADER, _ENTRY = TypeAdapter(_Header), TypeAdapter(_Entry)


class ObjectStore(VoiceStore):
    """One prefix of one bucket."""

    shared = True

    def __init__(self, address: str, blobs: Blobs, copies: LocalCopies | None = None) -> None:
        super().__init__(address, copies)
        self._blobs = blobs
        self._tag = NEW  # of the index as it is known here
        self._looked = False
        self._commits: tuple[str, ...] = ()
        self._entries: dict[str, _Entry] = {}
        self._unread: list[bytes] = []  # lines that another version wrote: kept as they are
        self._down = False

    def prepare(self) -> None:
        """Check that it can be written, and remove what killed servers left a day ago."""
        with self._errors(quiet=True):
            if self._blobs.conditional:
                self._check_conditions()
            else:
                log.warning("this store has no conditional writes: change voices by one server")
        self.look()
        with self._errors(quiet=True):
            named = {key for entry in self._entries.values() for key in entry.objects.values()}
            ages = self._blobs.ages(FILES)
            old = [key for key, age_s in ages.items() if age_s > ORPHAN_S and key not in named]
            if old and not self._unread:  # those may name objects too
                self._blobs.delete(old)
        self._tag, self._looked = NEW, False  # the next look gives all

    def _check_conditions(self) -> None:
        probe = f"probe-{uuid.uuid4().hex}"
        self._blobs.put(probe, b"", NEW)
        try:
            self._blobs.put(probe, b"", NEW)
            raise OSError("it overwrites where it is told not to (If-None-Match is ignored)")
        except Outdated:
            pass
        finally:
            self._blobs.delete([probe])

    @contextmanager
    def _errors(self, *, quiet: bool = False) -> Iterator[None]:
        try:
            with storage_errors(quiet=quiet):
                yield
        except StorageUnavailable:
            self._down = True
            raise

    def look(self) -> Stored | None:
        with self._errors(quiet=True):
            try:
                found = self._blobs.get(INDEX, self._tag)
            except FileNotFoundError:
                if self._tag:
                    raise OSError("the index of the voices has vanished") from None
                found = None if self._looked else (_index((), [], []), NEW)
            self._down = False
            if found is None:
                return None
            data, tag = found
            header, lines = _lines(data)
        known = {entry.line: entry for entry in self._entries.values()}
        entries, unread = {}, []
        for line in lines:
            try:
                entry = known.get(line) or replace(_ENTRY.validate_json(line), line=line)
                entries[entry.record.voice_id] = entry
            except ValidationError:
                unread.append(line)
        self._entries, self._unread, self._commits = entries, unread, header.commits
        self._tag, self._looked = tag, True
        voices = [entry.record for entry in entries.values()]
        self._keep_copies_of(voices)
        return voices, [("a voice in the index", "this version cannot read it")] * len(unread)

    @contextmanager
    def exclusive(self) -> Iterator[Stored | None]:
        """Whoever is not alone finds out when the index is written."""
        yield self.look()

    def create(self, record: VoiceRecord, contents: Mapping[str, bytes]) -> VoiceRecord:
        stored = replace(record, files={name: sha256(data) for name, data in contents.items()})
        with self._errors():
            objects = {name: self._upload(stored, name, data) for name, data in contents.items()}
            self._commit(stored.voice_id, _Entry(stored, objects))
        return stored

    def add_file(self, record: VoiceRecord, name: str, data: bytes) -> VoiceRecord:
        changed = records.with_file(record, name, sha256(data))
        before = self._entries[record.voice_id]
        with self._errors():
            objects = {**before.objects, name: self._upload(changed, name, data)}
            self._commit(changed.voice_id, _Entry(changed, objects))
        if name in before.objects:
            self._discard([before.objects[name]])
        return changed

    def update(self, record: VoiceRecord) -> None:
        with self._errors():
            entry = self._entries[record.voice_id]
            self._commit(record.voice_id, _Entry(record, entry.objects))

    def delete(self, voice_id: str) -> None:
        entry = self._entries.get(voice_id)
        if entry:
            with self._errors():
                self._commit(voice_id, None)
            self._discard(list(entry.objects.values()))

    def set_aside(self, voice_id: str) -> None:
        """Its entry is replaced; its objects stay for a day."""

    def document(self, name: str) -> bytes | None:
        return self._document(name)[0]

    def change_document(self, name: str, step: Callable[[bytes | None], bytes]) -> None:
        for attempt in range(ATTEMPTS):
            data, tag = self._document(name)
            with suppress(Outdated), storage_errors():
                self._blobs.put(name, step(data), tag)
                return
            time.sleep(PAUSE_S * attempt)
        raise StorageUnavailable("Other servers change this all the time.", retry_after_s=1)

    def _document(self, name: str) -> tuple[bytes | None, str]:
        with storage_errors():
            try:
                return self._blobs.get(name) or (None, NEW)
            except FileNotFoundError:
                return None, NEW

    def fetch(self, record: VoiceRecord, name: str) -> bytes:
        entry = self._entries.get(record.voice_id)
        if entry and name in entry.objects:
            if self._down:  # whoever looks every few seconds finds out when it is back
                unreachable = "The voices' store cannot be reached now."
                raise StorageUnavailable(unreachable, retry_after_s=5)
            with self._errors(), suppress(FileNotFoundError):
                found = self._blobs.get(entry.objects[name])
                assert found, "asked for whatever its tag"
                return found[0]
        raise BadEntry(f"{name} is missing")

    def _upload(self, record: VoiceRecord, name: str, data: bytes) -> str:
        """Write an object that no index names yet; gives its key."""
        key = f"{FILES}{record.voice_id}/{uuid.uuid4().hex}-{name}"
        self._blobs.put(key, data)
        return key

    def _commit(self, voice_id: str, entry: _Entry | None) -> None:
        """Replace the index by one with `entry` in it. Raises Outdated where it is not any more
        what is known here."""
        entries = {one: kept for one, kept in self._entries.items() if one != voice_id}
        if entry:
            entry = replace(entry, line=_ENTRY.dump_json(entry, exclude={"line"}))
            if len(entry.line) > records.MAX_META_BYTES:
                raise StorageFull("The voice's names take too much room; nothing was changed.")
            entries[voice_id] = entry
        commit = secrets.token_hex(4)
        commits = (*self._commits, commit)[-COMMITS_KEPT:]
        data = _index(commits, [one.line for one in entries.values()], self._unread)
        if len(data) > MAX_INDEX_BYTES:
            raise StorageFull("The index of voices has no room; delete some first.")
        try:
            tag = self._blobs.put(INDEX, data, self._tag)
        except (Outdated, OSError) as failure:
            if not self._came_through(commit):
                before = self._entries.get(voice_id)
                if entry and isinstance(failure, Outdated):  # what was written will not be named
                    known = before.objects.values() if before else ()
                    self._discard([key for key in entry.objects.values() if key not in known])
                raise
        else:
            self._tag, self._commits = tag, commits
        self._entries = entries

    def _came_through(self, commit: str) -> bool:
        """Whether the index was written, though no answer came or a repetition was refused."""
        with suppress(FileNotFoundError):
            found = self._blobs.get(INDEX)
            return found is not None and commit in _lines(found[0])[0].commits
        return False

    def _discard(self, keys: list[str]) -> None:
        """What is left is removed at a start, a day later."""
        with suppress(OSError):
            self._blobs.delete(keys)


def _index(commits: tuple[str, ...], lines: list[bytes], more: list[bytes]) -> bytes:
    header = _HEADER.dump_json(_Header(records.SCHEMA, commits))
    return gzip.compress(b"\n".join([header, *lines, *more]), 1, mtime=0)


def _lines(data: bytes) -> tuple[_Header, list[bytes]]:
    """Raises OSError for anything else: nobody writes over what he cannot read."""
    try:
        first, *lines = gzip.decompress(data).split(b"\n")
        header = _HEADER.validate_json(first)
    except (OSError, EOFError, ValueError) as damage:
        raise OSError("the index of the voices is damaged") from damage
    if header.schema != records.SCHEMA:
        raise OSError(f"the index of the voices has schema {header.schema}, not {records.SCHEMA}")
    return header, lines
