"""Reads the hub's `tokenizer.json` through the `tokenizers` library."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from chatterbox.errors import ModelError


def open_tokenizer(path: Path, read_in_texts: Callable[[str], bool]) -> Any:
    """The library's tokenizer. Of all the added tokens those that are `read_in_texts` are found in
    a text; one that spells out another is spoken, never obeyed. Raises ModelError."""
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        for token in written["added_tokens"]:
            # "special" ones are then passed over in texts: `encode_special_tokens`
            token["special"] = not read_in_texts(token["content"])
        library = Tokenizer.from_str(json.dumps(written))
    except Exception as failure:
        raise ModelError(f"{path.name} cannot be read: {failure}") from failure
    library.encode_special_tokens = True
    library.no_padding()
    library.no_truncation()
    return library
