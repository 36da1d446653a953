"""The option `--soak-minutes` and the tables printed at the end."""

from collections.abc import Callable

import pytest

DEFAULT_MINUTES = 120.0
_SAID = pytest.StashKey[list[str]]()


def pytest_addoption(parser) -> None:
    parser.addoption(
        "--soak-minutes",
        type=float,
        default=DEFAULT_MINUTES,
        help="how long the soak takes in all; its parts share it",
    )


def pytest_configure(config) -> None:
    config.stash[_SAID] = []


def pytest_terminal_summary(terminalreporter, config) -> None:
    said = config.stash[_SAID]
    if said:
        terminalreporter.section("soak")
        for line in said:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def minutes(request) -> float:
    return request.config.getoption("--soak-minutes")


@pytest.fixture
def tell(request) -> Callable[[str], None]:
    """Return a function that adds a line to the summary."""
    return request.config.stash[_SAID].append
