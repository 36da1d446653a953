"""Where voices are kept: what every such place promises.

A voice is wholly there or wholly absent after any fault, what was acknowledged is kept, and changes
by several servers come one after another.
"""

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from chatterbox.voices.file_system import FileSystem
from chatterbox.voices.records import MAX_FILE_BYTES, BadEntry, Stored, VoiceRecord, sha256


class LocalCopies:
    """Files of voices that are kept elsewhere, by their SHA-256: none is ever out of date. A disk
    that fails costs time only."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files = FileSystem()
        with suppress(OSError):
            self._files.make_directories(directory)

    def get(self, sha: str) -> bytes | None:
        """One of them, as it was."""
        with suppress(OSError):
            data = self._files.read_file(self._directory / sha, MAX_FILE_BYTES)
            return data if sha256(data) == sha else None
        return None

    def put(self, sha: str, data: bytes) -> None:
        """Keep one."""
        temporary = self._directory / f"{uuid.uuid4().hex}.tmp"
        with suppress(OSError):
            temporary.write_bytes(data)
            temporary.replace(self._directory / sha)

    def keep_only(self, shas: Collection[str]) -> None:
        """Forget all others: a voice that is deleted anywhere is deleted here."""
        with suppress(OSError):
            for name in set(self._files.names(self._directory)).difference(shas):
                self._files.remove_file(self._directory / name)


class VoiceStore(ABC):
    """All voices, in one place, and documents beside them: small files that are replaced as a
    whole. One thread at a time calls anything but `read` and what is of documents.

    What changes a voice is called within `exclusive`; it raises storage errors, and Outdated where
    all within has to be done again."""

    shared = False
    """Whether other servers change voices too."""

    def __init__(self, address: str, copies: LocalCopies | None = None) -> None:
        """`address`: as a person may read it."""
        self.address = address
        self._copies = copies

    @abstractmethod
    def prepare(self) -> None:
        """Make the place and remove what an interrupted process left. Raises StorageUnavailable
        where that cannot be done; reading may work nevertheless."""

    @abstractmethod
    def look(self) -> Stored | None:
        """All that is there, where somebody has changed it since the last look; else None."""

    @abstractmethod
    def exclusive(self) -> AbstractContextManager[Stored | None]:
        """Change voices while nobody else does; gives what `look` does."""

    @abstractmethod
    def create(self, record: VoiceRecord, contents: Mapping[str, bytes]) -> VoiceRecord:
        """Store a new voice. On any error nothing of it is left, except where even taking it back
        fails: then it is wholly there."""

    @abstractmethod
    def add_file(self, record: VoiceRecord, name: str, data: bytes) -> VoiceRecord:
        """Add or replace one file of a voice, made here."""

    @abstractmethod
    def update(self, record: VoiceRecord) -> None:
        """Replace a voice's record."""

    @abstractmethod
    def delete(self, voice_id: str) -> None:
        """Remove a voice; fine where it is gone."""

    @abstractmethod
    def set_aside(self, voice_id: str) -> None:
        """Make room for a good voice where a damaged one may have its name; nothing is deleted."""

    @abstractmethod
    def fetch(self, record: VoiceRecord, name: str) -> bytes:
        """A file of a voice. Raises BadEntry where it is gone, storage errors where that cannot be
        told now."""

    @abstractmethod
    def document(self, name: str) -> bytes | None:
        """A document as it is now; None where there is none. Raises storage errors."""

    @abstractmethod
    def change_document(self, name: str, step: Callable[[bytes | None], bytes]) -> None:
        """Replace a document with what `step` makes of it, which may be called again where somebody
        else was quicker. Raises storage errors."""

    def read(self, record: VoiceRecord, name: str) -> bytes:
        """A file of a voice as it was written: the copy kept here, else the original. Raises as
        `fetch`, and BadEntry where it is not that any more."""
        sha = record.files.get(name, "")
        data = self._copies.get(sha) if self._copies and sha else None
        if data is None:
            data = self.fetch(record, name)
            if sha256(data) != sha:
                raise BadEntry(f"{name} is damaged")
            if self._copies:
                self._copies.put(sha, data)
        return data

    def _keep_copies_of(self, records: Collection[VoiceRecord]) -> None:
        if self._copies:
            self._copies.keep_only({sha for one in records for sha in one.files.values()})
