"""A small Orpheus with random weights, in the published layout."""

from pathlib import Path

import pytest

from tools.model_builder.orpheus import OrpheusSize, write_orpheus


@pytest.fixture(scope="session")
def orpheus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "orpheus-3b-0.1-ft-ONNX"
    write_orpheus(folder, OrpheusSize(), ["fp32"])
    return folder


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """Where the model is compiled once for all tests."""
    return tmp_path_factory.mktemp("data")
