"""Which place voices are kept in, by the setting `voices`."""

from pathlib import Path

from chatterbox.errors import ConfigError
from chatterbox.voices.folder_store import FolderStore
from chatterbox.voices.store import LocalCopies, VoiceStore

DIRECTORY = "voices"
CONSENTS = "consents.json"
COPIES = "voice_copies"


def open_store(voices: str | None, data_dir: Path) -> VoiceStore:
    """The data directory, or what `voices` names: a folder or an address. Touches nothing but a
    folder that it names. Raises ConfigError."""
    if not voices:
        return FolderStore(data_dir / DIRECTORY)
    folder = Path(voices).expanduser().absolute()
    if not folder.is_dir():
        raise ConfigError(
            f"CHATTERBOX_VOICES={folder}: there is no such folder; make it, or mount it"
        )
    copies = LocalCopies(data_dir / COPIES)
    return FolderStore(folder / DIRECTORY, shared=True, copies=copies)
