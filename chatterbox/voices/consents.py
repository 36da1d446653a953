"""The consents that OpenAI's `audio.voices.create` names: one small file on disk, newest first.

Nothing is checked against them: whoever runs the server answers for consent.
"""

import secrets
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from chatterbox.errors import RouteNotFound, StorageFull, StorageUnavailable, shown
from chatterbox.voices.file_system import FileSystem
from chatterbox.voices.names import checked_name
from chatterbox.voices.store import storage_errors

MAX_CONSENTS = 1000
"""Nothing grows without bound; a server with more speakers keeps its own book."""
MAX_OF_ONE_KEY = 250
"""So that others find room; where no keys are set, nobody is told apart."""
MAX_BOOK_BYTES = 8 * 1024 * 1024
"""Far above the largest book there can be. A larger one is neither written nor read."""


@dataclass(frozen=True, slots=True)
class Consent:
    """One speaker's. Of the recording only the SHA-256 is kept: enough to recognise it later."""

    id: str
    name: str
    language: str
    created_at: int  # Unix seconds
    sha256: str
    owner: int | None = None  # the number of the key it came in with


_BOOK = TypeAdapter(list[Consent])


class ConsentBook:
    """All consents of a data directory, in one file that is replaced as a whole. Methods block
    and may be called from any thread."""

    def __init__(self, path: Path, files: FileSystem | None = None) -> None:
        """Cheap; the file is read when it is first needed."""
        self._path = path
        self._files = files or FileSystem()
        self._lock = threading.Lock()
        self._consents: list[Consent] | None = None

    def add(self, name: str, language: str, sha256: str, owner: int | None = None) -> Consent:
        """Note a new one. Raises InvalidVoiceId for a name that cannot be, and storage errors."""
        consent = Consent(
            id=f"cons_{secrets.token_hex(12)}",
            name=checked_name(name),
            language=language,
            created_at=int(time.time()),
            sha256=sha256,
            owner=owner,
        )
        with self._lock:
            consents = self._read()
            if owner is not None and sum(one.owner == owner for one in consents) >= MAX_OF_ONE_KEY:
                raise StorageFull(f"A key may keep {MAX_OF_ONE_KEY} consents; delete some first.")
            if len(consents) >= MAX_CONSENTS:
                raise StorageFull(f"There is room for {MAX_CONSENTS} consents; delete some first.")
            self._write([consent, *consents])
        return consent

    def knows(self, consent_id: str) -> bool:
        """Whether there is one of that id."""
        with self._lock:
            return any(one.id == consent_id for one in self._read())

    def get(self, consent_id: str) -> Consent:
        """One. Raises RouteNotFound."""
        with self._lock:
            return self._read()[self._index(consent_id)]

    def page(self, after: str | None, limit: int) -> tuple[list[Consent], bool]:
        """At most `limit` of those behind the one with the id `after`, and whether there are
        more. Raises RouteNotFound for an `after` that is not there."""
        with self._lock:
            rest = self._read()[0 if after is None else self._index(after) + 1 :]
        return rest[:limit], len(rest) > limit

    def rename(self, consent_id: str, name: str) -> Consent:
        """Give one another name. Raises RouteNotFound, InvalidVoiceId and storage errors."""
        kept = checked_name(name)
        with self._lock:
            consents = list(self._read())
            at = self._index(consent_id)
            consents[at] = replace(consents[at], name=kept)
            self._write(consents)
        return consents[at]

    def delete(self, consent_id: str) -> None:
        """Strike one out. Raises RouteNotFound and storage errors."""
        with self._lock:
            at = self._index(consent_id)
            self._write([one for index, one in enumerate(self._read()) if index != at])

    def _index(self, consent_id: str) -> int:
        for index, consent in enumerate(self._read()):
            if consent.id == consent_id:
                return index
        raise RouteNotFound(f"There is no consent '{shown(consent_id)}'.", param="consent_id")

    def _read(self) -> list[Consent]:
        if self._consents is None:
            with storage_errors():
                try:
                    data = self._files.read_file(self._path, MAX_BOOK_BYTES)
                except FileNotFoundError:
                    data = b"[]"
            try:
                self._consents = _BOOK.validate_json(data)
            except ValidationError:
                raise StorageUnavailable("The book of consents is damaged.") from None
        return self._consents

    def _write(self, consents: list[Consent]) -> None:
        temporary = self._path.with_name(f".tmp-{self._path.name}")
        data = _BOOK.dump_json(consents, indent=1)
        if len(data) > MAX_BOOK_BYTES:
            raise StorageFull("The book of consents has no room; delete some first.")
        with storage_errors():
            self._files.make_directories(self._path.parent)
            temporary.unlink(missing_ok=True)
            self._files.write_file(temporary, data)
            self._files.rename(temporary, self._path)
            self._files.sync_directory(self._path.parent)
        self._consents = consents
