"""The voices that come with the program: clips in `builtin/`."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from chatterbox.voices.reference import ReferenceReport

DIRECTORY = Path(__file__).with_name("builtin")


@dataclass(frozen=True, slots=True)
class BuiltInVoice:
    """A shipped voice. Its id is its name, not a hash: `slt` is easy to ask for."""

    voice_id: str
    description: str
    sha256: str  # of the clip
    report: ReferenceReport
    transcript: str

    def clip(self) -> bytes:
        """The reference as FLAC."""
        return (DIRECTORY / f"{self.voice_id}.flac").read_bytes()


def built_in_voices() -> list[BuiltInVoice]:
    """All of them, the default one first; written by `tools/make_builtin_voices.sh`."""
    return TypeAdapter(list[BuiltInVoice]).validate_json((DIRECTORY / "voices.json").read_bytes())
