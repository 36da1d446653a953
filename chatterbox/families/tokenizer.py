"""Text → ids, by the hub's `tokenizer.json` and the `tokenizers` library."""

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
    """A text that spells out a control token is spoken, never obeyed."""

    library: Any
    ends: tuple[int, ...] = ()  # ids behind every text

    @classmethod
    def from_file(cls, path: Path, read_in_texts: Callable[[str], bool]) -> "Tokenizer":
        """Of all the added tokens those that are `read_in_texts` are found in a text. Raises
        ModelError where the file is damaged."""
        try:
            written = json.loads(path.read_text(encoding="utf-8"))
            for token in written["added_tokens"]:
                # "special" ones are then passed over in texts: `encode_special_tokens`
                token["special"] = not read_in_texts(token["content"])
            library = tokenizers.Tokenizer.from_str(json.dumps(written))
        except Exception as failure:
            raise ModelError(f"{path.name} cannot be read: {failure}") from failure
        library.encode_special_tokens = True
        library.no_padding()
        library.no_truncation()
        return cls(library)

    @property
    def largest_id(self) -> int:
        """Of all tokens."""
        return int(max(self.library.get_vocab().values()))

    def encode(self, text: str) -> I64:
        """Ids of `text`, then the `ends`. Raises EmptyText where the model has no id for anything
        in it."""
        ids = self.library.encode(text, add_special_tokens=False).ids
        if not ids:
            raise EmptyText("The model has no letters for this text.", param="text")
        return np.array([*ids, *self.ends], np.int64)
