"""What a family's voices are: encoded from recordings, or known by name, or both."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from chatterbox.arrays import F32
from chatterbox.families.base import Voice

Arrays = dict[str, NDArray[Any]]
"""A voice's data as it is kept in files: by name, of float32, int64 or int16."""


class UnusableVoice(ValueError):
    """Arrays that cannot be a voice of this family; the text says why, without a stop."""


@dataclass(frozen=True, slots=True)
class ReferenceRules:
    """Which recordings a family takes, and how it wants to hear them."""

    max_s: float  # the stretch with the most speech is chosen from a longer one
    min_s: float = 1.0  # less is refused
    good_s: float = 5.0  # less gets a warning
    loudness_lufs: float | None = None  # that it is brought to; None: left as it is
    transcript: Literal["unused", "optional", "required"] = "unused"  # what is said in it


class ClonedVoices(Protocol):
    """Recordings → voices. Called by any thread, by several at once."""

    @property
    def key(self) -> str:
        """Names the encoder: voices encoded under another key are encoded again. Letters, digits,
        `.`, `_` and `-`, at most 64: a part of files' names."""

    @property
    def rules(self) -> ReferenceRules:
        """Which recordings it takes."""

    def encode(self, audio: F32, transcript: str | None) -> Any:
        """`audio`: [samples] mono float32, by the `rules` → a voice's data, which say how many
        bytes they take (`nbytes`)."""

    def to_arrays(self, data: Any) -> Arrays:
        """Data as they are kept; equal data give equal arrays."""

    def from_arrays(self, arrays: Arrays) -> Any:
        """The inverse, of arrays that anybody may have written. Raises UnusableVoice."""

    def alike(self, data: Any, own: Any) -> bool:
        """Whether data of another installation have the sizes that this model's `own` have: others
        would end the engine, not only the request."""


@dataclass(frozen=True, slots=True)
class FixedVoice:
    """A voice that a model was trained with."""

    name: str
    language: str  # ISO 639-1
    description: str = ""


def _named(name: str) -> Any:
    return name


@dataclass(frozen=True, slots=True)
class FixedVoices:
    """The voices that a model was trained with, asked for by name."""

    voices: tuple[FixedVoice, ...]
    default: str
    data: Callable[[str], Any] = _named  # of a voice, by its name

    def voice(self, name: str) -> Voice | None:
        """The one of that exact name."""
        if all(voice.name != name for voice in self.voices):
            return None
        return Voice(f"fixed:{name}", self.data(name))
