"""Entry point: measure a running server from outside (docs/run/benchmarking.md has the figures).

Knows only where the packages are; everything else is in `chatterbox/bench/`.
"""

import os
import sys
from pathlib import Path

ENVIRONMENT = Path(__file__).resolve().parent / ".venv"
EXIT_USAGE = 2

try:
    from chatterbox.bench.main import main
except ImportError as missing:
    # Started with a Python that lacks the packages; the project's own has them.
    python = ENVIRONMENT / "bin" / "python"
    if python.exists() and Path(sys.prefix) != ENVIRONMENT:
        os.execv(python, [str(python), *sys.argv])  # noqa: S606 - our own file, no shell
    print(f"benchmark.py: {missing}; use ./run.sh benchmark, which installs it", file=sys.stderr)
    sys.exit(EXIT_USAGE)

if __name__ == "__main__":
    sys.exit(main())
