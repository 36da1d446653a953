"""Fixtures: a live server with the embedded model, and a folder with the files that pages use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from dialects.live import Live, clip, live
from made import with_compiled_mini

from chatterbox.config import TTSConfig
from chatterbox.engine.engine import TTSEngine


@pytest.fixture(scope="package")
def server(tmp_path_factory) -> Iterator[Live]:
    data_dir = with_compiled_mini(tmp_path_factory.mktemp("data"))
    engine = TTSEngine(TTSConfig(model="mini", data_dir=data_dir, _env_file=None))
    engine.load()
    with live(engine) as running:
        yield running
    engine.close()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Return the working directory of a page's commands, with a recording and a text. Environment
    variables are restored afterwards."""
    (tmp_path / "me.wav").write_bytes(clip())
    (tmp_path / "chapter.txt").write_text("One sentence. Another one.")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return tmp_path
