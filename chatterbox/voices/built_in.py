"""The voices shipped with the program: clips in `builtin/`."""

from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from chatterbox.voices.reference import ReferenceReport
from chatterbox.voices.store import REFERENCE_NAME, SCHEMA, VoiceRecord

DIRECTORY = Path(__file__).with_name("builtin")


@dataclass(frozen=True, slots=True)
class BuiltInVoice:
    """A shipped voice. Its id is a readable name such as `slt`, not a hash."""

    voice_id: str
    description: str
    sha256: str  # of the clip
    report: ReferenceReport
    transcript: str

    def clip(self) -> bytes:
        """Return the reference recording as FLAC."""
        return (DIRECTORY / f"{self.voice_id}.flac").read_bytes()

    def record(self, stored: VoiceRecord | None) -> VoiceRecord:
        """Return the voice's record. Takes over the aliases of the `stored` record, if any, and its
        files if they were made from the same clip."""
        name = self.voice_id
        record = VoiceRecord(SCHEMA, name, name, (), 0, self.report, {}, transcript=self.transcript)
        if stored is None:
            return record
        if stored.files.get(REFERENCE_NAME) == self.sha256:
            record = replace(record, files=stored.files, imported=stored.imported)
        return replace(record, aliases=stored.aliases)


def built_in_voices() -> list[BuiltInVoice]:
    """Return all built-in voices, the default first. `tools/make_builtin_voices.sh` writes the
    list."""
    return TypeAdapter(list[BuiltInVoice]).validate_json((DIRECTORY / "voices.json").read_bytes())
