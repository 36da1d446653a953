"""Voices of a family: cloned from recordings, or fixed and known by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from chatterbox.arrays import F32
from chatterbox.families.base import Voice

Arrays = dict[str, NDArray[Any]]
"""A voice's data in files: arrays of float32, int64 or int16, by name."""


class UnusableVoice(ValueError):
    """The arrays are not a voice of this family; the message says why, without a full stop."""


@dataclass(frozen=True, slots=True)
class ReferenceRules:
    """Which recordings a family accepts, and how they are prepared."""

    max_s: float  # of a longer one, the stretch with the most speech is used
    min_s: float = 1.0  # a shorter one is refused
    good_s: float = 5.0  # a shorter one gets a warning
    loudness_lufs: float | None = None  # to which it is normalised; None: unchanged
    transcript: Literal["unused", "optional", "required"] = "unused"  # the words of the recording


class ClonedVoices(Protocol):
    """Turns recordings into voices. Thread-safe."""

    @property
    def key(self) -> str:
        """Identity of the encoder: a voice of another key is encoded again. At most 64 letters,
        digits, `.`, `_` and `-`, since it is part of file names."""

    @property
    def rules(self) -> ReferenceRules:
        """Which recordings are accepted."""

    def encode(self, audio: F32, transcript: str | None) -> Any:
        """Encode `audio`, mono float32 [samples] prepared by the `rules`. Returns a voice's data,
        with its size as `nbytes`."""

    def to_arrays(self, data: Any) -> Arrays:
        """Return data as arrays for a file; equal data give equal arrays."""

    def from_arrays(self, arrays: Arrays) -> Any:
        """Return data from untrusted arrays of a file. Raises UnusableVoice."""

    def is_compatible(self, data: Any, own: Any) -> bool:
        """Return whether data of another installation have the sizes of this model's `own` data.
        Other sizes would make the language model fail for all requests, not only for one."""


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
    data: Callable[[str], Any] = str  # of a voice, by its name

    def voice(self, name: str) -> Voice | None:
        """Return the voice of this exact name, or None."""
        known = any(voice.name == name for voice in self.voices)
        return Voice(f"fixed:{name}", self.data(name)) if known else None
