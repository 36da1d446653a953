"""The embedded model: a small one in the hub's layout, shipped with the package.

`python -m tools.train_mini` made the files; docs/inside/mini.md says of what.
"""

from pathlib import Path
from typing import Literal

PRECISION: Literal["fp32"] = "fp32"
"""The one that is shipped. `tools/build_model.py convert` makes the others."""


def path() -> Path:
    """The model's directory."""
    return Path(__file__).parent / "model"
