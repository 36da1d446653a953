"""Orpheus' voices: fixed ones that a checkpoint was trained with, and cloned ones."""

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
"""Names of the fixed voices by language, in the authors' order; the first is the default."""
TAGS: dict[str, tuple[str, ...]] = {
    "fr": ("whimper",),
    "es": ("resoplido",),
    "it": ("gemito",),
    "ko": ("한숨", "헐", "헛기침", "훌쩍", "하품", "낄낄", "신음", "작은 웃음", "기침", "으르렁"),
    "zh": ("嬉笑", "轻笑", "呻吟", "大笑", "咳嗽", "抽鼻子", "咳"),
}
"""Tags by language, in addition to the eight English ones."""
_LANGUAGES = re.compile(r"(?:3b|orpheus)[-_]((?:[a-z]{2}[-_])*[a-z]{2})(?=[-_](?:ft|pretrain)|$)")
MAX_TRANSCRIPT_BYTES = 4096
REFERENCE_S = 15.0
"""Longest recording of a cloned voice, since all of it is in the prompt."""
REFERENCE_POSITIONS = 1536
"""Most positions that a recording takes in a prompt: 1230 tokens and the transcript."""


def languages(model: str) -> tuple[str, ...]:
    """Return the languages in a checkpoint's name (`3b-fr-ft-research_release`, `3b-es_it-…`), or
    English if there are none."""
    match = _LANGUAGES.search(model.lower())
    codes = re.split(r"[-_]", match[1]) if match else []
    return tuple(code for code in codes if code in NAMES) or ("en",)


def is_pretrained(model: str) -> bool:
    """Return whether a checkpoint is pretrained, and so clones voices. Fine-tuned checkpoints have
    fixed voices instead."""
    return "pretrain" in model.lower()


def fixed_voices(languages: tuple[str, ...], names: str = "") -> FixedVoices:
    """Return the voices of a fine-tuned checkpoint. `names` replaces the authors' names; it is
    comma-separated."""
    own = [name for part in names.split(",") if (name := part.strip())]
    known = {code: NAMES[code] for code in languages}
    by_language = {languages[0]: tuple(own)} if own else known
    voices = tuple(FixedVoice(name, code) for code in by_language for name in by_language[code])
    return FixedVoices(voices, voices[0].name)


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Data of a cloned voice."""

    tokens: I64  # [7 × frames]
    transcript: str

    @property
    def nbytes(self) -> int:
        return self.tokens.nbytes + len(self.transcript)


@dataclass(frozen=True, slots=True)
class ReferenceVoices:
    """Implements `ClonedVoices`. The authors call cloning experimental."""

    encoder: SnacEncoder
    key: str

    rules: ClassVar = ReferenceRules(max_s=REFERENCE_S, transcript="required")

    def encode(self, audio: F32, transcript: str | None) -> Reference:
        return Reference(self.encoder.encode(audio), transcript or "")

    def to_arrays(self, data: Reference) -> Arrays:
        text = np.frombuffer(data.transcript.encode(), np.uint8)
        return {"tokens": data.tokens.astype(np.int64), "transcript": text.astype(np.int16)}

    def from_arrays(self, arrays: Arrays) -> Reference:
        tokens, text = arrays.get("tokens"), arrays.get("transcript")
        if tokens is None or text is None or len(arrays) != 2:
            raise UnusableVoice("it is not a voice of Orpheus")
        if tokens.ndim != 1 or text.ndim != 1 or not tokens.size or tokens.size % PLACES:
            raise UnusableVoice("its codes are not whole frames")
        if len(text) > MAX_TRANSCRIPT_BYTES or len(tokens) > AUDIO_IDS // 4:
            raise UnusableVoice("it is too long")
        if not np.array_equal(tokens // CODES, np.arange(len(tokens)) % PLACES):
            raise UnusableVoice("a code is at a wrong place")
        try:
            transcript = text.astype(np.uint8).tobytes().decode()
        except ValueError:
            raise UnusableVoice("its transcript is not text") from None
        return Reference(tokens.astype(np.int64), transcript)

    def is_compatible(self, data: Any, own: Any) -> bool:  # noqa: ARG002
        """Return True: codes have the same form in every checkpoint."""
        return True
