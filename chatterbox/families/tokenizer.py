"""Turns text into ids with the model's `tokenizer.json` and the `tokenizers` library."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from chatterbox.arrays import I64
from chatterbox.errors import EmptyText, ModelError


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A tokenizer for untrusted texts, in which control tokens are treated as plain text."""

    library: Any
    ends: tuple[int, ...] = ()  # ids appended to every text

    @classmethod
    def from_file(cls, path: Path, is_allowed: Callable[[str], bool]) -> "Tokenizer":
        """Open a tokenizer. Of the added tokens, only those for which `is_allowed` returns True are
        recognised in texts. Raises ModelError if the file is damaged."""
        try:
            definition = json.loads(path.read_text(encoding="utf-8"))
            for token in definition["added_tokens"]:
                # `encode_special_tokens` below makes special tokens in texts plain text
                token["special"] = not is_allowed(token["content"])
            library = tokenizers.Tokenizer.from_str(json.dumps(definition))
        except Exception as failure:
            raise ModelError(f"{path.name} cannot be read: {failure}") from failure
        library.encode_special_tokens = True
        library.no_padding()
        library.no_truncation()
        return cls(library)

    @property
    def largest_id(self) -> int:
        """Largest id of the vocabulary."""
        return int(max(self.library.get_vocab().values()))

    def encode(self, text: str) -> I64:
        """Return the ids of `text`, followed by `ends`. Raises EmptyText if the text has no ids."""
        ids = self.library.encode(text, add_special_tokens=False).ids
        if not ids:
            raise EmptyText("The model has no letters for this text.", param="text")
        return np.array([*ids, *self.ends], np.int64)
