"""What the tests of the embedded model share: its sessions, opened once, and two voices."""

from collections.abc import Callable

import pytest
from mini.drive import Array, Model, voice_like

from chatterbox import mini
from chatterbox.model.contract import Precision

Models = Callable[[Precision], Model]


@pytest.fixture(scope="session")
def model() -> Models:
    """The shipped model in a precision."""
    opened: dict[Precision, Model] = {}

    def of(precision: Precision) -> Model:
        return opened.setdefault(precision, Model(mini.path(), precision))

    return of


@pytest.fixture(scope="session")
def low_voice() -> Array:
    """Six seconds of a deep, dark buzz."""
    return voice_like(105, 6)


@pytest.fixture(scope="session")
def high_voice() -> Array:
    """Twelve seconds of a high, bright buzz."""
    return voice_like(210, 12, resonance_hz=1600)
