"""Voices on disk: one directory each, wholly there or wholly absent after any fault.

Holds named files of bytes and a record for each voice; knows no audio and no model.
"""

import errno
import hashlib
import logging
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from chatterbox.errors import StorageFull, StorageUnavailable, shown
from chatterbox.hardening import close_to_others
from chatterbox.voices.file_system import FileSystem
from chatterbox.voices.reference import ReferenceReport

log = logging.getLogger(__name__)

SCHEMA = 1
VOICE_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
META_NAME = "meta.json"
REFERENCE_NAME = "reference.flac"
"""The one file without which a voice is lost; all others can be made from it."""
TEMPORARY = ".tmp-"
DELETED = ".del-"
SET_ASIDE = ".bad-"
MAX_META_BYTES = 64 * 1024
"""What is larger is neither written nor read: whatever was acknowledged can be read again."""
MAX_FILE_BYTES = 8 * 1024 * 1024
"""No file of a voice comes near: an encoded one has about 2 MB, a reference under 1 MB."""
RETRY_STORAGE_S = 30.0
GONE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENODEV, errno.ENXIO)
"""Errors that trying again will not heal: the file is not there, or is no plain file."""
STORAGE_ERRORS = (StorageFull, StorageUnavailable)


class BadEntry(Exception):
    """A directory that is no voice, or a damaged one; the text says why, without a path."""


@dataclass(frozen=True, slots=True)
class VoiceRecord:
    """What `meta.json` holds."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, allow_inf_nan=False)

    schema: int
    voice_id: str
    name: str
    aliases: tuple[str, ...]
    created_at: float  # Unix seconds
    report: ReferenceReport
    files: Mapping[str, str]  # name → SHA-256 of its bytes
    imported: tuple[str, ...] = ()  # those files that came with an import: nobody made them here
    transcript: str | None = None  # of the recording


RECORD_JSON = TypeAdapter(VoiceRecord)


def is_voice_id(text: str) -> bool:
    """Whether `text` may be a voice's directory: asked before any path is made of it."""
    return VOICE_ID.fullmatch(text) is not None


def sha256(data: bytes) -> str:
    """As it stands in a record."""
    return hashlib.sha256(data).hexdigest()


@contextmanager
def storage_errors() -> Iterator[None]:
    """OSError → what a caller may be told."""
    try:
        yield
    except OSError as failure:
        log.warning("voice storage failed: %s", failure)
        if failure.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("The disk is full; nothing was changed.") from failure
        raise StorageUnavailable(
            "The voices' directory cannot be used now; nothing was changed.",
            retry_after_s=RETRY_STORAGE_S,
        ) from failure


