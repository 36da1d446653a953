"""The consents that OpenAI's `audio.voices.create` names: one small file on disk, newest first.

Nothing is checked against them: whoever runs the server answers for consent.
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
    """All consents, in one document beside the voices. Methods block and may be called from any
    thread."""

    def __init__(self, store: VoiceStore) -> None:
        self._store = store

    def add(self, name: str, language: str, sha256: str, owner: int | None = None) -> Consent:
        """Note a new one. Raises InvalidVoiceId for a name that cannot be, and storage errors."""
        consent = Consent(
            id=f"cons_{secrets.token_hex(12)}",
            name=normalize_name(name),
            language=language,
            created_at=int(time.time()),
            sha256=sha256,
            owner=owner,
        )

        def added(consents: list[Consent]) -> Consent:
            consents[:] = [one for one in consents if one.id != consent.id]  # a second attempt
            if owner is not None and sum(one.owner == owner for one in consents) >= MAX_OF_ONE_KEY:
                raise StorageFull(f"A key may keep {MAX_OF_ONE_KEY} consents; delete some first.")
            if len(consents) >= MAX_CONSENTS:
                raise StorageFull(f"There is room for {MAX_CONSENTS} consents; delete some first.")
            consents.insert(0, consent)
            return consent

        return self._change(added)

    def knows(self, consent_id: str) -> bool:
        """Whether there is one of that id."""
        return any(one.id == consent_id for one in self._read())

    def get(self, consent_id: str) -> Consent:
        """One. Raises RouteNotFound."""
        consents = self._read()
        return consents[_index(consents, consent_id)]

    def page(self, after: str | None, limit: int) -> tuple[list[Consent], bool]:
        """At most `limit` of those behind the one with the id `after`, and whether there are
        more. Raises RouteNotFound for an `after` that is not there."""
        consents = self._read()
        rest = consents[0 if after is None else _index(consents, after) + 1 :]
        return rest[:limit], len(rest) > limit

    def rename(self, consent_id: str, name: str) -> Consent:
        """Give one another name. Raises RouteNotFound, InvalidVoiceId and storage errors."""
        kept = normalize_name(name)

        def renamed(consents: list[Consent]) -> Consent:
            at = _index(consents, consent_id)
            consents[at] = replace(consents[at], name=kept)
            return consents[at]

        return self._change(renamed)

    def delete(self, consent_id: str) -> None:
        """Strike one out. Raises RouteNotFound and storage errors."""
        struck: list[Consent] = []

        def strike(consents: list[Consent]) -> Consent:
            there = any(one.id == consent_id for one in consents)
            if there or not struck:  # else an earlier attempt came through, or somebody was quicker
                struck[:] = [consents.pop(_index(consents, consent_id))]
            return struck[0]

        self._change(strike)

    def _read(self) -> list[Consent]:
        return _consents(self._store.read_document(CONSENTS))

    def _change(self, step: Callable[[list[Consent]], Consent]) -> Consent:
        """`step` changes the list, and gives the consent that it is about."""
        changed: list[Consent] = []

        def replaced(data: bytes | None) -> bytes:
            consents = _consents(data)
            changed[:] = [step(consents)]
            book = _BOOK.dump_json(consents, indent=1)
            if len(book) > MAX_BOOK_BYTES:
                raise StorageFull("The book of consents has no room; delete some first.")
            return book

        self._store.change_document(CONSENTS, replaced)
        return changed[0]


def _index(consents: list[Consent], consent_id: str) -> int:
    for index, consent in enumerate(consents):
        if consent.id == consent_id:
            return index
    raise RouteNotFound(f"There is no consent '{excerpt(consent_id)}'.", param="consent_id")


def _consents(data: bytes | None) -> list[Consent]:
    try:
        return _BOOK.validate_json(b"[]" if data is None else data)
    except ValidationError:
        raise StorageUnavailable("The book of consents is damaged.") from None
