"""Turbo's prompt: the voice's conditioning rows, the text's ids, two start codes."""

from dataclasses import dataclass

import numpy as np

from chatterbox.families.base import Voice
from chatterbox.families.turbo.tokenizer import Tokenizer
from chatterbox.runtime.kv_prefix import PrefixedPrompt


@dataclass(frozen=True, slots=True)
class TurboPrompts:
    """Implements `Prompts`."""

    tokenizer: Tokenizer

    def prompt(self, text: str, voice: Voice) -> PrefixedPrompt:
        """The text's ids end in two end tokens, which the embedding reads as start codes. Raises
        EmptyText."""
        return self.prefix(voice).then(self.tokenizer.encode(text))

    def prefix(self, voice: Voice) -> PrefixedPrompt:
        """The conditioning rows alone."""
        return PrefixedPrompt(voice.key, voice.data.features, np.zeros(0, np.int64))
