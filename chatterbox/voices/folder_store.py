"""Voices in a folder: one directory each, wholly there or wholly absent after any fault.

Any number of processes may use one folder at once, over a network too where locks are kept there.
"""

import errno
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from chatterbox.errors import ChatterboxError, excerpt
from chatterbox.hardening import restrict_to_owner
from chatterbox.voices import records
from chatterbox.voices.file_system import FileSystem
from chatterbox.voices.records import BadEntry, Stored, VoiceRecord, sha256, storage_errors
from chatterbox.voices.store import LocalCopies, VoiceStore

log = logging.getLogger(__name__)

TEMPORARY = ".tmp-"
DELETED = ".del-"
SET_ASIDE = ".bad-"
CHANGING, DONE = b"+", b"="
"""Ends of the mark of a folder that is being changed, or was when its process was killed; and of
one that is not."""
LOCK_S = 10.0
"""Another process holds the lock for one change: tens of milliseconds."""
GONE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENODEV, errno.ENXIO)
"""Errors that trying again will not heal: the file is not there, or is no plain file."""


class FolderStore(VoiceStore):
    """The directory is the index.

    A voice is written as `.tmp-<uuid>/`, flushed, and renamed to its id; deleting renames it
    to `.del-<uuid>/` first. So a name without a leading dot is always whole.

    A file beside the directory is locked by whoever changes it, which a killed process cannot
    leave locked, and holds a mark that is new after every change: equal mark, equal voices.
    """

    def __init__(
        self,
        directory: Path,
        files: FileSystem | None = None,
        *,
        shared: bool = False,
        copies: LocalCopies | None = None,
    ) -> None:
        super().__init__(str(directory), copies)
        self.shared = shared
        self._directory = directory
        self._files = files or FileSystem()
        self._lock_file = directory.with_name(f".{directory.name}.lock")
        self._mark: bytes | None = None
        self._known: dict[str, tuple[tuple[int, ...], VoiceRecord]] = {}

    def prepare(self) -> None:
        with storage_errors():
            self._files.make_directories(self._directory)
            restrict_to_owner(self._directory)
            with self._files.lock(self._lock_file, LOCK_S):  # what is there now nobody works on
                for name in self._files.names(self._directory):
                    if name.startswith((TEMPORARY, DELETED)):
                        self._discard(self._directory / name)

    def look(self) -> Stored | None:
        with storage_errors(quiet=True):
            try:
                mark = self._files.read_file(self._lock_file, records.MAX_META_BYTES)
            except FileNotFoundError:
                mark = b""
        if mark == self._mark:
            return None
        stored = self.scan()
        self._mark = mark if mark.endswith(DONE) or not mark else None
        self._keep_copies_of(stored[0])
        return stored

    @contextmanager
    def exclusive(self) -> Iterator[Stored | None]:
        with storage_errors(), self._files.lock(self._lock_file, LOCK_S) as write:
            found = self.look()
            mark = uuid.uuid4().hex.encode()
            write(mark + CHANGING)
            whole = False
            try:
                yield found
                whole = True
            except ChatterboxError as refused:
                whole = not isinstance(refused, records.STORAGE_ERRORS)
                raise
            finally:
                if whole:
                    write(mark + DONE)
                self._mark = mark + DONE if whole else None

    def scan(self) -> Stored:
        """All good records, and (directory name, reason) of each entry that is not one."""
        known: dict[str, tuple[tuple[int, ...], VoiceRecord]] = {}
        skipped: list[tuple[str, str]] = []
        with storage_errors():
            names = self._files.names(self._directory)
        for name in names:
            if name.startswith((TEMPORARY, DELETED)):
                continue
            stamp = self._files.stamp(self._directory / name / records.META_NAME)
            stamped = self._known.get(name)
            try:  # from memory where its record is the same file as before
                unchanged = stamped if stamped and stamped[0] == stamp else None
                known[name] = unchanged or (stamp, self.load(name))
            except BadEntry as bad:
                skipped.append((excerpt(name), str(bad)))
        self._known = known
        return [record for _, record in known.values()], skipped

    def load(self, voice_id: str) -> VoiceRecord:
        """One voice's record. Raises BadEntry."""
        if voice_id.startswith(SET_ASIDE):
            raise BadEntry("a damaged voice, set aside when it was registered again")
        if not records.is_voice_id(voice_id):
            raise BadEntry("not a voice's name")
        path = self._path(voice_id)
        try:
            if not self._files.is_plain_directory(path):
                raise BadEntry("not a directory")
            names = self._files.names(path)
            record = records.record_of(
                self._files.read_file(path / records.META_NAME, records.MAX_META_BYTES + 1)
            )
        except OSError as failure:
            reason = errno.errorcode.get(failure.errno or 0, "an error")
            raise BadEntry(f"{records.META_NAME} cannot be read ({reason})") from failure
        if record.voice_id != voice_id:
            raise BadEntry(f"{records.META_NAME} is another voice's")
        present = {name: sha for name, sha in record.files.items() if name in names}
        if records.REFERENCE_NAME not in present:
            raise BadEntry(f"{records.REFERENCE_NAME} is missing")
        return replace(record, files=present)

    def create(self, record: VoiceRecord, contents: Mapping[str, bytes]) -> VoiceRecord:
        stored = replace(record, files={name: sha256(data) for name, data in contents.items()})
        meta = records.record_bytes(stored)
        temporary = self._unused(TEMPORARY)
        final = self._path(record.voice_id)
        renamed = False
        with storage_errors():
            try:
                self._files.make_directory(temporary)
                for name, data in contents.items():
                    self._files.write_file(temporary / name, data)
                self._files.write_file(temporary / records.META_NAME, meta)
                self._files.sync_directory(temporary)
                self._files.rename(temporary, final)
                renamed = True
                self._files.sync_directory(self._directory)
            except OSError:
                if renamed:
                    with suppress(OSError):
                        self._files.rename(final, temporary)
                self._discard(temporary)
                raise
        return stored

    def add_file(self, record: VoiceRecord, name: str, data: bytes) -> VoiceRecord:
        with storage_errors():
            self._put(self._path(record.voice_id) / name, data)
        changed = records.with_file(record, name, sha256(data))
        self.update(changed)  # it counts from now on
        return changed

    def update(self, record: VoiceRecord) -> None:
        with storage_errors():
            self._put(self._path(record.voice_id) / records.META_NAME, records.record_bytes(record))

    def fetch(self, record: VoiceRecord, name: str) -> bytes:
        with storage_errors():
            try:
                return self._files.read_file(
                    self._path(record.voice_id) / name, records.MAX_FILE_BYTES
                )
            except OSError as failure:
                if failure.errno in GONE:
                    raise BadEntry(f"{name} is missing") from failure
                raise

    def delete(self, voice_id: str) -> None:
        """It is gone once the rename is done, the rest can be swept. Where the rename can be
        neither flushed nor taken back, it is gone too: to say otherwise would promise a voice that
        no restart finds."""
        doomed = self._unused(DELETED)
        with storage_errors():
            try:
                self._files.rename(self._path(voice_id), doomed)
            except FileNotFoundError:  # somebody has removed it by hand
                return
            try:
                self._files.sync_directory(self._directory)
            except OSError as failure:
                try:
                    self._files.rename(doomed, self._path(voice_id))
                except OSError:
                    log.warning("a deleted voice may be back after a power failure: %s", failure)
                else:
                    raise
        self._discard(doomed)

    def set_aside(self, voice_id: str) -> None:
        with storage_errors(), suppress(FileNotFoundError):
            self._files.rename(self._path(voice_id), self._unused(f"{SET_ASIDE}{voice_id}-"))

    def document(self, name: str) -> bytes | None:
        with storage_errors():
            try:
                return self._files.read_file(
                    self._directory.with_name(name), records.MAX_FILE_BYTES
                )
            except FileNotFoundError:
                return None

    def change_document(self, name: str, step: Callable[[bytes | None], bytes]) -> None:
        lock_file, temporary = (
            self._directory.with_name(one) for one in (f".{name}.lock", f"{TEMPORARY}{name}")
        )
        with storage_errors():
            self._files.make_directories(self._directory.parent)
            with self._files.lock(lock_file, LOCK_S):
                data = step(self.document(name))
                self._discard(temporary)
                self._put(self._directory.with_name(name), data, temporary)

    def _path(self, voice_id: str) -> Path:
        assert records.is_voice_id(voice_id), "an unchecked id reached the store"
        return self._directory / voice_id

    def _unused(self, prefix: str) -> Path:
        return self._directory / f"{prefix}{uuid.uuid4().hex}"

    def _put(self, path: Path, data: bytes, temporary: Path | None = None) -> None:
        """One file, replaced at once and wholly."""
        temporary = temporary or self._unused(TEMPORARY)
        try:
            self._files.write_file(temporary, data)
            self._files.rename(temporary, path)
            self._files.sync_directory(path.parent)
        except OSError:
            self._discard(temporary)
            raise

    def _discard(self, path: Path) -> None:
        """Remove our own temporary file or directory as far as possible; `prepare` tries again."""
        with suppress(OSError):
            if self._files.is_plain_directory(path):
                for name in self._files.names(path):
                    self._files.remove_file(path / name)
                self._files.remove_directory(path)
            else:
                self._files.remove_file(path)
