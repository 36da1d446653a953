"""All example texts of the tests in this folder."""

import importlib
import pkgutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from chatterbox import text
from chatterbox.families.turbo.spec import TAGS, clean_up

normalise = partial(text.normalise, tags=text.Tags(TAGS))
prepare = partial(text.prepare, tags=text.Tags(TAGS), clean_up=clean_up)
"""Read texts as for Turbo."""


def _texts(value: Any) -> Iterator[str]:
    """Yield the written texts of nested tables with rows of (written, spoken)."""
    if isinstance(value, dict):
        yield from _texts(list(value.items()))
    elif isinstance(value, list | tuple):
        for row in value:
            if isinstance(row, tuple) and row and isinstance(row[0], str):
                yield row[0]
            elif isinstance(row, tuple):
                yield from _texts(row)


def written() -> list[str]:
    """Return the written texts of all tables in `tests/text`, without duplicates."""
    found: dict[str, None] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if not module.name.startswith("test_"):
            continue
        names = vars(importlib.import_module(f"text.{module.name}"))
        for name, value in names.items():
            if name.isupper() and name != "TABLE":
                found.update(dict.fromkeys(_texts(value)))
    return list(found)
