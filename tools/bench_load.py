"""Measures the time to load a model: `python tools/bench_load.py DIRECTORY [--starts 3]`

Each start is a process of its own with the same data directory, which is empty at first: the first
one compiles, those after it open what was compiled.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOAD = """
import sys, time
started = time.monotonic()
from pathlib import Path
from chatterbox.config import TTSConfig
from chatterbox.families.load import load_model
config = TTSConfig(_env_file=None, model=sys.argv[1], data_dir=Path(sys.argv[2]), device="cpu")
loaded = load_model(config, lambda *_: None)
print(f"{time.monotonic() - started:6.1f} s  {'; '.join(loaded.info.notes)}")
"""


def main() -> None:
    """Parse and time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", help="a model's directory, or `mini`")
    parser.add_argument("--starts", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as data:
        for _ in range(given.starts):
            command = [sys.executable, "-c", LOAD, given.directory, data]
            subprocess.run(command, check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
