"""What holds for every test."""

import gc
import inspect

import httpx
import pytest
from hypothesis import settings

# The same examples on every run and no clock: a red run means a change, not luck or a busy machine.
# To look further: `pytest --hypothesis-profile=explore`.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile("steady")

# Every client that says nothing of it would give up after five seconds.
_PATIENCE = inspect.signature(httpx.Client).parameters["timeout"].default
_PATIENCE.connect = _PATIENCE.read = _PATIENCE.write = _PATIENCE.pool = 60.0


@pytest.fixture(scope="session")
def process():
    """`with process(directory, **settings) as server`: a server that is a process of its own."""
    from faults.process import Servers

    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture(scope="session")
def s3():
    """The address of an S3 server."""
    from stores import s3_server

    with s3_server() as address:
        yield address


def pytest_collection_finish():
    """What was imported and collected stays: no garbage collection need look through it again."""
    gc.collect()
    gc.freeze()
