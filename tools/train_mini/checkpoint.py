"""Writes checkpoints of a training run, and stops a run early without losing work."""

import signal
import time
from pathlib import Path
from typing import Any

import torch

EVERY_S = 120.0


class Keeper:
    """Writes the state now and then, whole or not at all; SIGTERM asks the loop to end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked_to_end = False
        self._kept = time.monotonic()
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, *_: Any) -> None:
        self.asked_to_end = True

    def due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() - self._kept > EVERY_S

    def write(self, state: dict[str, Any]) -> None:
        """Replace the file."""
        torch.save(state, self.path.with_suffix(".tmp"))
        self.path.with_suffix(".tmp").replace(self.path)
        self._kept = time.monotonic()
