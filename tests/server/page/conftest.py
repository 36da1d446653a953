"""A server and a browser for each file of tests; each test has a fresh profile."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser
from server.page.browser import chromium, noise_free_tone, served


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("data")) as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    microphone = noise_free_tone(tmp_path_factory.mktemp("microphone") / "tone.wav")
    with chromium(microphone) as browser:
        yield browser
