"""What is kept of a voice: its record, as JSON, and named files of bytes; and what can go wrong.

Knows no audio, no model and no place where it is kept.
"""

import errno
import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from chatterbox.errors import StorageFull, StorageUnavailable, excerpt
from chatterbox.voices.reference import ReferenceReport

log = logging.getLogger(__name__)

SCHEMA = 1
VOICE_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
META_NAME = "meta.json"
REFERENCE_NAME = "reference.flac"
"""The one file without which a voice is lost; all others can be made from it."""
MAX_META_BYTES = 64 * 1024
"""What is larger is neither written nor read: whatever was acknowledged can be read again."""
MAX_FILE_BYTES = 8 * 1024 * 1024
"""No file of a voice comes near: an encoded one has about 2 MB, a reference under 1 MB."""
RETRY_STORAGE_S = 30.0
STORAGE_ERRORS = (StorageFull, StorageUnavailable)


class BadEntry(Exception):
    """Something that is no voice, or a damaged one; the text says why, without a path."""


class Outdated(Exception):
    """Somebody else has changed it since it was read: read it again, then change it."""


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
    description: str = ""  # its owner's note


RECORD_JSON = TypeAdapter(VoiceRecord)


def is_voice_id(text: str) -> bool:
    """Whether `text` may be a voice's directory: asked before any path is made of it."""
    return VOICE_ID.fullmatch(text) is not None


def sha256(data: bytes) -> str:
    """As it stands in a record."""
    return hashlib.sha256(data).hexdigest()


def with_file(record: VoiceRecord, name: str, sha: str) -> VoiceRecord:
    """With a file added or replaced by one that was made here."""
    imported = tuple(one for one in record.imported if one != name)
    return replace(record, files={**record.files, name: sha}, imported=imported)


@contextmanager
def storage_errors(*, quiet: bool = False) -> Iterator[None]:
    """OSError → what a caller may be told. `quiet`: log nothing."""
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


Stored = tuple[list[VoiceRecord], list[tuple[str, str]]]
"""Good records, and (name, reason) of what is none."""


def record_bytes(record: VoiceRecord) -> bytes:
    """What `record_of` reads. Raises StorageFull where it would not."""
    data = RECORD_JSON.dump_json(record)
    if len(data) > MAX_META_BYTES:
        raise StorageFull("The voice's names and report take too much room; nothing was changed.")
    return data


def record_of(data: bytes) -> VoiceRecord:
    """The inverse of `record_bytes`. Raises BadEntry."""
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
