"""How is a model directory made? `python tools/build_model.py mini|random DIRECTORY …`

Knows the command line; `tools/model_builder` writes the files.

    python tools/build_model.py mini chatterbox/mini/model
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chatterbox.model.contract import PRECISIONS, Precision
from tools.model_builder.mini import write_mini


def main() -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["mini"])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--precision", type=_precisions, default=list(PRECISIONS))
    given = parser.parse_args()
    write_mini(given.directory, given.precision)


def _precisions(text: str) -> list[Precision]:
    chosen = text.split(",")
    unknown = [name for name in chosen if name not in PRECISIONS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(PRECISIONS)}")
    return [name for name in PRECISIONS if name in chosen]


if __name__ == "__main__":
    main()
