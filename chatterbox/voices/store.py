"""The interface of voice stores: the record of a voice, the errors, and the guarantees of a store.

Independent of audio and models: in a store, a voice is a JSON record and named files of bytes.
"""

import errno
import hashlib
import logging
import random
import re
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from chatterbox.errors import StorageFull, StorageUnavailable, excerpt
from chatterbox.voices.file_system import FileSystem
from chatterbox.voices.reference import ReferenceReport

log = logging.getLogger(__name__)

SCHEMA = 1
VOICE_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
META_NAME = "meta.json"
REFERENCE_NAME = "reference.flac"
"""The only file that cannot be recreated; all others are computed from it."""
MAX_META_BYTES = 64 * 1024
"""Limit for reading and for writing a record, so that every stored record can be read again."""
MAX_FILE_BYTES = 8 * 1024 * 1024
"""Read limit for one file. Encoded voices have about 2 MB, references less than 1 MB."""
RETRY_STORAGE_S = 30.0
CHANGE_S = 30.0
"""Longest time for which a change is retried because other servers change the store."""
PAUSE_S = 0.05
"""Longest pause between two attempts."""
T = TypeVar("T")
STORAGE_ERRORS = (StorageFull, StorageUnavailable)


class BadEntry(Exception):
    """An entry of the store is damaged or not a voice. The text gives the reason without a path."""


class Outdated(Exception):
    """Another server changed the data after they were read, so the change must be repeated."""


@dataclass(frozen=True, slots=True)
class VoiceRecord:
    """The contents of `meta.json`."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, allow_inf_nan=False)

    schema: int
    voice_id: str
    name: str
    aliases: tuple[str, ...]
    created_at: float  # Unix seconds
    report: ReferenceReport
    files: Mapping[str, str]  # file name → SHA-256 of its contents
    imported: tuple[str, ...] = ()  # files that were imported, not computed by this server
    transcript: str | None = None  # of the recording
    description: str = ""  # the owner's note

    def with_file(self, name: str, sha: str) -> "VoiceRecord":
        """Return a copy with a file added or replaced that this server computed."""
        imported = tuple(other for other in self.imported if other != name)
        return replace(self, files={**self.files, name: sha}, imported=imported)

    def to_json(self) -> bytes:
        """Return the JSON. Raises StorageFull if it exceeds MAX_META_BYTES."""
        data = RECORD_JSON.dump_json(self)
        if len(data) > MAX_META_BYTES:
            raise StorageFull("The voice's names and report are too large; nothing was changed.")
        return data


RECORD_JSON = TypeAdapter(VoiceRecord)
StoreContents = tuple[list[VoiceRecord], list[tuple[str, str]]]
"""The valid records, and (name, reason) of each invalid entry."""


def parse_record(data: bytes) -> VoiceRecord:
    """Parse the result of `VoiceRecord.to_json`. Raises BadEntry."""
    if len(data) > MAX_META_BYTES:
        raise BadEntry(f"{META_NAME} is too large")
    try:
        record = RECORD_JSON.validate_json(data)
    except ValidationError as failure:
        first = failure.errors(include_input=False, include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BadEntry(f"{META_NAME} is damaged: {excerpt(field)} {first['msg']}") from None
    if record.schema != SCHEMA:
        raise BadEntry(f"{META_NAME} has schema {record.schema}, this version reads {SCHEMA}")
    return record


def is_voice_id(text: str) -> bool:
    """Return whether `text` is a valid voice id, and so safe in a path."""
    return VOICE_ID.fullmatch(text) is not None


def sha256(data: bytes) -> str:
    """Return the checksum used in records, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def retry_outdated(attempt: Callable[[], T]) -> T:
    """Call `attempt` until it does not raise Outdated. Raises StorageUnavailable after CHANGE_S."""
    deadline = time.monotonic() + CHANGE_S
    while time.monotonic() < deadline:
        with suppress(Outdated):
            return attempt()
        time.sleep(random.uniform(0, PAUSE_S))
    raise StorageUnavailable(
        "Other servers are changing voices at the same time; nothing was changed.", retry_after_s=1
    )


@contextmanager
def storage_errors(*, quiet: bool = False) -> Iterator[None]:
    """Convert OSError to StorageFull or StorageUnavailable, and log it unless `quiet`."""
    try:
        yield
    except OSError as failure:
        log.log(logging.DEBUG if quiet else logging.WARNING, "voice storage failed: %s", failure)
        if failure.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("The disk is full; nothing was changed.") from failure
        raise StorageUnavailable(
            "The voices' store cannot be used now; nothing was changed.",
            retry_after_s=RETRY_STORAGE_S,
        ) from failure


