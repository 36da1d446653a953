"""Orpheus' prompt: a human turn with the text, a turn of the model that begins to speak.

    start of human, begin of text, `voice: text`, end of text, end of human, start of AI, start of
    speech

A cloned voice is such a pair of turns that is finished, its reference's text and codes, before one
without a name.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from chatterbox.arrays import I64
from chatterbox.errors import ModelError
from chatterbox.families.base import Voice
from chatterbox.families.orpheus.spec import (
    BEGIN_OF_TEXT,
    END_OF_AI,
    END_OF_HUMAN,
    END_OF_SPEECH,
    END_OF_TEXT,
    FIRST_AUDIO,
    START_OF_AI,
    START_OF_HUMAN,
    START_OF_SPEECH,
)
from chatterbox.families.orpheus.voices import Reference
from chatterbox.families.tokenizer import Tokenizer
from chatterbox.runtime.kv_slots import PrefixedPrompt

PromptForm = Literal["trained", "package"]
"""As in the training data; or as the authors' package sends it, whose server puts another begin of
text in front."""

SURE = {BEGIN_OF_TEXT: "<|begin_of_text|>", END_OF_SPEECH: "<custom_token_2>"}
SURE |= {FIRST_AUDIO: "<custom_token_10>"}
_TAG = re.compile(r"\[([^\[\]]+)\]")


def open_tokenizer(path: Path) -> Tokenizer:
    """Llama's, by `tokenizer.json`. Raises ModelError where it is damaged or of another model."""
    tokenizer = Tokenizer.from_file(path, lambda _: False)
    for number, token in SURE.items():
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
        """The voice's name in front of the text; a reference has none. Raises EmptyText."""
        said = _TAG.sub(self._tag, text)
        cloned = isinstance(voice.data, Reference)
        ids = self._turns(said if cloned else f"{voice.data}: {said}", first=not cloned)
        return self.prefix(voice).with_text(ids)

    def prefix(self, voice: Voice) -> PrefixedPrompt:
        """A reference's turns; nothing of a voice that is only named."""
        none = np.zeros(0, np.int64)
        if not isinstance(voice.data, Reference):
            return PrefixedPrompt(voice.key, none, none)
        codes = voice.data.tokens + FIRST_AUDIO
        turns = self._turns(voice.data.transcript, first=True)
        spoken = np.concatenate([turns, codes, [END_OF_SPEECH, END_OF_AI]])
        return PrefixedPrompt(voice.key, spoken, none)

    def _tag(self, match: re.Match[str]) -> str:
        """As the model was trained with it; other brackets stay."""
        return f"<{match[1]}>" if match[1] in self.tags else match[0]

    def _turns(self, text: str, *, first: bool) -> I64:
        lead = [BEGIN_OF_TEXT] if first and self.form == "package" else []
        ids = self.tokenizer.encode(text)
        after = [END_OF_TEXT, END_OF_HUMAN, START_OF_AI, START_OF_SPEECH]
        return np.concatenate([lead, [START_OF_HUMAN, BEGIN_OF_TEXT], ids, after]).astype(np.int64)
