"""A tiny model in the hub's layout whose codes are known beforehand, in all five precisions.

Its weights are made, not trained: two codes for every character, then the stop, with wide margins.
"""

import functools
import tempfile
from pathlib import Path

from tools.model_builder.made import write_made


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="made-model-")
    write_made(Path(folder.name))
    return folder


def path() -> Path:
    """The model's directory, written when first asked for and gone with the process."""
    return Path(_folder().name)
