"""What the tests of the made model share: its sessions, opened once, and two voices."""

from collections.abc import Callable

import made
import pytest
from builder.drive import Array, Model, voice_like

from chatterbox.hub.files import Precision

Models = Callable[[Precision], Model]


@pytest.fixture(scope="session")
def model() -> Models:
    """The made model in a precision."""
    opened: dict[Precision, Model] = {}

    def of(precision: Precision) -> Model:
        return opened.setdefault(precision, Model(made.path(), precision))

    return of


@pytest.fixture(scope="session")
def low_voice() -> Array:
    """Six seconds of a deep, dark buzz."""
    return voice_like(105, 6)


@pytest.fixture(scope="session")
def high_voice() -> Array:
    """Twelve seconds of a high, bright buzz."""
    return voice_like(210, 12, resonance_hz=1600)
