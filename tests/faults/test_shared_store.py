"""Two servers on one store, to which the line is cut."""

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from faults.harness import running
from harness import error_of
from stores import KEY_ID, SECRET, Line, bucket
from voices.clips import babble, encoded

from chatterbox.voices.sandbox import AudioDecoder

CLIPS = [
    {"voice_file": (f"{seed}.wav", encoded(babble(2, rate_hz=8000, seed=seed), rate_hz=8000))}
    for seed in range(2)
]


async def register(rig, clip: int, name: str):
    return await rig.client.post("/voices/register", files=CLIPS[clip], data={"name": name})


@pytest.mark.slow
async def test_f118_a_line_that_is_cut_stops_no_voice_that_is_known(
    tmp_path, s3, monkeypatch, caplog
):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("chatterbox.voices.library.guarded_decoder", AudioDecoder)
    monkeypatch.setattr("chatterbox.voices.stores.POLL_S", 0.1)
    monkeypatch.setattr("chatterbox.server.model_pool.PAUSE_S", 0.2)
    monkeypatch.setattr("chatterbox.voices.blobs.RETRIES", 0)
    with Line(s3) as line:
        shared = {"voices": bucket(s3, monkeypatch, through=line.address)}
        async with (
            running(tmp_path / "1", engine=shared) as one,
            running(tmp_path / "2", engine=shared) as other,
        ):
            await register(one, 0, "Anna")
            assert (await other.speak(voice_id="anna")).status_code == 200  # at once
            assert (await one.speak(voice_id="anna")).status_code == 200

            line.requests = 0
            made_up = [other.speak(voice_id=f"nobody {n}") for n in range(40)]
            for answer in await asyncio.gather(*made_up):
                error_of(answer, 404, "voice_not_found", "voice_id")
            assert line.requests < 20

            line.cut()
            refused = await register(one, 1, "Bert")
            error_of(refused, 503, "storage_unavailable")
            assert "retry-after" in refused.headers
            error_of(await one.client.delete("/voices/anna"), 503, "storage_unavailable")
            error_of(await other.speak(voice_id="bert"), 503, "storage_unavailable")
            for rig in (one, other):
                assert (await rig.speak(voice_id="anna")).status_code == 200

            line.mend()
            while (await register(one, 1, "Bert")).status_code == 503:
                await asyncio.sleep(0.05)
            await other.until(lambda: "Bert" in {i.name for i in other.engine.voices.list()})
            assert (await other.client.delete("/voices/anna")).status_code == 200
            await one.until(lambda: "Anna" not in {i.name for i in one.engine.voices.list()})
            error_of(await one.speak(voice_id="anna"), 404, "voice_not_found", "voice_id")
            health = (await one.client.get("/health")).text
    assert "cannot be reached" in caplog.text
    for seen in (caplog.text, health, refused.text):
        assert SECRET not in seen
        assert KEY_ID not in seen


@pytest.mark.slow
@pytest.mark.parametrize(
    "voices", ["s3://bucket/voices", "/no/such/folder", "sftp://a:b@127.0.0.1"]
)
def test_f118_a_store_that_cannot_be_used_ends_the_start(tmp_path, voices):
    settings = {
        "CHATTERBOX_VOICES": voices,
        "CHATTERBOX_DATA_DIR": str(tmp_path),
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }
    ended = subprocess.run(
        [sys.executable, "-m", "chatterbox", "serve", "--port", "0", "--model", "mini"],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("chatterbox: CHATTERBOX_VOICES=")
    assert not any(secret in line for secret in (SECRET, KEY_ID, "a:b"))
