"""Names of voices: which voice an id, a name or an alias means. One immutable table."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from chatterbox.errors import ChatterboxError, InvalidVoiceId, VoiceNotFound, excerpt
from chatterbox.families.voices import FixedVoice
from chatterbox.voices.reference import ReferenceReport

MAX_NAME_CHARS = 100
MAX_ASKED_CHARS = 4 * MAX_NAME_CHARS
"""A name may be asked for in parts that are joined where it is kept: letters and their accents."""
MAX_ALIASES = 32
"""Of one voice: nothing grows without bound."""
RESERVED = frozenset(
    """
    alloy ash ballad cedar coral echo fable marin nova onyx sage shimmer verse
    auto default nil none null random undefined
    """.split()  # noqa: SIM905 - OpenAI's voices, then words for no voice at all
)
"""What clients ask for without having chosen a voice: only built-in ones may answer to that, or
somebody's voice would speak for everybody."""
INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Beside all of category Cf."""
JOINERS = "\u200c\u200d\ufe0f"
"""Names in Persian and emoji need them; between Latin letters and digits they only hide."""
WORD = re.compile(r"[^\W\d_]+")
LOOK_ALIKE_SCRIPTS = {"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC"}


@dataclass(frozen=True, slots=True)
class VoiceInfo:
    """A voice as its owner sees it."""

    voice_id: str
    name: str
    aliases: tuple[str, ...]
    created_at: float  # Unix seconds
    built_in: bool
    report: ReferenceReport | None  # None: the model was trained with it
    imported: bool = field(default=False, compare=False)
    """Its tensors came with an import: nobody here knows of what recording they were made."""
    language: str | None = None  # ISO 639-1, where it has one of its own
    description: str = ""

    @classmethod
    def fixed(cls, voice: FixedVoice) -> "VoiceInfo":
        """Of a voice of the model's own."""
        name, language, said = voice.name, voice.language, voice.description
        return cls(name, name, (), 0, True, None, language=language, description=said)

    @property
    def names(self) -> tuple[str, ...]:
        """Everything it is called by beside its id."""
        return (self.name, *self.aliases)

    def called(self, name: str) -> str:
        """How it writes `name`; its first name where it is not called so."""
        return next((own for own in self.names if _key(own) == _key(name)), self.name)

    def as_json(self) -> dict[str, Any]:
        """For an answer."""
        known: dict[str, Any] = {
            "voice_id": self.voice_id,
            "name": self.name,
            "aliases": list(self.aliases),
            "created_at": int(self.created_at),
            "built_in": self.built_in,
        }
        more = {
            "report": self.report and self.report.as_json(),
            "imported": self.imported,
            "language": self.language,
            "description": self.description,
        }
        return known | {name: value for name, value in more.items() if value}


def _no_name(why: str) -> ChatterboxError:
    return InvalidVoiceId(why, param="name")


def checked_name(name: str) -> str:
    """The name as it is kept: free text, trimmed, in one Unicode form. Raises InvalidVoiceId."""
    if not name.isprintable() and any(
        unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name
    ):
        raise _no_name("A voice's name cannot contain control characters.")
    kept = unicodedata.normalize("NFC", name).strip()
    if not 0 < len(kept) <= MAX_NAME_CHARS:
        raise _no_name(
            f"A voice's name has 1 to {MAX_NAME_CHARS} characters, this one has {len(kept)}."
        )
    return kept


def new_name(name: str) -> str:
    """As `checked_name`, for names that are given from now on: none that no address can hold, that
    hides what it is or looks like another one. Raises InvalidVoiceId."""
    kept = checked_name(name)
    if "/" in kept or kept in (".", ".."):
        raise _no_name(
            "A voice's name cannot contain '/', nor be '.' or '..': it is a part of addresses "
            "such as /voices/NAME. Choose another name."
        )
    if any(_hides(kept, at) for at in range(len(kept))):
        raise _no_name("A voice's name cannot contain invisible characters.")
    for word in WORD.findall(kept):
        scripts = {unicodedata.name(letter, "").partition(" ")[0] for letter in word}
        if len(scripts & LOOK_ALIKE_SCRIPTS) > 1:
            raise _no_name(
                "A word of a voice's name cannot mix letters of scripts that look alike."
            )
    return kept


