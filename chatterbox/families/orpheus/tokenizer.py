"""Text → Llama's ids, by the hub's `tokenizer.json`."""

from pathlib import Path
from typing import Any

import numpy as np

from chatterbox.arrays import I64
from chatterbox.errors import EmptyText, ModelError
from chatterbox.families.orpheus.spec import BEGIN_OF_TEXT, END_OF_SPEECH, FIRST_AUDIO
from chatterbox.families.tokenizer import open_tokenizer

SURE = {BEGIN_OF_TEXT: "<|begin_of_text|>", END_OF_SPEECH: "<custom_token_2>"}
SURE |= {FIRST_AUDIO: "<custom_token_10>"}


class Tokenizer:
    """Text → ids. A text that spells out a control token is spoken, never obeyed."""

    def __init__(self, library: Any) -> None:
        self.library = library

    @classmethod
    def from_file(cls, path: Path) -> "Tokenizer":
        """Read `tokenizer.json`. Raises ModelError where it is damaged or of another model."""
        library = open_tokenizer(path, lambda _: False)
        for number, token in SURE.items():
            if library.token_to_id(token) != number:
                raise ModelError(f"{path.name} is not Orpheus' tokenizer: {token} is not {number}")
        return cls(library)

    def encode(self, text: str) -> I64:
        """Ids of `text`, and of nothing else. Raises EmptyText where it has none."""
        ids = self.library.encode(text, add_special_tokens=False).ids
        if not ids:
            raise EmptyText("The model has no letters for this text.", param="text")
        return np.array(ids, np.int64)
