"""The index of voices: finds, adds, renames and deletes them, in memory and on disk.

All methods block (disk) and may be called from any thread.
"""

import builtins
import logging
import threading
from dataclasses import replace

from chatterbox.errors import StorageFull, VoiceNotFound, VoiceProtected, shown
from chatterbox.families.turbo.voice import VoiceTensors
from chatterbox.voices.names import NameIndex, VoiceInfo, with_alias, without_alias
from chatterbox.voices.reference import I16, ReferenceReport
from chatterbox.voices.repository import VoiceRepository
from chatterbox.voices.store import BadEntry

log = logging.getLogger(__name__)


class VoiceIndex:
    """Changes of the catalogue and the disk are done one at a time (`_changing`); finding needs no
    lock."""

    def __init__(self, repository: VoiceRepository, *, default_voice: str, max_voices: int) -> None:
        self._repository = repository
        self._default_voice = default_voice
        self._max_voices = max_voices
        self._names = NameIndex()
        self._changing = threading.Lock()

    def start(self) -> None:
        """Clean up after an interrupted process and list the voices. Encodes nothing."""
        self._names = NameIndex({info.voice_id: info for info in self._repository.open()})
        if self._names.find(self._default_voice) is None:
            log.warning("there is no voice %s, the default one", shown(self._default_voice))

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """(directory name, reason) of what is in the voices' directory but is no good voice."""
        return self._repository.skipped

    # --- finding

    def info(self, id_or_name: str) -> VoiceInfo:
        """One voice. Raises VoiceNotFound."""
        found = self._names.find(id_or_name)
        if found is None:
            raise not_found(id_or_name)
        return found

    def list(self) -> builtins.list[VoiceInfo]:
        """All voices: the built-in ones, then the others from old to new."""
        return sorted(self._names.voices.values(), key=lambda info: info.created_at)

    # --- changing

    def rename(self, id_or_name: str, name: str) -> VoiceInfo:
        """Give a voice another name. Raises VoiceNotFound, VoiceProtected, InvalidVoiceId."""
        with self._changing:
            info = self.info(id_or_name)
            if info.built_in:
                raise VoiceProtected("A built-in voice keeps its name; give it an alias instead.")
            kept = self._names.free_name(name, info.voice_id)
            return self._update(replace(info, name=kept, aliases=without_alias(info, kept)))

    def set_alias(self, id_or_name: str, alias: str) -> VoiceInfo:
        """Let a voice answer to a further name. Raises VoiceNotFound, InvalidVoiceId."""
        with self._changing:
            info = self.info(id_or_name)
            kept = self._names.free_name(alias, info.voice_id)
            return self._update(replace(info, aliases=with_alias(info, kept)))

    def remove_alias(self, alias: str) -> VoiceInfo:
        """Take an alias away from its voice. Raises VoiceNotFound."""
        with self._changing:
            info = self.info(alias)
            kept = without_alias(info, alias)
            if kept == info.aliases:  # it is the voice's id or name
                raise not_found(alias)
            return self._update(replace(info, aliases=kept))

    def delete(self, id_or_name: str) -> VoiceInfo:
        """Delete a voice; requests that speak with it finish. Raises VoiceNotFound,
        VoiceProtected and storage errors."""
        with self._changing:
            info = self.info(id_or_name)
            if info.built_in:
                raise VoiceProtected("A built-in voice cannot be deleted.", param="voice_id")
            self._repository.remove(info.voice_id)
            self._names = self._names.without(info.voice_id)
        return info

    # --- for the library

    def _reference(self, info: VoiceInfo) -> I16:
        """The kept recording. A voice whose recording is lost leaves the catalogue."""
        try:
            return self._repository.reference(info.voice_id)
        except BadEntry as lost:
            with self._changing:
                self._repository.skip(info.voice_id, str(lost))
                self._names = self._names.without(info.voice_id)
            raise not_found(info.voice_id) from lost

    def _existing(self, key: str) -> VoiceInfo | None:
        """The voice of that id, also where only the disk knows it."""
        info = self._names.voices.get(key)
        if info is None:
            with self._changing:
                info = self._repository.rediscover(key)
                if info:
                    self._names = self._names.with_voice(info)
        return info

    def _check_room(self, key: str) -> None:
        """Raises StorageFull where `key` would be one voice too many."""
        voices = self._names.voices
        if key not in voices and len(voices) - self._repository.built_in >= self._max_voices:
            raise StorageFull(
                f"There is room for {self._max_voices} voices (max_voices); delete some first."
            )

    def _enter(self, info: VoiceInfo, reference: I16, tensors: VoiceTensors) -> None:
        """A new voice."""
        with self._changing:
            self._names.free_name(info.name, info.voice_id)  # again, now that none can come
            self._check_room(info.voice_id)
            self._repository.add(info, reference, tensors)
            self._names = self._names.with_voice(info)

    def _keep_tensors(self, info: VoiceInfo, tensors: VoiceTensors) -> None:
        """What was made here of a known voice, where it can be stored."""
        with self._changing:
            self._repository.keep_tensors(info.voice_id, tensors)
            known = self._names.voices.get(info.voice_id)
            if known and known.imported:  # and what came with the import was lost
                self._names = self._names.with_voice(replace(known, imported=False))

    def _replace_tensors(
        self, key: str, tensors: VoiceTensors, report: ReferenceReport
    ) -> VoiceInfo:
        """What was made here, in place of what came with an import. Raises VoiceNotFound where the
        voice is gone, and storage errors."""
        with self._changing:
            try:
                info = self._repository.replace_tensors(key, tensors, report)
            except BadEntry:
                raise not_found(key) from None
            self._names = self._names.with_voice(info)
        return info

    def _update(self, info: VoiceInfo) -> VoiceInfo:
        self._repository.update(info)
        self._names = self._names.with_voice(info)
        return info


def not_found(asked: str) -> VoiceNotFound:
    """The error for a voice that is not there."""
    return VoiceNotFound(
        f"There is no voice {shown(asked)!r}; GET /voices lists the voices.", param="voice_id"
    )
