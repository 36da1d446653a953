"""One embedded model and one live server for all real clients."""

from collections.abc import Iterator

import pytest
from server.dialects.live import live

from chatterbox.config import TTSConfig
from chatterbox.engine.engine import TTSEngine


@pytest.fixture(scope="package")
def engine(tmp_path_factory) -> Iterator[TTSEngine]:
    data_dir = tmp_path_factory.mktemp("data")
    engine = TTSEngine(TTSConfig(model="mini", data_dir=data_dir, _env_file=None))
    engine.load()
    yield engine
    engine.close()


@pytest.fixture(scope="package")
def address(engine) -> Iterator[str]:
    with live(engine) as url:
        yield url
