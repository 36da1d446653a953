"""Orpheus' voices: those that a checkpoint was trained with, and references to imitate."""

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from chatterbox.arrays import F32, I64
from chatterbox.families.orpheus.spec import AUDIO_IDS
from chatterbox.families.voices import (
    Arrays,
    FixedVoice,
    FixedVoices,
    ReferenceRules,
    UnusableVoice,
)
from chatterbox.runtime.decoder.snac import CODES, PLACES, SnacEncoder

NAMES: dict[str, tuple[str, ...]] = {
    "en": ("tara", "leah", "jess", "leo", "dan", "mia", "zac", "zoe"),
    "fr": ("pierre", "amelie", "marie"),
    "de": ("jana", "thomas", "max"),
    "es": ("javi", "sergio", "maria"),
    "it": ("pietro", "giulia", "carlo"),
    "ko": ("유나", "준서"),
    "hi": ("ऋतिका",),
    "zh": ("长乐", "白芷"),
}
"""By language, in the authors' order; the first is the default."""
TAGS: dict[str, tuple[str, ...]] = {
    "fr": ("whimper",),
    "es": ("resoplido",),
    "it": ("gemito",),
    "ko": ("한숨", "헐", "헛기침", "훌쩍", "하품", "낄낄", "신음", "작은 웃음", "기침", "으르렁"),
    "zh": ("嬉笑", "轻笑", "呻吟", "大笑", "咳嗽", "抽鼻子", "咳"),
}
"""Besides the eight English ones."""
_LANGUAGES = re.compile(r"(?:3b|orpheus)[-_]((?:[a-z]{2}[-_])*[a-z]{2})(?=[-_](?:ft|pretrain)|$)")
MOST_TRANSCRIPT_BYTES = 4096
REFERENCE_S = 15.0
REFERENCE_POSITIONS = 1536
"""Of the longest reference: 1230 tokens, and what is said in it."""


def languages(model: str) -> tuple[str, ...]:
    """Of a checkpoint, told from its name as the authors name them (`3b-fr-ft-research_release`,
    `3b-es_it-…`); English where it says none."""
    found = _LANGUAGES.search(model.lower())
    codes = re.split(r"[-_]", found[1]) if found else []
    return tuple(code for code in codes if code in NAMES) or ("en",)


def is_pretrained(model: str) -> bool:
    """Whether it continues whatever voice it hears, and knows none by name."""
    return "pretrain" in model.lower()


def fixed_voices(spoken: tuple[str, ...], own: str = "") -> FixedVoices:
    """Of a fine-tuned checkpoint; `own`: its names, separated by commas, where they are others."""
    names = [name for part in own.split(",") if (name := part.strip())]
    known = {code: NAMES[code] for code in spoken}
    by_language = {spoken[0]: tuple(names)} if names else known
    voices = tuple(FixedVoice(name, code) for code in by_language for name in by_language[code])
    return FixedVoices(voices, voices[0].name)


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What is kept of a recording."""

    tokens: I64  # [7 × frames]
    transcript: str

    @property
    def nbytes(self) -> int:
        return self.tokens.nbytes + len(self.transcript)


@dataclass(frozen=True, slots=True)
class ReferenceVoices:
    """Implements `ClonedVoices`; experimental, as its authors call it."""

    encoder: SnacEncoder
    key: str

    rules: ClassVar = ReferenceRules(max_s=REFERENCE_S, transcript="required")

    def encode(self, audio: F32, transcript: str | None) -> Reference:
        """What is said is part of the prompt."""
        return Reference(self.encoder.encode(audio), transcript or "")

    def to_arrays(self, data: Reference) -> Arrays:
        """The transcript as bytes."""
        said = np.frombuffer(data.transcript.encode(), np.uint8)
        return {"tokens": data.tokens.astype(np.int64), "transcript": said.astype(np.int16)}

    def from_arrays(self, arrays: Arrays) -> Reference:
        """Checked as a stranger's."""
        tokens, said = arrays.get("tokens"), arrays.get("transcript")
        if tokens is None or said is None or len(arrays) != 2:
            raise UnusableVoice("it is not a voice of Orpheus")
        if tokens.ndim != 1 or said.ndim != 1 or not tokens.size or tokens.size % PLACES:
            raise UnusableVoice("its codes are not whole frames")
        if len(said) > MOST_TRANSCRIPT_BYTES or len(tokens) > AUDIO_IDS // 4:
            raise UnusableVoice("it is too long")
        if not np.array_equal(tokens // CODES, np.arange(len(tokens)) % PLACES):
            raise UnusableVoice("a code is at a wrong place")
        try:
            transcript = said.astype(np.uint8).tobytes().decode()
        except ValueError:
            raise UnusableVoice("its transcript is not text") from None
        return Reference(tokens.astype(np.int64), transcript)

    def alike(self, data: Any, own: Any) -> bool:  # noqa: ARG002
        """Codes are codes."""
        return True
