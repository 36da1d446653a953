"""A server process on the embedded model, with ten thousand stored voices."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from chatterbox.voices.built_in import built_in_voices
from chatterbox.voices.store import (
    META_NAME,
    RECORD_JSON,
    REFERENCE_NAME,
    VoiceRecord,
)

ROOT = Path(__file__).resolve().parents[2]
VOICES = 10_000
STALL_S = 10


def fill(directory: Path) -> None:
    """Store voices registered with another model, which this one must encode."""
    clip = built_in_voices()[0]
    files = {REFERENCE_NAME: clip.sha256}
    for number in range(VOICES):
        voice_id = f"v-{number:020x}"
        record = VoiceRecord(1, voice_id, f"name {number}", (), 1e9 + number, clip.report, files)
        (directory / voice_id).mkdir(parents=True)
        (directory / voice_id / REFERENCE_NAME).write_bytes(clip.clip())
        (directory / voice_id / META_NAME).write_bytes(RECORD_JSON.dump_json(record))


@pytest.mark.slow
def test_f86_server_with_ten_thousand_voices_starts_and_serves(tmp_path):
    fill(tmp_path / "data" / "voices")
    settings = {
        "CHATTERBOX_MODEL": "mini",
        "CHATTERBOX_DATA_DIR": str(tmp_path / "data"),
        "CHATTERBOX_STALL_TIMEOUT_S": str(STALL_S),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "chatterbox", "serve", "--port", "0"]
    log = tmp_path / "log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command,
            env={**os.environ, **settings},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            url = re.search(r"http://\S+", process.stdout.readline())[0]
            with httpx.Client(base_url=url, timeout=120) as client:
                until = time.monotonic() + 120
                while client.get("/health/ready").status_code != 200:
                    assert time.monotonic() < until
                    time.sleep(0.1)
                until = time.monotonic() + 2 * STALL_S
                while time.monotonic() < until:
                    spoken = client.post("/tts", json={"text": "Hello there.", "seed": 1})
                    assert spoken.status_code == 200
                    assert len(client.get("/voices").json()["voices"]) == VOICES + 4
                    time.sleep(0.2)
                memory = psutil.Process(process.pid).memory_info().rss
                assert memory < 1 << 30  # far less than the tensors of ten thousand voices
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
    assert code == 128 + signal.SIGTERM, log.read_text()
