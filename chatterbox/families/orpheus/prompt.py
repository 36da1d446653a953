"""Orpheus' prompt: a human turn with the text, and the beginning of the model's turn.

    start of human, begin of text, `voice: text`, end of text, end of human, start of AI, start of
    speech

The prompt of a cloned voice begins with a complete pair of turns, the recording's transcript and
codes. The turn with the text then has no name.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from chatterbox.arrays import I64
from chatterbox.errors import ModelError
from chatterbox.families.base import Voice
from chatterbox.families.orpheus import spec
from chatterbox.families.orpheus.voices import Reference
from chatterbox.families.tokenizer import Tokenizer
from chatterbox.runtime.kv_slots import PrefixedPrompt

PromptForm = Literal["trained", "package"]
"""Form of the prompt: as in the training data, or as the server of the authors' package sends it,
with another begin-of-text token in front."""

CHECKED_TOKENS = {
    spec.BEGIN_OF_TEXT: "<|begin_of_text|>",
    spec.END_OF_SPEECH: "<custom_token_2>",
    spec.FIRST_AUDIO: "<custom_token_10>",
}
"""Ids and names of tokens that identify Orpheus' tokenizer."""
_TAG = re.compile(r"\[([^\[\]]+)\]")


def open_tokenizer(path: Path) -> Tokenizer:
    """Open the tokenizer. Raises ModelError if it is damaged or belongs to another model."""
    tokenizer = Tokenizer.from_file(path, lambda _: False)
    for number, token in CHECKED_TOKENS.items():
        if tokenizer.library.token_to_id(token) != number:
            raise ModelError(f"{path.name} is not Orpheus' tokenizer: {token} is not {number}")
    return tokenizer


@dataclass(frozen=True, slots=True)
class OrpheusPrompts:
    """Implements `Prompts`."""

    tokenizer: Tokenizer
    tags: frozenset[str]
    form: PromptForm = "trained"

    def prompt(self, text: str, voice: Voice) -> PrefixedPrompt:
        text = _TAG.sub(self._tag, text)
        cloned = isinstance(voice.data, Reference)
        ids = self._turns(text if cloned else f"{voice.data}: {text}", first=not cloned)
        return self.prefix(voice).with_text(ids)

    def prefix(self, voice: Voice) -> PrefixedPrompt:
        """Return the pair of turns of a cloned voice, or an empty prefix for a named voice."""
        none = np.zeros(0, np.int64)
        if not isinstance(voice.data, Reference):
            return PrefixedPrompt(voice.key, none, none)
        codes = voice.data.tokens + spec.FIRST_AUDIO
        turns = self._turns(voice.data.transcript, first=True)
        spoken = np.concatenate([turns, codes, [spec.END_OF_SPEECH, spec.END_OF_AI]])
        return PrefixedPrompt(voice.key, spoken, none)

    def _tag(self, match: re.Match[str]) -> str:
        """Return a tag as in training; leave other brackets unchanged."""
        return f"<{match[1]}>" if match[1] in self.tags else match[0]

    def _turns(self, text: str, *, first: bool) -> I64:
        lead = [spec.BEGIN_OF_TEXT] if first and self.form == "package" else []
        ids = self.tokenizer.encode(text)
        after = [spec.END_OF_TEXT, spec.END_OF_HUMAN, spec.START_OF_AI, spec.START_OF_SPEECH]
        before = [*lead, spec.START_OF_HUMAN, spec.BEGIN_OF_TEXT]
        return np.concatenate([before, ids, after]).astype(np.int64)
