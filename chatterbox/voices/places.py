"""Which place voices are kept in, by the setting `voices`."""

from pathlib import Path

from chatterbox.errors import ConfigError
from chatterbox.voices.blobs import open_blobs, without_secrets
from chatterbox.voices.folder_store import FolderStore
from chatterbox.voices.object_store import ObjectStore
from chatterbox.voices.store import LocalCopies, VoiceStore

DIRECTORY = "voices"
CONSENTS = "consents.json"
COPIES = "voice_copies"


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
