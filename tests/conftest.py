"""Hypothesis profiles, client timeouts and fixtures for all tests."""

import gc
import inspect

import httpx
import pytest
from hypothesis import settings

# Every run tries the same examples, without a deadline: a failure means that the code has changed.
# `pytest --hypothesis-profile=explore` tries more.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile("steady")

# httpx' default timeout is five seconds, which a busy machine exceeds.
_PATIENCE = inspect.signature(httpx.Client).parameters["timeout"].default
_PATIENCE.connect = _PATIENCE.read = _PATIENCE.write = _PATIENCE.pool = 60.0


@pytest.fixture(scope="session")
def process():
    """Return a function that starts a server in its own process:
    `with process(directory, **settings) as server`."""
    from faults.process import Servers

    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture(scope="session")
def s3():
    """Return the address of a local S3 server."""
    from stores import s3_server

    with s3_server() as address:
        yield address


def pytest_collection_finish():
    """Exempt imported modules and collected tests from garbage collection: they live to the end."""
    gc.collect()
    gc.freeze()
