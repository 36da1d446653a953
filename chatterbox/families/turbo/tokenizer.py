"""What the model reads: ids of a segment's text behind the voice's conditioning rows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chatterbox.errors import EmptyText, ModelError
from chatterbox.families.base import Voice
from chatterbox.families.tokenizer import open_tokenizer
from chatterbox.families.turbo.spec import TAGS
from chatterbox.runtime.kv_prefix import PrefixedPrompt

END_OF_TEXT = "<|endoftext|>"
END_TOKENS = 2
"""The published embedding graph reads the last two ids of a text as speech codes, the start code
twice; `tokenizer.json` appends them."""


class Tokenizer:
    """Text → ids. Of all the added tokens only the model's tags are read from text; a text that
    spells out a control token is spoken, never obeyed."""

    def __init__(self, library: Any, end_id: int) -> None:
        self._library = library
        self._end_id = end_id

    @classmethod
    def from_file(cls, path: Path) -> "Tokenizer":
        """Read `tokenizer.json`. Raises ModelError where it is damaged or lacks the end token."""
        library = open_tokenizer(path, lambda content: content[1:-1] in TAGS)
        end_id = library.token_to_id(END_OF_TEXT)
        if end_id is None:
            raise ModelError(f"{path.name} has no token {END_OF_TEXT}")
        return cls(library, end_id)

    @property
    def largest_id(self) -> int:
        """Of all tokens."""
        return int(max(self._library.get_vocab().values()))

    def encode(self, text: str) -> NDArray[np.int64]:
        """Ids of `text` [S ≥ 3], the last two of them end-of-text.

        Raises EmptyText where the model has no id for anything in it.
        """
        ids = self._library.encode(text).ids
        while ids and ids[-1] == self._end_id:
            ids.pop()
        if not ids:
            raise EmptyText("The model has no letters for this text.", param="text")
        return np.array([*ids, *[self._end_id] * END_TOKENS], dtype=np.int64)


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
