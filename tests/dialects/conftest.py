"""Fixtures: one embedded model and one live server, shared by all tests with real clients."""

import warnings
from collections.abc import Iterator

import pytest
from dialects.live import Live, live
from made import with_compiled_mini

from chatterbox.config import TTSConfig
from chatterbox.engine.engine import TTSEngine

with warnings.catch_warnings():  # it imports a module that Python 3.13 drops
    warnings.simplefilter("ignore", DeprecationWarning)
    import wyoming.audio  # noqa: F401


@pytest.fixture(scope="package")
def engine(tmp_path_factory) -> Iterator[TTSEngine]:
    data_dir = with_compiled_mini(tmp_path_factory.mktemp("data"))
    engine = TTSEngine(TTSConfig(model="mini", data_dir=data_dir, _env_file=None))
    engine.load()
    yield engine
    engine.close()


@pytest.fixture(scope="package")
def mini(engine) -> Iterator[Live]:
    with live(engine) as server:
        yield server


@pytest.fixture(scope="package")
def address(mini) -> str:
    return mini.http
