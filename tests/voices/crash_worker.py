"""Registers and deletes voices in a loop, and prints each finished step, until it is killed.

Run by `test_crash.py`. Loads everything once and forks, so that each life costs milliseconds.
"""

import itertools
import os
import signal
import sys
import time
from pathlib import Path

from chatterbox.voices.folder_store import FolderStore
from chatterbox.voices.reference import ReferenceReport
from chatterbox.voices.store import SCHEMA, VoiceRecord

REPORT = ReferenceReport(5, 0, 5, -20.5, 0.5, 0, 0.1, 24_000, ())
DATA = os.urandom(200_000)
CREATED = os.pipe()


def live(directory: Path, life: int) -> None:
    """Work until killed; print a line for each finished step."""
    store = FolderStore(directory)
    store.prepare()
    for number in itertools.count():
        voice_id = f"v-{os.getppid()}-{life}-{number}"
        record = VoiceRecord(SCHEMA, voice_id, voice_id, (), 1.0, REPORT, {})
        with store.exclusive():
            stored = store.create(record, {"reference.flac": DATA})
        os.write(1, f"created {voice_id}\n".encode())
        os.write(CREATED[1], b"+")
        with store.exclusive():
            store.add_file(stored, "encoded-m.safetensors", DATA)
        if number % 2:
            os.write(1, f"deleting {voice_id}\n".encode())
            with store.exclusive():
                store.delete(voice_id)
            os.write(1, f"deleted {voice_id}\n".encode())


def main() -> None:
    """Start and kill `lives` children, each after a different time."""
    directory, lives = Path(sys.argv[1]), int(sys.argv[2])
    for life in range(lives):
        child = os.fork()
        if child == 0:
            live(directory, life)
        if life % 3:  # most children have stored a voice by then
            os.read(CREATED[0], 1)
        time.sleep(0.03 * (life % 7))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
