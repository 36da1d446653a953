"""Names of voices: their rules, and the index that finds a voice by id, name or alias."""

import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from chatterbox.errors import ChatterboxError, InvalidVoiceId, VoiceNotFound, excerpt
from chatterbox.families.voices import FixedVoice
from chatterbox.voices.reference import ReferenceReport
from chatterbox.voices.store import VoiceRecord

MAX_NAME_CHARS = 100
MAX_QUERY_CHARS = 4 * MAX_NAME_CHARS
"""Longest name in a lookup: letters and their accents may be separate characters."""
MAX_ALIASES = 32
"""Most aliases of one voice."""
RESERVED = frozenset(
    """
    alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse
    auto default nil none null random undefined
    """.split()  # noqa: SIM905 - OpenAI's voices, then words for no voice at all
)
"""Names that clients send by default. Only built-in voices may have them, so that no user's voice
is used by every client that has not chosen a voice."""
INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Invisible characters outside the Unicode category Cf, whose members are all invisible."""
JOINERS = "\u200c\u200d\ufe0f"
"""Invisible characters that Persian names and emoji need; refused next to ASCII letters and
digits."""
WORD = re.compile(r"[^\W\d_]+")
LOOK_ALIKE_SCRIPTS = {"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC"}


@dataclass(frozen=True, slots=True)
class VoiceInfo:
    """Description of a voice for callers."""

    voice_id: str
    name: str
    aliases: tuple[str, ...]
    created_at: float  # Unix seconds
    built_in: bool
    report: ReferenceReport | None  # None if the model was trained with the voice
    imported: bool = field(default=False, compare=False)
    """Whether its arrays were imported, so that they may not match its recording."""
    language: str | None = None  # ISO 639-1; None for any
    description: str = ""
    record: VoiceRecord | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of_fixed(cls, voice: FixedVoice) -> "VoiceInfo":
        """Describe a voice that the model was trained with."""
        name, language, description = voice.name, voice.language, voice.description
        return cls(name, name, (), 0, True, None, language=language, description=description)

    @classmethod
    def of_record(
        cls, record: VoiceRecord, description: str, built_in: bool, imported: bool
    ) -> "VoiceInfo":
        """Describe a stored or built-in voice."""
        facts = record.voice_id, record.name, record.aliases, record.created_at
        return cls(*facts, built_in, record.report, imported, None, description, record)

    @property
    def names(self) -> tuple[str, ...]:
        """The name and the aliases."""
        return (self.name, *self.aliases)

    def spelling_of(self, name: str) -> str:
        """Return the voice's spelling of `name`, or its main name if `name` is not one of its
        names."""
        return next((own for own in self.names if _key(own) == _key(name)), self.name)

    def as_json(self) -> dict[str, Any]:
        """Return the fields of an answer; fields without a value are left out."""
        required: dict[str, Any] = {
            "voice_id": self.voice_id,
            "name": self.name,
            "aliases": list(self.aliases),
            "created_at": int(self.created_at),
            "built_in": self.built_in,
        }
        optional = {
            "report": self.report and self.report.as_json(),
            "imported": self.imported,
            "language": self.language,
            "description": self.description,
        }
        return required | {name: value for name, value in optional.items() if value}


def normalize_name(name: str) -> str:
    """Strip a name and convert it to Unicode NFC. Raises InvalidVoiceId."""
    if not name.isprintable() and any(
        unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name
    ):
        raise InvalidVoiceId("A voice's name cannot contain control characters.")
    name = unicodedata.normalize("NFC", name).strip()
    if not 0 < len(name) <= MAX_NAME_CHARS:
        raise InvalidVoiceId(
            f"A voice's name has 1 to {MAX_NAME_CHARS} characters, this one has {len(name)}."
        )
    return name


def validate_new_name(name: str) -> str:
    """Normalize a new name. Besides the rules of `normalize_name`, the name must be usable in a
    URL, must not contain invisible characters, and must not mix scripts that look alike. Raises
    InvalidVoiceId."""
    name = normalize_name(name)
    if "/" in name or name in (".", ".."):
        raise InvalidVoiceId(
            "A voice's name cannot contain '/', nor be '.' or '..': it is a part of addresses "
            "such as /voices/NAME. Choose another name."
        )
    if any(_hides(name, at) for at in range(len(name))):
        raise InvalidVoiceId("A voice's name cannot contain invisible characters.")
    for word in WORD.findall(name):
        scripts = {unicodedata.name(letter, "").partition(" ")[0] for letter in word}
        if len(scripts & LOOK_ALIKE_SCRIPTS) > 1:
            raise InvalidVoiceId(
                "A word of a voice's name cannot mix letters of scripts that look alike."
            )
    return name


def _hides(name: str, at: int) -> bool:
    """Return whether the character at `at` is invisible, unless it is a joiner that is needed
    there."""
    if not _invisible(name[at]):
        return False
    neighbours = name[max(0, at - 1) : at] + name[at + 1 : at + 2]
    ascii_beside = any(c.isascii() and c.isalnum() for c in neighbours)
    return name[at] not in JOINERS or at == 0 or ascii_beside


def _invisible(character: str) -> bool:
    return unicodedata.category(character) == "Cf" or bool(INVISIBLE.match(character))


def _key(name: str) -> str:
    """Return the form in which names are compared, independent of case, Unicode form, whitespace
    and invisible characters."""
    visible = name
    if not name.isascii():
        visible = "".join(c for c in unicodedata.normalize("NFKC", name) if not _invisible(c))
        visible = unicodedata.normalize("NFKC", visible.casefold())
    return " ".join((visible or name).casefold().split())


class NameIndex:
    """Immutable index of voices by id, and of ids by name. Readers need no lock."""

    def __init__(self, voices: Iterable[VoiceInfo] = ()) -> None:
        self.voices: dict[str, VoiceInfo] = {}
        self._ids: dict[str, str] = {}
        for info in voices:
            self._enter(info)

    def _enter(self, info: VoiceInfo) -> None:
        self.voices[info.voice_id] = info
        for name in info.names:
            self._ids.setdefault(_key(name), info.voice_id)

    def _without_names_of(self, voice_id: str) -> "NameIndex":
        """Return a copy without a voice's names. Takes a millisecond for 10,000 voices."""
        copy = NameIndex()
        copy.voices, copy._ids = self.voices.copy(), self._ids.copy()
        info = self.voices.get(voice_id)
        for key in map(_key, info.names if info else ()):
            if copy._ids.get(key) == voice_id:
                del copy._ids[key]
        return copy

    def find(self, id_or_name: str) -> VoiceInfo | None:
        """Look up an exact id, then a name or alias."""
        if len(id_or_name) > MAX_QUERY_CHARS:
            return None
        found = self.voices.get(id_or_name)
        return found or self.voices.get(self._ids.get(_key(id_or_name), ""))

    def free_name(self, name: str, voice_id: str) -> str:
        """Return the normalized name. Raises InvalidVoiceId if it is not allowed, reserved, or the
        id or a name of a voice other than `voice_id`."""
        name = validate_new_name(name)
        owner = self.voices.get(voice_id)
        if _key(name) in RESERVED and not (owner and owner.built_in):
            raise InvalidVoiceId(
                f"The name {excerpt(name)!r} is reserved: clients send it without having chosen a "
                "voice. Choose another name."
            )
        holder = self.find(name) or self.voices.get(_key(name))
        if holder and holder.voice_id != voice_id:
            raise InvalidVoiceId(
                f"The name {excerpt(name)!r} belongs to another voice; "
                "choose another name or rename that voice."
            )
        return name

    def free_names(self, names: Iterable[str], voice_id: str) -> list[str]:
        """Return the normalized `names` that `free_name` accepts."""
        free = []
        for name in names:
            with suppress(InvalidVoiceId):
                free.append(self.free_name(name, voice_id))
        return free

    def with_voice(self, info: VoiceInfo) -> "NameIndex":
        """Return a copy with `info` added or replaced."""
        changed = self._without_names_of(info.voice_id)
        changed._enter(info)
        return changed

    def without(self, voice_id: str) -> "NameIndex":
        """Return a copy without a voice."""
        changed = self._without_names_of(voice_id)
        changed.voices.pop(voice_id, None)
        return changed


def with_alias(info: VoiceInfo, alias: str) -> tuple[str, ...]:
    """Return the aliases of `info` with `alias` added. Raises InvalidVoiceId at MAX_ALIASES."""
    if _key(alias) in map(_key, info.names):
        return info.aliases
    if len(info.aliases) >= MAX_ALIASES:
        raise InvalidVoiceId(f"A voice has at most {MAX_ALIASES} aliases.")
    return (*info.aliases, alias)


def without_alias(info: VoiceInfo, alias: str) -> tuple[str, ...]:
    """Return the aliases of `info` without `alias`."""
    return tuple(other for other in info.aliases if _key(other) != _key(alias))


def voice_not_found(id_or_name: str) -> ChatterboxError:
    return VoiceNotFound(
        f"There is no voice {excerpt(id_or_name)!r}; GET /voices lists the voices."
    )
