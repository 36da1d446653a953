"""Measures the time from a server's start to readiness, by the number of voices on disk.

    python tools/bench_start.py --voices 4,10000 --rounds 3
    python tools/bench_start.py --model FULL --flag model-dtype=q4 --rounds 2

The first start compiles the model and is told apart; the others find it compiled.
"""

import argparse
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

LONGEST_S = 600.0
STEP_S = 0.02


def start_s(model: str, data_dir: Path, flags: list[str]) -> float:
    """Seconds until a new server is ready; it is stopped again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "chatterbox", "serve", "--model", model, "--port", str(port)]
    words += ["--data-dir", str(data_dir), "--max-voices", "100000", "--log-level", "warning"]
    began_s = time.monotonic()
    process = subprocess.Popen([*words, *flags], stdout=subprocess.DEVNULL)
    try:
        while time.monotonic() < began_s + LONGEST_S and process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready"):
                    return time.monotonic() - began_s
            except OSError:  # not there yet, or 503
                time.sleep(STEP_S)
        raise SystemExit("the server did not become ready; its last lines say why")
    finally:
        process.terminate()
        process.wait()


def write_voices(voices: Path, count: int) -> None:
    """As many as `count` in all, each with the record of a voice that is there."""
    there = sorted(path for path in voices.iterdir() if (path / "meta.json").is_file())
    record = json.loads((there[0] / "meta.json").read_text(encoding="utf-8"))
    for number in range(count - len(there)):
        name = f"v-{number:06d}"
        (voices / name).mkdir()
        own = record | {"voice_id": name, "name": name, "aliases": []}
        own["files"] = {"reference.flac": "0" * 64}
        (voices / name / "meta.json").write_text(json.dumps(own), encoding="utf-8")
        (voices / name / "reference.flac").write_bytes(b"-")


def main() -> None:
    """Print a row for each number of voices."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--voices", default="4", help="numbers of voices on disk: 4,10000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--flag", action="append", default=[], metavar="NAME=VALUE")
    wanted = parser.parse_args()
    flags = [f"--{flag}" for flag in wanted.flag]
    with tempfile.TemporaryDirectory() as made:
        first = Path(made) / "first"
        print(f"first start: {start_s(wanted.model, first, flags):.2f} s", flush=True)
        folders = {}
        for count in map(int, wanted.voices.split(",")):
            folders[count] = shutil.copytree(first, Path(made) / str(count))
            write_voices(folders[count] / "voices", count)
        took: dict[int, list[float]] = {count: [] for count in folders}
        for _ in range(wanted.rounds):  # in turn
            for count, folder in folders.items():
                took[count].append(start_s(wanted.model, folder, flags))
    print("| voices | seconds to readiness, median | least | most |\n|---|---|---|---|")
    for count, seconds in took.items():
        middle = statistics.median(seconds)
        print(f"| {count} | {middle:.2f} | {min(seconds):.2f} | {max(seconds):.2f} |")


if __name__ == "__main__":
    main()
