"""A small Orpheus with random weights, in the published layout."""

from pathlib import Path

import pytest

from chatterbox.config import TTSConfig
from chatterbox.engine.engine import TTSEngine
from tools.model_builder.orpheus import OrpheusSize, write_orpheus


@pytest.fixture(scope="session")
def orpheus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "orpheus-3b-0.1-ft-ONNX"
    write_orpheus(folder, OrpheusSize(), ["fp32"])
    return folder


@pytest.fixture(scope="session")
def engine(orpheus, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("data")
    made = TTSEngine(
        TTSConfig(model=str(orpheus), data_dir=data_dir, device="cpu", max_sequences=4)
    )
    made.load()
    yield made
    made.close()
