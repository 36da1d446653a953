"""The consents to which OpenAI's `audio.voices.create` refers, in one document, newest first.

Consents are stored but not checked; the operator of the server is responsible for consent.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from pydantic import TypeAdapter, ValidationError

from chatterbox.errors import RouteNotFound, StorageFull, StorageUnavailable, excerpt
from chatterbox.voices.names import normalize_name
from chatterbox.voices.store import VoiceStore

CONSENTS = "consents.json"
MAX_CONSENTS = 1000
"""Most consents in total. Operators with more speakers need their own records."""
MAX_OF_ONE_KEY = 250
"""Most consents of one API key, so that there is room for other keys; not applied without keys."""
MAX_BOOK_BYTES = 8 * 1024 * 1024
"""Largest document, far more than MAX_CONSENTS consents need."""


@dataclass(frozen=True, slots=True)
class Consent:
    """A speaker's consent."""

    id: str
    name: str
    language: str
    created_at: int  # Unix seconds
    sha256: str  # of the recording, which is not stored
    owner: int | None = None  # number of the API key that created it


_BOOK = TypeAdapter(list[Consent])


class ConsentBook:
    """All consents, in a document beside the voices. Methods block and are thread-safe."""

    def __init__(self, store: VoiceStore) -> None:
        self._store = store

    def add(self, name: str, language: str, sha256: str, owner: int | None = None) -> Consent:
        """Store a new consent. Raises InvalidVoiceId for an invalid name, and storage errors."""
        consent = Consent(
            id=f"cons_{secrets.token_hex(12)}",
            name=normalize_name(name),
            language=language,
            created_at=int(time.time()),
            sha256=sha256,
            owner=owner,
        )

        def insert(consents: list[Consent]) -> Consent:
            consents[:] = [other for other in consents if other.id != consent.id]  # if called again
            of_key = sum(other.owner == owner for other in consents)
            if owner is not None and of_key >= MAX_OF_ONE_KEY:
                raise StorageFull(f"A key can store {MAX_OF_ONE_KEY} consents; delete some first.")
            if len(consents) >= MAX_CONSENTS:
                raise StorageFull(f"There is room for {MAX_CONSENTS} consents; delete some first.")
            consents.insert(0, consent)
            return consent

        return self._change(insert)

    def exists(self, consent_id: str) -> bool:
        return any(consent.id == consent_id for consent in self._read())

    def get(self, consent_id: str) -> Consent:
        """Return a consent. Raises RouteNotFound."""
        consents = self._read()
        return consents[_index(consents, consent_id)]

    def page(self, after: str | None, limit: int) -> tuple[list[Consent], bool]:
        """Return at most `limit` consents that follow the id `after`, and whether there are more.
        Raises RouteNotFound if `after` does not exist."""
        consents = self._read()
        rest = consents[0 if after is None else _index(consents, after) + 1 :]
        return rest[:limit], len(rest) > limit

    def rename(self, consent_id: str, name: str) -> Consent:
        """Rename a consent. Raises RouteNotFound, InvalidVoiceId and storage errors."""
        name = normalize_name(name)

        def change(consents: list[Consent]) -> Consent:
            at = _index(consents, consent_id)
            consents[at] = replace(consents[at], name=name)
            return consents[at]

        return self._change(change)

    def delete(self, consent_id: str) -> None:
        """Delete a consent. Raises RouteNotFound and storage errors."""
        deleted: list[Consent] = []

        def remove(consents: list[Consent]) -> Consent:
            present = any(consent.id == consent_id for consent in consents)
            if present or not deleted:  # otherwise, an earlier attempt removed it
                deleted[:] = [consents.pop(_index(consents, consent_id))]
            return deleted[0]

        self._change(remove)

    def _read(self) -> list[Consent]:
        return _parse(self._store.read_document(CONSENTS))

    def _change(self, change: Callable[[list[Consent]], Consent]) -> Consent:
        """Store the list after `change` has modified it in place. Returns the result of `change`,
        which is called again if another server writes at the same time."""
        changed: list[Consent] = []

        def step(data: bytes | None) -> bytes:
            consents = _parse(data)
            changed[:] = [change(consents)]
            book = _BOOK.dump_json(consents, indent=1)
            if len(book) > MAX_BOOK_BYTES:
                raise StorageFull("The list of consents is too large; delete some first.")
            return book

        self._store.change_document(CONSENTS, step)
        return changed[0]


def _index(consents: list[Consent], consent_id: str) -> int:
    for index, consent in enumerate(consents):
        if consent.id == consent_id:
            return index
    raise RouteNotFound(f"There is no consent '{excerpt(consent_id)}'.", param="consent_id")


def _parse(data: bytes | None) -> list[Consent]:
    try:
        return _BOOK.validate_json(b"[]" if data is None else data)
    except ValidationError:
        raise StorageUnavailable("The list of consents is damaged.") from None
