"""Protocols and data of a family's voices: cloned from recordings, or fixed with a name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from chatterbox.arrays import F32
from chatterbox.families.base import Voice

Arrays = dict[str, NDArray[Any]]
"""A voice's data as stored in files: arrays of float32, int64 or int16, by name."""


class UnusableVoice(ValueError):
    """Raised for arrays that are not a voice of this family. The message has no full stop."""


@dataclass(frozen=True, slots=True)
class ReferenceRules:
    """The recordings that a family accepts, and how they are prepared."""

    max_s: float  # in longer recordings, only the stretch with the most speech is used
    min_s: float = 1.0  # shorter recordings are refused
    good_s: float = 5.0  # shorter recordings get a warning
    loudness_lufs: float | None = None  # loudness after normalisation; None leaves it unchanged
    transcript: Literal["unused", "optional", "required"] = "unused"


class ClonedVoices(Protocol):
    """Turns recordings into voices. Thread-safe."""

    @property
    def key(self) -> str:
        """Identity of the encoder. Voices stored with another key are encoded again. At most 64
        letters, digits, `.`, `_` and `-`, since the key is part of file names."""

    @property
    def rules(self) -> ReferenceRules:
        """Rules for recordings."""

    def encode(self, audio: F32, transcript: str | None) -> Any:
        """Encode `audio`, mono float32 [samples] prepared by the `rules`. Returns the voice's data,
        an object with the property `nbytes`."""

    def to_arrays(self, data: Any) -> Arrays:
        """Return a voice's data as arrays for a file. Equal data give equal arrays."""

    def from_arrays(self, arrays: Arrays) -> Any:
        """Return a voice's data from the untrusted arrays of a file. Raises UnusableVoice."""

    def is_compatible(self, data: Any, own: Any) -> bool:
        """Return whether imported `data` has the same array sizes as this model's `own` data. Other
        sizes would make the language model fail for a whole batch."""


@dataclass(frozen=True, slots=True)
class FixedVoice:
    """A voice that a model was trained with."""

    name: str
    language: str  # ISO 639-1
    description: str = ""


@dataclass(frozen=True, slots=True)
class FixedVoices:
    """The voices that a model was trained with, by name."""

    voices: tuple[FixedVoice, ...]
    default: str
    data: Callable[[str], Any] = str  # returns the data of the voice with a name

    def voice(self, name: str) -> Voice | None:
        """Return the voice with exactly this name, or None."""
        known = any(voice.name == name for voice in self.voices)
        return Voice(f"fixed:{name}", self.data(name)) if known else None
