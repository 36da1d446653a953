"""The decode child: if it fails, the caller gets a refusal and the next file is decoded."""

import os
import subprocess
import sys
import threading
from subprocess import Popen

import numpy as np
import psutil
import pytest

from chatterbox.config.sources import environment_for_child
from chatterbox.errors import AudioTooLong, Draining, UnreadableAudio, UnsupportedAudio
from chatterbox.voices import decode_child
from chatterbox.voices.audio_file import decode_audio
from chatterbox.voices.sandbox import (
    CHILD_PROGRAM,
    AudioDecoder,
    SandboxedDecoder,
    guarded_decoder,
)

from .clips import babble, encoded, muxed
from .hostile import HOSTILE

GOOD = encoded(babble(1.5, 44_100), "FLAC", None, 44_100)


@pytest.fixture
def child():
    decoder = SandboxedDecoder(wall_s=120)
    yield decoder
    decoder.close()


@pytest.fixture(scope="module")
def hostile():
    decoder = SandboxedDecoder(program=HOSTILE)
    yield decoder
    decoder.close()


def gone(pid: int) -> bool:
    """Whether the process has exited and was reaped."""
    return not psutil.pid_exists(pid)


def test_it_decodes_as_this_process_does(child):
    for data in (GOOD, encoded(babble(1)), muxed(babble(1, 48_000), "ipod", "aac")):
        far, near = child.decode(data, max_seconds=10), decode_audio(data, max_seconds=10)
        assert np.array_equal(far.audio, near.audio)
        assert (far.duration_s, far.sample_rate_hz, far.channels, far.peak, far.clipped_share) == (
            *(near.duration_s, near.sample_rate_hz, near.channels, near.peak),
            near.clipped_share,
        )


def test_it_starts_at_the_first_file_and_stays(child):
    assert child.pid is None
    child.decode(GOOD, max_seconds=10)
    pid = child.pid
    child.decode(GOOD, max_seconds=10)
    assert child.pid == pid is not None
    child.close()
    assert child.pid is None
    assert gone(pid)
    with pytest.raises(Draining):
        child.decode(GOOD, max_seconds=10)


def test_refusals_come_through_and_the_child_lives(child):
    with pytest.raises(UnsupportedAudio, match="not supported"):
        child.decode(b"text", max_seconds=10)
    pid = child.pid
    with pytest.raises(AudioTooLong, match="longer than 1 s"):
        child.decode(GOOD, max_seconds=1)
    assert child.pid == pid


@pytest.mark.parametrize(
    "bad",
    [
        "time.sleep(60)",
        "os.kill(os.getpid(), signal.SIGSEGV)",
        "bytearray(8 << 30)",
        "while True: pass",
        "1 / 0",
        "open('/dev/null')",
        "socket.socket()",
        "[os.write(out, b'junk' * 100) for out in range(3, 6)]",
    ],
)
def test_a_file_that_kills_the_decoder_costs_one_child(hostile, monkeypatch, bad):
    hostile.decode(GOOD, max_seconds=10)
    first = hostile.pid
    with monkeypatch.context() as patch:
        if "sleep" in bad:
            patch.setattr(hostile, "wall_s", 0.2)
        with pytest.raises(UnreadableAudio):
            hostile.decode(b"BAD!" + bad.encode(), max_seconds=10)
    assert gone(first)
    assert hostile.decode(GOOD, max_seconds=10).duration_s == 1.5
    assert hostile.pid not in (first, None)


def test_a_child_that_died_between_files_is_replaced(child):
    child.decode(GOOD, max_seconds=10)
    process = psutil.Process(child.pid)
    process.kill()
    psutil.wait_procs([process], timeout=60)
    assert child.decode(GOOD, max_seconds=10).duration_s == 1.5


def test_a_child_that_cannot_start_is_a_refusal():
    decoder = SandboxedDecoder(program="raise SystemExit(1)")
    with pytest.raises(UnreadableAudio):
        decoder.decode(GOOD, max_seconds=10)
    decoder.close()


