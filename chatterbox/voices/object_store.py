"""Voices in an object store: an object for each file, and one index that lists the voices.

File objects never change. A voice exists while the index lists its objects. A server replaces the
index only if no other server has changed it, which serializes the changes of all servers.
"""

import gzip
import logging
import secrets
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from pydantic import TypeAdapter, ValidationError

from chatterbox.errors import StorageFull, StorageUnavailable
from chatterbox.voices import store
from chatterbox.voices.blobs import NEW, Blobs
from chatterbox.voices.store import (
    BadEntry,
    Outdated,
    StoreContents,
    VoiceRecord,
    VoiceStore,
    sha256,
)

log = logging.getLogger(__name__)

INDEX = "voices.jsonl.gz"
FILES = "files/"
MAX_INDEX_BYTES = 64 * 1024 * 1024
"""Largest compressed index, for a few hundred thousand voices."""
COMMITS_KEPT = 64
ORPHAN_S = 24 * 3600.0
"""Age at which an object that the index does not list counts as left by a killed server."""


@dataclass(frozen=True, slots=True)
class _Header:
    """The first line of the index."""

    schema: int
    commits: tuple[str, ...]
    """Ids of the latest changes, in which a server that got no answer looks for its own change."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A further line of the index: one voice."""

    record: VoiceRecord
    objects: Mapping[str, str]  # file name → key of its object
    line: bytes = field(default=b"", compare=False)


_HEADER, _ENTRY = TypeAdapter(_Header), TypeAdapter(_Entry)


