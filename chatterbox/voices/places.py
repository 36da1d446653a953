"""Opens the place that the setting `voices` names, reads it at the start, and watches it."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from chatterbox.errors import ConfigError, first_line
from chatterbox.voices.blobs import open_blobs, without_secrets
from chatterbox.voices.folder_store import FolderStore
from chatterbox.voices.object_store import ObjectStore
from chatterbox.voices.records import STORAGE_ERRORS, Stored
from chatterbox.voices.store import LocalCopies, VoiceStore

log = logging.getLogger(__name__)

DIRECTORY = "voices"
COPIES = "voice_copies"
LOOK_S = 2.0
"""What is deleted or renamed elsewhere is so here after at most this; what is new is asked for when
it is first missed."""


def open_store(voices: str | None, data_dir: Path) -> VoiceStore:
    """The data directory, or what `voices` names: a folder or an address. Asks no network. Raises
    ConfigError."""
    if not voices:
        return FolderStore(data_dir / DIRECTORY)
    copies = LocalCopies(data_dir / COPIES)
    if "://" in voices:
        return ObjectStore(without_secrets(voices), open_blobs(voices), copies)
    folder = Path(voices).expanduser().absolute()
    if not folder.is_dir():
        raise ConfigError(
            f"CHATTERBOX_VOICES={folder}: there is no such folder; make it, or mount it"
        )
    return FolderStore(folder / DIRECTORY, shared=True, copies=copies)


def read_stored(store: VoiceStore) -> Stored:
    """Clean up after an interrupted process, and read all records. Ten thousand take seconds, most
    of which is waiting for the disk. Raises ConfigError where the store is shared and cannot be
    used: the server would speak in none of its voices."""
    found: Stored | None = None
    try:
        try:
            store.prepare()
        except STORAGE_ERRORS:
            if store.shared:
                raise
            log.warning("voices cannot be stored: the data directory cannot be written")
        found = store.look()
    except STORAGE_ERRORS as failure:
        if store.shared:
            reason = _reason_of(failure)
            raise ConfigError(
                f"CHATTERBOX_VOICES={store.address} cannot be used: {reason}"
            ) from None
    return found or ([], [])


def _reason_of(failure: Exception) -> str:
    """What is behind a storage error."""
    cause = failure.__cause__ or failure
    return getattr(cause, "strerror", None) or first_line(cause)


def read_ahead(store: VoiceStore) -> Callable[[], Stored]:
    """Read them in a thread from now on; what is returned waits for it."""
    reader = ThreadPoolExecutor(1, "reading voices")
    stored = reader.submit(read_stored, store)
    reader.shutdown(wait=False)
    return stored.result


def watch(look: Callable[[], object], stopping: threading.Event) -> None:
    """Look every LOOK_S seconds, in a thread, whether other servers have changed a voice, until
    `stopping` is set, whatever fails meanwhile."""
    threading.Thread(
        target=_watch, args=(look, stopping), name="watching voices", daemon=True
    ).start()


def _watch(look: Callable[[], object], stopping: threading.Event) -> None:
    failing = False
    while not stopping.wait(LOOK_S):
        try:
            look()
        except STORAGE_ERRORS as failure:
            if not failing:
                log.warning("the voices' store cannot be reached: %s", _reason_of(failure))
            failing = True
        except Exception:
            log.exception("looking for changed voices failed")
        else:
            if failing:
                log.warning("the voices' store is back")
            failing = False