def test_the_child_is_given_no_secret(monkeypatch):
    secrets = ("CHATTERBOX_API_KEYS", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DATABASE_URL", "HOME")
    for name in (*secrets, "NOTIFY_SOCKET", "PYTHONPATH", "LD_PRELOAD_SECRET"):
        monkeypatch.setenv(name, "a-secret")
    given = environment_for_child()
    started = []
    monkeypatch.setattr(
        "chatterbox.voices.sandbox.subprocess.Popen",
        lambda *words, **how: started.append(how) or Popen(*words, **how),
    )
    decoder = SandboxedDecoder()
    assert decoder.decode(GOOD, max_seconds=10)
    decoder.close()
    assert [how["env"] for how in started] == [given]
    assert "PATH" in given
    assert "a-secret" not in given.values()


def test_it_is_bounded(child):
    child.decode(GOOD, max_seconds=10)
    process = psutil.Process(child.pid)
    assert process.rlimit(psutil.RLIMIT_AS) == (1 << 30, 1 << 30)
    assert process.rlimit(psutil.RLIMIT_NOFILE) == (0, 0)
    assert process.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
    assert process.rlimit(psutil.RLIMIT_CPU)[0] <= 13


def test_many_threads_share_the_child(child):
    results = []

    def decode(seconds: int) -> None:
        data = encoded(babble(seconds))
        results.append((seconds, child.decode(data, max_seconds=10).duration_s))

    threads = [threading.Thread(target=decode, args=(1 + i % 4,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 12
    assert all(asked == got for asked, got in results)


def test_closing_while_a_file_is_decoded_ends_it(asked):
    decoder = SandboxedDecoder(program=HOSTILE)
    decoder.decode(GOOD, max_seconds=10)
    asked.clear()
    outcome = []

    def decode() -> None:
        try:
            decoder.decode(b"BAD!time.sleep(60)", max_seconds=10)
        except Draining as refusal:  # not an error of the file
            outcome.append(refusal)

    thread = threading.Thread(target=decode)
    thread.start()
    assert asked.wait(60)
    decoder.close()
    thread.join(60)
    assert len(outcome) == 1


def test_the_child_ends_with_its_server():
    """The child exits when its pipe closes, as it does when the server is killed."""
    requests = subprocess.Popen(
        [sys.executable, "-I", "-c", CHILD_PROGRAM, *sys.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert requests.stdin is not None
    assert requests.stdout is not None
    with requests.stdout:
        requests.stdin.close()
        assert requests.wait(60) == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"short",
        decode_child.ANSWER.pack(1 << 31, 0),
        decode_child.ANSWER.pack(2, 1 << 60) + b"{}",
        decode_child.ANSWER.pack(2, 0) + b"{}",
        decode_child.ANSWER.pack(2, 0) + b"[]",
        decode_child.ANSWER.pack(4, 0) + b"null",
        decode_child.ANSWER.pack(60_000, 0) + b"[" * 60_000,
        decode_child.ANSWER.pack(21, 0) + b'{"code":"no_such_one"}'[:21],
        decode_child.ANSWER.pack(30, 0) + b'{"code":"other","message":"x"}',
    ],
)
def test_invalid_answers_of_the_child_are_detected(answer):
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as out:
        out.write(answer)
    with os.fdopen(reader, "rb") as stream, pytest.raises(decode_child.BrokenChannel):
        decode_child.read_answer(stream, 10)


def test_samples_of_the_child_are_checked():
    decoded = decode_audio(GOOD, max_seconds=10)
    decoded.audio[7] = np.nan
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as out:
        threading.Thread(target=decode_child.write_answer, args=(out, decoded)).start()
        with os.fdopen(reader, "rb") as stream, pytest.raises(decode_child.BrokenChannel):
            decode_child.read_answer(stream, 10)


def test_windows_decodes_in_process(monkeypatch):
    assert isinstance(guarded_decoder(), SandboxedDecoder)
    monkeypatch.setattr(sys, "platform", "win32")
    decoder = guarded_decoder()
    assert type(decoder) is AudioDecoder
    assert decoder.decode(GOOD, max_seconds=10).duration_s == 1.5
    decoder.close()