class ObjectStore(VoiceStore):
    """The voices with one prefix in a bucket."""

    shared = True

    def __init__(self, address: str, blobs: Blobs, copies: store.LocalCopies | None = None) -> None:
        super().__init__(address, copies)
        self._blobs = blobs
        self._tag: str | None = None  # of the index when last read; None if not read yet
        self._commits: tuple[str, ...] = ()
        self._entries: dict[str, _Entry] = {}
        self._unread: list[bytes] = []  # lines of other versions, kept unchanged
        self._down = False

    def prepare(self) -> None:
        """Check that the store can be written, and delete objects that killed servers left."""
        with self._errors(quiet=True):
            if self._blobs.conditional:
                self._check_conditions()
            else:
                log.warning(
                    "the voices' store has no conditional writes: let only one server change voices"
                )
        self.poll()
        with self._errors(quiet=True):
            named = {key for entry in self._entries.values() for key in entry.objects.values()}
            ages = self._blobs.ages(FILES)
            orphans = [key for key, age_s in ages.items() if age_s > ORPHAN_S and key not in named]
            if orphans and not self._unread:  # unread lines may list objects too
                self._blobs.delete(orphans)
        self._tag = None  # so that the next poll returns everything

    def _check_conditions(self) -> None:
        probe = f"probe-{uuid.uuid4().hex}"
        self._blobs.put(probe, b"", NEW)
        try:
            self._blobs.put(probe, b"", NEW)
            raise OSError("it ignores If-None-Match and overwrites existing objects")
        except Outdated:
            pass
        finally:
            self._blobs.delete([probe])

    @contextmanager
    def _errors(self, *, quiet: bool = False) -> Iterator[None]:
        """Apply `storage_errors`, and remember whether the store cannot be reached."""
        try:
            with store.storage_errors(quiet=quiet):
                yield
        except StorageUnavailable:
            self._down = True
            raise

    def poll(self) -> StoreContents | None:
        with self._errors(quiet=True):
            try:
                found = self._blobs.get(INDEX, self._tag or NEW)
            except FileNotFoundError:
                if self._tag:
                    raise OSError("the index of the voices is missing") from None
                found = (_index((), [], []), NEW) if self._tag is None else None
            self._down = False
            if found is None:
                return None
            header, lines = _parse_index(found[0])
        known = {entry.line: entry for entry in self._entries.values()}
        entries, unread = {}, []
        for line in lines:
            try:
                entry = known.get(line) or replace(_ENTRY.validate_json(line), line=line)
                entries[entry.record.voice_id] = entry
            except ValidationError:
                unread.append(line)
        self._entries, self._unread, self._commits = entries, unread, header.commits
        self._tag = found[1]
        records = [entry.record for entry in entries.values()]
        self._prune_copies(records)
        return records, [("a voice in the index", "this version cannot read it")] * len(unread)

    @contextmanager
    def exclusive(self) -> Iterator[StoreContents | None]:
        """Yield the result of `poll` without a lock. Writing the index raises Outdated if another
        server has changed it."""
        yield self.poll()

    def create(self, record: VoiceRecord, contents: Mapping[str, bytes]) -> VoiceRecord:
        stored = replace(record, files={name: sha256(data) for name, data in contents.items()})
        with self._errors():
            objects = {name: self._upload(stored, name, data) for name, data in contents.items()}
            self._commit(stored.voice_id, _Entry(stored, objects))
        return stored

    def add_file(self, record: VoiceRecord, name: str, data: bytes) -> VoiceRecord:
        changed = record.with_file(name, sha256(data))
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
        """Do nothing: `create` replaces the entry, and the old objects are deleted as orphans."""

    def read_document(self, name: str) -> bytes | None:
        return self._document(name)[0]

    def change_document(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        def attempt() -> None:
            data, tag = self._document(name)
            with store.storage_errors():
                self._blobs.put(name, change(data), tag)

        store.retry_outdated(attempt)

    def _document(self, name: str) -> tuple[bytes | None, str]:
        with store.storage_errors(), suppress(FileNotFoundError):
            return self._blobs.get(name) or (None, NEW)
        return None, NEW

    def fetch(self, record: VoiceRecord, name: str) -> bytes:
        entry = self._entries.get(record.voice_id)
        if entry and name in entry.objects:
            if self._down:  # fail at once; the regular poll notices when the store is back
                unreachable = "The voices' store cannot be reached now."
                raise StorageUnavailable(unreachable, retry_after_s=5)
            with self._errors(), suppress(FileNotFoundError):
                found = self._blobs.get(entry.objects[name])
                assert found, "an unconditional read returns data"
                return found[0]
        raise BadEntry(f"{name} is missing")

    def _upload(self, record: VoiceRecord, name: str, data: bytes) -> str:
        """Write a file as a new object, and return its key."""
        key = f"{FILES}{record.voice_id}/{uuid.uuid4().hex}-{name}"
        self._blobs.put(key, data)
        return key

    def _commit(self, voice_id: str, entry: _Entry | None) -> None:
        """Write the index with a voice's entry replaced, or removed if `entry` is None. Raises
        Outdated if the index has changed since the last poll."""
        entries = {key: other for key, other in self._entries.items() if key != voice_id}
        if entry:
            entry = replace(entry, line=_ENTRY.dump_json(entry, exclude={"line"}))
            if len(entry.line) > store.MAX_META_BYTES:
                raise StorageFull("The voice's names are too large; nothing was changed.")
            entries[voice_id] = entry
        commit = secrets.token_hex(4)
        commits = (*self._commits, commit)[-COMMITS_KEPT:]
        data = _index(commits, [other.line for other in entries.values()], self._unread)
        if len(data) > MAX_INDEX_BYTES:
            raise StorageFull("The index of voices is too large; delete some voices first.")
        try:
            tag = self._blobs.put(INDEX, data, self._tag or NEW)
        except (Outdated, OSError) as failure:
            if not self._was_written(commit):
                before = self._entries.get(voice_id)
                if entry and isinstance(failure, Outdated):  # the new objects will not be used
                    known = before.objects.values() if before else ()
                    self._discard([key for key in entry.objects.values() if key not in known])
                raise
        else:
            self._tag, self._commits = tag, commits
        self._entries = entries

    def _was_written(self, commit: str) -> bool:
        """Return whether the index was written although the answer was lost or a retry was
        refused."""
        with suppress(FileNotFoundError):
            found = self._blobs.get(INDEX)
            return found is not None and commit in _parse_index(found[0])[0].commits
        return False

    def _discard(self, keys: list[str]) -> None:
        """Delete objects. After an error, `prepare` deletes them a day later."""
        with suppress(OSError):
            self._blobs.delete(keys)


def _index(commits: tuple[str, ...], lines: list[bytes], unread: list[bytes]) -> bytes:
    header = _HEADER.dump_json(_Header(store.SCHEMA, commits))
    return gzip.compress(b"\n".join([header, *lines, *unread]), 1, mtime=0)


def _parse_index(data: bytes) -> tuple[_Header, list[bytes]]:
    """Parse the index. Raises OSError if it is unreadable, so that it is not overwritten."""
    try:
        first, *lines = gzip.decompress(data).split(b"\n")
        header = _HEADER.validate_json(first)
    except (OSError, EOFError, ValueError) as damage:
        raise OSError("the index of the voices is damaged") from damage
    if header.schema != store.SCHEMA:
        raise OSError(f"the index of the voices has schema {header.schema}, not {store.SCHEMA}")
    return header, lines