class VoiceStore:
    """Voices on disk. The directory is the index. Callers serialise what changes a voice.

    A voice is written as `.tmp-<uuid>/`, flushed, and renamed to its id; deleting renames it
    to `.del-<uuid>/` first. So a name without a leading dot is always whole.
    """

    def __init__(self, directory: Path, files: FileSystem | None = None) -> None:
        self._directory = directory
        self._files = files or FileSystem()

    def prepare(self) -> None:
        """Make the directory and remove what an interrupted process left. Raises
        StorageUnavailable where that cannot be done; reading may work nevertheless."""
        with storage_errors():
            self._files.make_directories(self._directory)
            close_to_others(self._directory)
            for name in self._files.names(self._directory):
                if name.startswith((TEMPORARY, DELETED)):
                    self._discard(self._directory / name)

    def scan(self) -> tuple[list[VoiceRecord], list[tuple[str, str]]]:
        """All good records, and (directory name, reason) of each entry that is not one."""
        records: list[VoiceRecord] = []
        skipped: list[tuple[str, str]] = []
        with storage_errors():
            names = self._files.names(self._directory)
        for name in names:
            if name.startswith((TEMPORARY, DELETED)):
                continue
            try:
                records.append(self.load(name))
            except BadEntry as bad:
                skipped.append((shown(name), str(bad)))
        return records, skipped

    def load(self, voice_id: str) -> VoiceRecord:
        """One voice's record. Raises BadEntry."""
        if voice_id.startswith(SET_ASIDE):
            raise BadEntry("a damaged voice, set aside when it was registered again")
        if not is_voice_id(voice_id):
            raise BadEntry("not a voice's name")
        path = self._path(voice_id)
        try:
            if not self._files.is_plain_directory(path):
                raise BadEntry("not a directory")
            names = self._files.names(path)
            record = _parse(self._files.read_file(path / META_NAME, MAX_META_BYTES + 1))
        except OSError as failure:
            reason = errno.errorcode.get(failure.errno or 0, "an error")
            raise BadEntry(f"{META_NAME} cannot be read ({reason})") from failure
        if record.voice_id != voice_id:
            raise BadEntry(f"{META_NAME} is another voice's")
        present = {name: sha for name, sha in record.files.items() if name in names}
        if REFERENCE_NAME not in present:
            raise BadEntry(f"{REFERENCE_NAME} is missing")
        return replace(record, files=present)

    def exists(self, voice_id: str) -> bool:
        """Whether anything has this name, good or bad."""
        with storage_errors():
            return voice_id in self._files.names(self._directory)

    def create(self, record: VoiceRecord, contents: Mapping[str, bytes]) -> VoiceRecord:
        """Store a new voice. On any error nothing of it is left, except where even taking it
        back fails: then it is wholly there."""
        stored = replace(record, files={name: sha256(data) for name, data in contents.items()})
        meta = _meta(stored)
        temporary = self._unused(TEMPORARY)
        final = self._path(record.voice_id)
        renamed = False
        with storage_errors():
            try:
                self._files.make_directory(temporary)
                for name, data in contents.items():
                    self._files.write_file(temporary / name, data)
                self._files.write_file(temporary / META_NAME, meta)
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
        """Add or replace one file of a voice, made here. It counts once the record lists its
        hash."""
        changed = replace(
            record,
            files={**record.files, name: sha256(data)},
            imported=tuple(one for one in record.imported if one != name),
        )
        with storage_errors():
            self._put(self._path(record.voice_id) / name, data)
        self.update(changed)
        return changed

    def update(self, record: VoiceRecord) -> None:
        """Replace a voice's record."""
        meta = _meta(record)
        with storage_errors():
            self._put(self._path(record.voice_id) / META_NAME, meta)

    def read(self, record: VoiceRecord, name: str) -> bytes:
        """A file of a voice as it was written. Raises BadEntry where it is not that any more,
        StorageUnavailable where that cannot be told now."""
        with storage_errors():
            try:
                data = self._files.read_file(self._path(record.voice_id) / name, MAX_FILE_BYTES)
            except OSError as failure:
                if failure.errno in GONE:
                    raise BadEntry(f"{name} is missing") from failure
                raise
        if sha256(data) != record.files.get(name):
            raise BadEntry(f"{name} is damaged")
        return data

    def delete(self, voice_id: str) -> None:
        """Remove a voice. It is gone once the rename is done, the rest can be swept. Where the
        rename can be neither flushed nor taken back, it is gone too: to say otherwise would promise
        a voice that no restart finds."""
        doomed = self._unused(DELETED)
        with storage_errors():
            try:
                self._files.rename(self._path(voice_id), doomed)
            except FileNotFoundError:  # somebody has removed it by hand
                return
            try:
                self._files.sync_directory(self._directory)
            except OSError as failure:
                if self._renamed(doomed, self._path(voice_id)):
                    raise
                log.warning("a deleted voice may be back after a power failure: %s", failure)
        self._discard(doomed)

    def set_aside(self, voice_id: str) -> None:
        """Make room for a good voice where a damaged one has its name; nothing is deleted."""
        with storage_errors():
            self._files.rename(self._path(voice_id), self._unused(f"{SET_ASIDE}{voice_id}-"))

    def _path(self, voice_id: str) -> Path:
        assert is_voice_id(voice_id), "an unchecked id reached the store"
        return self._directory / voice_id

    def _unused(self, prefix: str) -> Path:
        return self._directory / f"{prefix}{uuid.uuid4().hex}"

    def _put(self, path: Path, data: bytes) -> None:
        """One file, replaced at once and wholly."""
        temporary = self._unused(TEMPORARY)
        try:
            self._files.write_file(temporary, data)
            self._files.rename(temporary, path)
            self._files.sync_directory(path.parent)
        except OSError:
            self._discard(temporary)
            raise

    def _renamed(self, source: Path, target: Path) -> bool:
        try:
            self._files.rename(source, target)
        except OSError:
            return False
        return True

    def _discard(self, path: Path) -> None:
        """Remove our own temporary file or directory as far as possible; `prepare` tries again."""
        with suppress(OSError):
            if self._files.is_plain_directory(path):
                for name in self._files.names(path):
                    self._files.remove_file(path / name)
                self._files.remove_directory(path)
            else:
                self._files.remove_file(path)


Stored = tuple[list[VoiceRecord], list[tuple[str, str]]]
"""Good records, and (directory name, reason) of what is none."""


def read_stored(store: VoiceStore) -> Stored:
    """Clean up after an interrupted process, and read all records. Ten thousand take seconds, most
    of which is waiting for the disk."""
    try:
        store.prepare()
    except STORAGE_ERRORS:
        log.warning("voices cannot be stored: the data directory cannot be written")
    try:
        return store.scan()
    except STORAGE_ERRORS:
        return [], []


def read_ahead(directory: Path) -> Callable[[], Stored]:
    """Read them in a thread from now on; what is returned waits for it."""
    reader = ThreadPoolExecutor(1, "reading voices")
    stored = reader.submit(read_stored, VoiceStore(directory))
    reader.shutdown(wait=False)
    return stored.result


def _meta(record: VoiceRecord) -> bytes:
    """What `_parse` reads. Raises StorageFull where it would not."""
    data = RECORD_JSON.dump_json(record)
    if len(data) > MAX_META_BYTES:
        raise StorageFull("The voice's names and report take too much room; nothing was changed.")
    return data


def _parse(data: bytes) -> VoiceRecord:
    if len(data) > MAX_META_BYTES:
        raise BadEntry(f"{META_NAME} is too large")
    try:
        record = RECORD_JSON.validate_json(data)
    except ValidationError as failure:
        first = failure.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BadEntry(f"{META_NAME} is damaged: {shown(field)} {first['msg']}") from None
    if record.schema != SCHEMA:
        raise BadEntry(f"{META_NAME} has schema {record.schema}, this version reads {SCHEMA}")
    return record
