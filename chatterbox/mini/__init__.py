"""The embedded model: a small model in the hub's layout, shipped with the package.

`python -m tools.train_mini` trains it; docs/inside/mini.md describes how.
"""

from pathlib import Path
from typing import Literal

PRECISION: Literal["fp32"] = "fp32"
"""The shipped precision. `tools/build_model.py convert` makes the others."""


def path() -> Path:
    """Return the model's directory."""
    return Path(__file__).parent / "model"
