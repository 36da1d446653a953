"""Voices in a folder: a directory for each voice, complete or absent after any failure.

Any number of processes may share a folder, also over a network if the file system supports locks.
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
from chatterbox.voices import store
from chatterbox.voices.file_system import FileSystem
from chatterbox.voices.store import (
    BadEntry,
    StoreContents,
    VoiceRecord,
    VoiceStore,
    sha256,
    storage_errors,
)

log = logging.getLogger(__name__)

TEMPORARY = ".tmp-"
DELETED = ".del-"
SET_ASIDE = ".bad-"
CHANGING, DONE = b"+", b"="
"""Last byte of the version mark: the change is unfinished (in progress or interrupted), or done."""
LOCK_S = 10.0
"""Longest wait for another process's lock; a change holds it for tens of milliseconds."""
GONE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENODEV, errno.ENXIO)
"""Errors that a retry cannot fix: the file does not exist or is not a regular file."""


class FolderStore(VoiceStore):
    """The directory listing is the index.

    A voice is written to `.tmp-<uuid>/`, flushed, and renamed to its id; to delete it, it is first
    renamed to `.del-<uuid>/`. So every directory without a leading dot is complete.

    A file beside the directory serves as lock and version mark. A process locks it to change the
    folder; the system releases the lock of a killed process. Every change writes a new mark, so
    equal marks mean equal voices.
    """

    def __init__(
        self,
        directory: Path,
        files: FileSystem | None = None,
        *,
        shared: bool = False,
        copies: store.LocalCopies | None = None,
    ) -> None:
        super().__init__(str(directory), copies)
        self.shared = shared
        self._directory = directory
        self._files = files or FileSystem()
        self._lock_file = directory.with_name(f".{directory.name}.lock")
        self._mark: bytes | None = None  # version mark at the last poll; None if unknown
        self._known: dict[str, tuple[tuple[int, ...], VoiceRecord]] = {}

    def prepare(self) -> None:
        with storage_errors():
            self._files.make_directories(self._directory)
            restrict_to_owner(self._directory)
            with self._files.lock(self._lock_file, LOCK_S):  # no other process is writing now
                for name in self._files.names(self._directory):
                    if name.startswith((TEMPORARY, DELETED)):
                        self._discard(self._directory / name)

    def poll(self) -> StoreContents | None:
        with storage_errors(quiet=True):
            try:
                mark = self._files.read_file(self._lock_file, store.MAX_META_BYTES)
            except FileNotFoundError:
                mark = b""
        if mark == self._mark:
            return None
        contents = self.scan()
        self._mark = mark if mark.endswith(DONE) or not mark else None
        self._prune_copies(contents[0])
        return contents

    @contextmanager
    def exclusive(self) -> Iterator[StoreContents | None]:
        with storage_errors(), self._files.lock(self._lock_file, LOCK_S) as write:
            contents = self.poll()
            mark = uuid.uuid4().hex.encode()
            write(mark + CHANGING)
            complete = False
            try:
                yield contents
                complete = True
            except ChatterboxError as refusal:
                complete = not isinstance(refusal, store.STORAGE_ERRORS)
                raise
            finally:
                if complete:
                    write(mark + DONE)
                self._mark = mark + DONE if complete else None

    def scan(self) -> StoreContents:
        """Read all records. Records whose file has not changed since the last scan are taken from
        memory."""
        known: dict[str, tuple[tuple[int, ...], VoiceRecord]] = {}
        skipped: list[tuple[str, str]] = []
        with storage_errors():
            names = self._files.names(self._directory)
        for name in names:
            if name.startswith((TEMPORARY, DELETED)):
                continue
            stamp = self._files.stamp(self._directory / name / store.META_NAME)
            try:
                if name not in self._known or self._known[name][0] != stamp:
                    known[name] = stamp, self.load(name)
                else:
                    known[name] = self._known[name]
            except BadEntry as bad:
                skipped.append((excerpt(name), str(bad)))
        self._known = known
        return [record for _, record in known.values()], skipped

    def load(self, voice_id: str) -> VoiceRecord:
        """Read the record of one voice. Raises BadEntry."""
        if voice_id.startswith(SET_ASIDE):
            raise BadEntry("a damaged voice, set aside when it was registered again")
        if not store.is_voice_id(voice_id):
            raise BadEntry("not a voice id")
        path = self._path(voice_id)
        try:
            if not self._files.is_plain_directory(path):
                raise BadEntry("not a directory")
            names = self._files.names(path)
            record = store.parse_record(
                self._files.read_file(path / store.META_NAME, store.MAX_META_BYTES + 1)
            )
        except OSError as failure:
            reason = errno.errorcode.get(failure.errno or 0, "an error")
            raise BadEntry(f"{store.META_NAME} cannot be read ({reason})") from failure
        if record.voice_id != voice_id:
            raise BadEntry(f"{store.META_NAME} belongs to another voice")
        present = {name: sha for name, sha in record.files.items() if name in names}
        if store.REFERENCE_NAME not in present:
            raise BadEntry(f"{store.REFERENCE_NAME} is missing")
        return replace(record, files=present)

    def create(self, record: VoiceRecord, contents: Mapping[str, bytes]) -> VoiceRecord:
        stored = replace(record, files={name: sha256(data) for name, data in contents.items()})
        meta = stored.to_json()
        temporary, final = self._unused(TEMPORARY), self._path(record.voice_id)
        renamed = False
        with storage_errors():
            try:
                self._files.make_directory(temporary)
                for name, data in {**contents, store.META_NAME: meta}.items():
                    self._files.write_file(temporary / name, data)
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
            self._replace(self._path(record.voice_id) / name, data)
        changed = record.with_file(name, sha256(data))
        self.update(changed)  # from now on, the file belongs to the voice
        return changed

    def update(self, record: VoiceRecord) -> None:
        with storage_errors():
            self._replace(self._path(record.voice_id) / store.META_NAME, record.to_json())

    def fetch(self, record: VoiceRecord, name: str) -> bytes:
        with storage_errors():
            try:
                return self._files.read_file(
                    self._path(record.voice_id) / name, store.MAX_FILE_BYTES
                )
            except OSError as failure:
                if failure.errno in GONE:
                    raise BadEntry(f"{name} is missing") from failure
                raise

    def delete(self, voice_id: str) -> None:
        """Delete a voice by renaming its directory, whose remains `prepare` can remove. If the
        rename can be neither flushed nor undone, report success, since a restart finds no voice."""
        doomed = self._unused(DELETED)
        with storage_errors():
            try:
                self._files.rename(self._path(voice_id), doomed)
            except FileNotFoundError:  # removed by hand
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

    def read_document(self, name: str) -> bytes | None:
        with storage_errors(), suppress(FileNotFoundError):
            return self._files.read_file(self._directory.with_name(name), store.MAX_FILE_BYTES)
        return None

    def change_document(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        temporary = self._directory.with_name(f"{TEMPORARY}{name}")
        with storage_errors():
            self._files.make_directories(self._directory.parent)
            with self._files.lock(self._directory.with_name(f".{name}.lock"), LOCK_S):
                data = change(self.read_document(name))
                self._discard(temporary)
                self._replace(self._directory.with_name(name), data, temporary)

    def _path(self, voice_id: str) -> Path:
        assert store.is_voice_id(voice_id), "the id was not validated"
        return self._directory / voice_id

    def _unused(self, prefix: str) -> Path:
        return self._directory / f"{prefix}{uuid.uuid4().hex}"

    def _replace(self, path: Path, data: bytes, temporary: Path | None = None) -> None:
        """Write or replace a file atomically."""
        temporary = temporary or self._unused(TEMPORARY)
        try:
            self._files.write_file(temporary, data)
            self._files.rename(temporary, path)
            self._files.sync_directory(path.parent)
        except OSError:
            self._discard(temporary)
            raise

    def _discard(self, path: Path) -> None:
        """Remove a temporary file or directory. After an error, `prepare` removes it later."""
        with suppress(OSError):
            if self._files.is_plain_directory(path):
                for name in self._files.names(path):
                    self._files.remove_file(path / name)
                self._files.remove_directory(path)
            else:
                self._files.remove_file(path)