class LocalCopies:
    """A disk cache of files in a remote store. Files are named by their SHA-256, so a copy is never
    out of date. Disk errors are ignored: the file is then fetched again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files = FileSystem()
        with suppress(OSError):
            self._files.make_directories(directory)

    def get(self, sha: str) -> bytes | None:
        """Return the file with this SHA-256, or None if there is no intact copy."""
        with suppress(OSError):
            data = self._files.read_file(self._directory / sha, MAX_FILE_BYTES)
            return data if sha256(data) == sha else None
        return None

    def put(self, sha: str, data: bytes) -> None:
        temporary = self._directory / f"{uuid.uuid4().hex}.tmp"
        with suppress(OSError):
            temporary.write_bytes(data)
            temporary.replace(self._directory / sha)

    def keep_only(self, shas: Collection[str]) -> None:
        """Delete all other copies, such as those of voices deleted by another server."""
        with suppress(OSError):
            for name in set(self._files.names(self._directory)).difference(shas):
                self._files.remove_file(self._directory / name)


class VoiceStore(ABC):
    """All voices in one place, with documents beside them: small files replaced as a whole.

    After any failure a voice is complete or absent, and acknowledged changes are kept. Changes by
    several servers are serialized. `read` and the document methods are thread-safe; calls of other
    methods must not overlap. Methods that change a voice must be called within `exclusive`, and
    raise StorageFull, StorageUnavailable, or Outdated if the whole change must be repeated.
    """

    shared = False
    """Whether other servers may change the voices too."""

    def __init__(self, address: str, copies: LocalCopies | None = None) -> None:
        """`address` is shown in messages and must not contain credentials."""
        self.address = address
        self._copies = copies

    @abstractmethod
    def prepare(self) -> None:
        """Create the store if needed and remove the remains of interrupted processes. Raises
        StorageUnavailable if the store cannot be written; reading may still work."""

    @abstractmethod
    def poll(self) -> StoreContents | None:
        """Return the contents if they have changed since the last call, else None."""

    @abstractmethod
    def exclusive(self) -> AbstractContextManager[StoreContents | None]:
        """Serialize changes by several servers within the context. Yields the result of `poll`."""

    @abstractmethod
    def create(self, record: VoiceRecord, contents: Mapping[str, bytes]) -> VoiceRecord:
        """Store a new voice. Returns its record with the files' checksums. After an error the voice
        is absent, or complete if removing it failed too."""

    @abstractmethod
    def add_file(self, record: VoiceRecord, name: str, data: bytes) -> VoiceRecord:
        """Add or replace a file computed by this server. Returns the changed record."""

    @abstractmethod
    def update(self, record: VoiceRecord) -> None:
        """Replace a voice's record."""

    @abstractmethod
    def delete(self, voice_id: str) -> None:
        """Delete a voice, if it exists."""

    @abstractmethod
    def set_aside(self, voice_id: str) -> None:
        """Move a damaged entry out of the way of a new voice with its id, without deleting it."""

    @abstractmethod
    def fetch(self, record: VoiceRecord, name: str) -> bytes:
        """Read a file of a voice from the store. Raises BadEntry if it is missing, and
        storage errors."""

    @abstractmethod
    def read_document(self, name: str) -> bytes | None:
        """Return the current document, or None if there is none. Raises storage errors."""

    @abstractmethod
    def change_document(self, name: str, change: Callable[[bytes | None], bytes]) -> None:
        """Replace a document by `change(current)`. `change` may be called more than once if other
        servers write at the same time. Raises storage errors."""

    def read(self, record: VoiceRecord, name: str) -> bytes:
        """Read a file of a voice, from the local copies if possible. Raises BadEntry if it is
        missing or its checksum is wrong, and storage errors."""
        sha = record.files.get(name, "")
        data = self._copies.get(sha) if self._copies and sha else None
        if data is None:
            data = self.fetch(record, name)
            if sha256(data) != sha:
                raise BadEntry(f"{name} is damaged")
            if self._copies:
                self._copies.put(sha, data)
        return data

    def _prune_copies(self, records: Collection[VoiceRecord]) -> None:
        """Delete local copies of files that belong to none of `records`."""
        if self._copies:
            self._copies.keep_only({sha for record in records for sha in record.files.values()})
