"""Opens the voice store of the setting `voices`, loads it at the start, and polls it."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from chatterbox.errors import ConfigError, first_line
from chatterbox.voices.blobs import open_blobs, without_secrets
from chatterbox.voices.folder_store import FolderStore
from chatterbox.voices.object_store import ObjectStore
from chatterbox.voices.store import STORAGE_ERRORS, LocalCopies, StoreContents, VoiceStore

log = logging.getLogger(__name__)

DIRECTORY = "voices"
COPIES = "voice_copies"
POLL_S = 2.0
"""Interval at which changes by other servers are read. New voices are found sooner, since an
unknown name makes the server read changes at once."""


def open_store(voices: str | None, data_dir: Path) -> VoiceStore:
    """Open the store at `voices`, a folder or an address; None means the data directory. Does not
    connect yet. Raises ConfigError."""
    if not voices:
        return FolderStore(data_dir / DIRECTORY)
    copies = LocalCopies(data_dir / COPIES)
    if "://" in voices:
        return ObjectStore(without_secrets(voices), open_blobs(voices), copies)
    folder = Path(voices).expanduser().absolute()
    if not folder.is_dir():
        raise ConfigError(
            f"CHATTERBOX_VOICES={folder}: there is no such folder; create or mount it"
        )
    return FolderStore(folder / DIRECTORY, shared=True, copies=copies)


def load_store(store: VoiceStore) -> StoreContents:
    """Prepare the store and read all records, which takes seconds for 10,000 voices. An unusable
    local folder counts as empty. Raises ConfigError for an unusable shared store, since the server
    would have none of its voices."""
    try:
        try:
            store.prepare()
        except STORAGE_ERRORS:
            if store.shared:
                raise
            log.warning("voices cannot be stored: the data directory cannot be written")
        return store.poll() or ([], [])
    except STORAGE_ERRORS as failure:
        if not store.shared:
            return [], []
        reason = _reason(failure)
        raise ConfigError(f"CHATTERBOX_VOICES={store.address} cannot be used: {reason}") from None


def _reason(failure: Exception) -> str:
    """Return the message of the system or library error that caused a storage error."""
    cause = failure.__cause__ or failure
    return getattr(cause, "strerror", None) or first_line(cause)


def poll_in_background(refresh: Callable[[], object], stop: threading.Event) -> None:
    """Call `refresh` in a thread every POLL_S seconds until `stop` is set; exceptions are logged.
    Also log when the store can be reached again."""

    def poll() -> None:
        failing = False
        while not stop.wait(POLL_S):
            try:
                refresh()
            except STORAGE_ERRORS as failure:
                if not failing:
                    log.warning("the voices' store cannot be reached: %s", _reason(failure))
                failing = True
            except Exception:
                log.exception("reading changed voices failed")
            else:
                if failing:
                    log.warning("the voices' store is back")
                failing = False

    threading.Thread(target=poll, name="watching voices", daemon=True).start()
