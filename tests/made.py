"""Models for tests: one whose codes are known beforehand, and the embedded one, compiled.

The first is tiny, in the hub's layout and in all five precisions. Its weights are made, not
trained: two codes for every character, then the stop, with wide margins.
"""

import functools
import os
import shutil
import tempfile
from pathlib import Path

from chatterbox.config import TTSConfig
from chatterbox.families.load import load_model
from chatterbox.runtime.compiled_cache import DIRECTORY
from tools.model_builder.made import write_made


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="made-model-")
    write_made(Path(folder.name))
    return folder


def path() -> Path:
    """The model's directory, written when first asked for and gone with the process."""
    return Path(_folder().name)


@functools.cache
def _compiled_mini() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="compiled-mini-")
    load_model(TTSConfig(_env_file=None, model="mini", data_dir=folder.name), lambda _: None)
    return folder


def with_compiled_mini(data_dir: Path) -> Path:
    """Put the embedded model into a data directory as a first start leaves it: compiled."""
    compiled = Path(_compiled_mini().name) / DIRECTORY
    shutil.copytree(compiled, data_dir / DIRECTORY, copy_function=os.link)
    return data_dir