def _hides(name: str, at: int) -> bool:
    """Whether that character cannot be seen, and is not one that joins others beside it."""
    if not _invisible(name[at]):
        return False
    beside = name[max(0, at - 1) : at] + name[at + 1 : at + 2]
    return name[at] not in JOINERS or at == 0 or any(c.isascii() and c.isalnum() for c in beside)


def _invisible(character: str) -> bool:
    return unicodedata.category(character) == "Cf" or bool(INVISIBLE.match(character))


def _key(name: str) -> str:
    """Names that differ only in case, Unicode form, blanks or what cannot be seen are the same."""
    seen = name
    if not name.isascii():
        seen = "".join(c for c in unicodedata.normalize("NFKC", name) if not _invisible(c))
        seen = unicodedata.normalize("NFKC", seen.casefold())
    return " ".join((seen or name).casefold().split())


class NameIndex:
    """All voices by id, and their ids by name. Immutable, so readers need no lock."""

    def __init__(self, voices: Mapping[str, VoiceInfo] | None = None) -> None:
        self.voices: dict[str, VoiceInfo] = {}
        self._ids: dict[str, str] = {}
        for info in (voices or {}).values():
            self._enter(info)

    def _enter(self, info: VoiceInfo) -> None:
        self.voices[info.voice_id] = info
        for name in info.names:
            self._ids.setdefault(_key(name), info.voice_id)

    def _without_names_of(self, voice_id: str) -> "NameIndex":
        """A copy: of ten thousand voices within a millisecond, as their names stay as they are."""
        copy = NameIndex()
        copy.voices, copy._ids = self.voices.copy(), self._ids.copy()
        info = self.voices.get(voice_id)
        for key in map(_key, info.names if info else ()):
            if copy._ids.get(key) == voice_id:
                del copy._ids[key]
        return copy

    def find(self, id_or_name: str) -> VoiceInfo | None:
        """By exact id first, then by name or alias."""
        if len(id_or_name) > MAX_ASKED_CHARS:
            return None
        found = self.voices.get(id_or_name)
        return found or self.voices.get(self._ids.get(_key(id_or_name), ""))

    def free_name(self, name: str, voice_id: str) -> str:
        """`name` as it is kept, where no other voice than `voice_id` answers to it.
        Raises InvalidVoiceId."""
        kept = new_name(name)
        owner = self.voices.get(voice_id)
        if _key(kept) in RESERVED and not (owner and owner.built_in):
            raise _no_name(
                f"The name {excerpt(kept)!r} is reserved: clients send it without having chosen a "
                "voice. Choose another name."
            )
        holder = self.find(kept) or self.voices.get(_key(kept))
        if holder and holder.voice_id != voice_id:
            raise _no_name(
                f"The name {excerpt(kept)!r} belongs to another voice; "
                "choose another name or rename that voice."
            )
        return kept

    def free_names(self, names: Iterable[str], voice_id: str) -> list[str]:
        """Those of `names` that a voice can be called by and no other one is."""
        free = []
        for name in names:
            with suppress(InvalidVoiceId):
                free.append(self.free_name(name, voice_id))
        return free

    def with_voice(self, info: VoiceInfo) -> "NameIndex":
        """With `info` added, or in place of the voice with its id."""
        changed = self._without_names_of(info.voice_id)
        changed._enter(info)
        return changed

    def without(self, voice_id: str) -> "NameIndex":
        """With that voice gone."""
        changed = self._without_names_of(voice_id)
        changed.voices.pop(voice_id, None)
        return changed


def with_alias(info: VoiceInfo, alias: str) -> tuple[str, ...]:
    """The aliases of `info` and one more. Raises InvalidVoiceId where there are too many."""
    if _key(alias) in {_key(name) for name in info.names}:
        return info.aliases
    if len(info.aliases) >= MAX_ALIASES:
        raise _no_name(f"A voice has at most {MAX_ALIASES} aliases.")
    return (*info.aliases, alias)


def without_alias(info: VoiceInfo, alias: str) -> tuple[str, ...]:
    """The aliases of `info` but one."""
    return tuple(kept for kept in info.aliases if _key(kept) != _key(alias))


def not_found(asked: str) -> ChatterboxError:
    """The error for a voice that is not there."""
    return VoiceNotFound(
        f"There is no voice {excerpt(asked)!r}; GET /voices lists the voices.", param="voice_id"
    )
