"""Where is the embedded model? A small one in the hub's layout, shipped with the package.

Knows no graph. `tools/build_model.py mini` made the files.
"""

from pathlib import Path


def path() -> Path:
    """The model's directory."""
    return Path(__file__).parent / "model"
