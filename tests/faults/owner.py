"""A client that registers and deletes voices while the server is killed, and checks the result."""

import threading
import time
from pathlib import Path

import httpx
import numpy as np
from voices.clips import babble, encoded

from chatterbox.voices.folder_store import FolderStore
from chatterbox.voices.store import VoiceRecord


class Owner:
    """A client that registers and deletes voices, and remembers what was acknowledged."""

    def __init__(self) -> None:
        self.clips = [
            encoded(babble(1.2, rate_hz=8000, seed=seed) * np.float32(0.9), rate_hz=8000)
            for seed in range(7)
        ]
        self.there: set[str] = set()  # acknowledged
        self.maybe: set[str] = set()  # asked for when the line went dead
        self.gone: set[str] = set()
        self.acknowledged = 0
        self.number = 0
        self.right: dict[str, VoiceRecord] = {}  # whose files were read, and had their hashes

    def work(self, url: str, stop: threading.Event) -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not stop.is_set():
                self.number += 1
                try:
                    self._one(client, self.number)
                except httpx.TransportError:
                    return

    def _one(self, client: httpx.Client, number: int) -> None:
        # Bytes behind the end change nothing, a sample does: every clip is a new voice.
        clip = bytearray(self.clips[number % len(self.clips)])
        clip[2000:2004] = number.to_bytes(4, "little")
        answer = client.post("/voices/register", files={"voice_file": ("a.wav", bytes(clip))})
        if answer.status_code == 503:  # not ready yet
            time.sleep(0.01)
            return
        assert answer.status_code in (200, 201), answer.text
        voice = answer.json()["voice_id"]
        self.gone.discard(voice)
        self.there.add(voice)
        self.acknowledged += answer.status_code == 201
        if number % 2:
            self.there.discard(voice)
            self.maybe.add(voice)
            deleted = client.delete(f"/voices/{voice}")
            assert deleted.status_code in (200, 204), deleted.text
            self.maybe.discard(voice)
            self.gone.add(voice)

    def check(self, directory: Path, *, wholly: bool = False) -> None:
        """Check the voices that a restart finds. `wholly` also reads files that an earlier check
        found to be right; the last check does that."""
        store = FolderStore(directory / "voices")
        store.prepare()
        records, skipped = store.scan()
        assert skipped == []
        for record in records:
            if wholly or self.right.get(record.voice_id) != record:
                for name in record.files:
                    store.read(record, name)  # its hash is right
        self.right = {record.voice_id: record for record in records}
        found = {record.voice_id for record in records}
        assert self.there <= found, "an acknowledged voice is lost"
        assert not self.gone & found, "a deleted voice is back"
        assert not [p for p in (directory / "voices").iterdir() if p.name.startswith(".")]
