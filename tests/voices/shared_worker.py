"""A server's voices in a process that is killed again and again, beside others on the same store.

Run by `test_shared_crash.py`: registers voices under a few names that the others want too, and
deletes some. Loads everything once and forks, so that each life costs milliseconds.
"""

import os
import random
import select
import signal
import sys
import time
from pathlib import Path

from chatterbox.errors import InvalidVoiceId, StorageUnavailable, VoiceNotFound
from chatterbox.voices.stores import open_store
from voices.clips import babble, encoded, open_library

CLIP = encoded(babble(1.2, rate_hz=8000), rate_hz=8000)
NAMES = ["Anna", "Bert", "Cleo", "Dora"]
CREATED = os.pipe()
LONGEST_S = 30


def say(word: str, voice_id: str) -> None:
    os.write(1, f"{word} {voice_id}\n".encode())
    if word == "created":
        os.write(CREATED[1], b"+")


def live(place: str, data_dir: Path, seed: int) -> None:
    """Work until killed; print a line for each finished step."""
    draw = random.Random(seed)
    library = open_library(data_dir, store=open_store(place, data_dir))
    say("lives", str(seed))
    while True:
        clip = bytearray(CLIP)
        clip[2000:2004] = draw.randbytes(4)  # another recording
        try:
            info, created = library.register(bytes(clip), draw.choice([*NAMES, None]))
            say("created" if created else "known", info.voice_id)
            if draw.random() < 0.7:
                say("deleting", info.voice_id)
                library.delete(info.voice_id)
                say("deleted", info.voice_id)
        except InvalidVoiceId:
            say("refused", "-")
        except (StorageUnavailable, VoiceNotFound) as failure:
            say(type(failure).__name__, "-")


def main() -> None:
    """Start and kill `lives` children, each after a different time. Most have stored a voice by
    then, even on a slow machine."""
    place, data_dir, number, lives = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])
    open_library(data_dir / "rehearsal").register(CLIP)  # to import all modules
    draw = random.Random(number)
    for life in range(lives):
        child = os.fork()
        if child == 0:
            live(place, data_dir, 1000 * number + life)
        if life % 4:
            select.select([CREATED[0]], [], [], LONGEST_S)
        time.sleep(draw.random() / 3)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while select.select([CREATED[0]], [], [], 0)[0]:
            os.read(CREATED[0], 4096)


if __name__ == "__main__":
    main()
