"""Fault table, F46, F47 and F109: the watchdog by itself."""

import subprocess
import sys
import threading
import time

import pytest
from harness import ended

from chatterbox.engine.threads import Heartbeat
from chatterbox.errors import EXIT_STALLED
from chatterbox.server.watchdog import LOOKS, Watchdog

SOON_S = 0.06


def watched(
    heartbeats: list[Heartbeat], **more
) -> tuple[Watchdog, list[str], list[int], threading.Event]:
    told: list[str] = []
    left: list[int] = []
    gone = threading.Event()

    def leave(code: int) -> None:
        left.append(code)
        gone.set()

    dog = Watchdog(lambda: heartbeats, SOON_S, told.append, leave=leave, **more)
    dog.start()
    return dog, told, left, gone


def test_f46_hanging_event_loop(capfd):
    heartbeat = Heartbeat("event loop")
    heartbeat.beat()
    _, told, left, gone = watched([heartbeat], last_resort_s=SOON_S)
    assert gone.wait(60)
    assert (told, left) == (["event loop"], [EXIT_STALLED])
    assert "most recent call first" in capfd.readouterr().err


def test_f46_watchdog_waits_for_an_orderly_end():
    heartbeat, dogs = Heartbeat("engine"), []
    heartbeat.beat()
    told = threading.Event()
    left: list[int] = []

    def stalled(_name: str) -> None:
        dogs[0].stop()
        told.set()

    dogs.append(Watchdog(lambda: [heartbeat], SOON_S, stalled, last_resort_s=60, leave=left.append))
    dogs[0].start()
    assert told.wait(60)
    assert ended("watchdog")
    assert left == []


def test_f47_idle_or_working_threads_are_left_alone():
    resting, busy, looks = Heartbeat("decoder"), Heartbeat("engine"), threading.Semaphore(0)

    def on_look() -> None:
        busy.beat()
        looks.release()

    dog, told, left, gone = watched([resting, busy], on_look=on_look)
    for _ in range(2 * LOOKS):
        assert looks.acquire(timeout=60)
    dog.stop()
    assert ended("watchdog")
    assert (told, left, gone.is_set()) == ([], [], False)


HELD = """
import ctypes, re, sys, time
from chatterbox.engine.threads import Heartbeat
from chatterbox.server.watchdog import Watchdog

heartbeat = Heartbeat("event loop")
dog = Watchdog(
    lambda: [heartbeat], 0.3, print, use_timer=True, last_resort_s=1.5, leave=print
)
dog.start()
time.sleep(0.2)
{hold}
print("let go")
"""


def held(hold: str) -> subprocess.CompletedProcess[str]:
    """Run a process with a watchdog whose main thread executes `hold`."""
    program = [sys.executable, "-c", HELD.format(hold=hold)]
    return subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(
    "hold",
    [
        "ctypes.PyDLL(None).sleep(40)",
        'heartbeat.beat(); re.fullmatch("(a|a?)+$", "a" * 40 + "b")',
        "sum(range(10**11))",
    ],
)
def test_f109_process_that_holds_the_interpreter_lock_is_ended(hold):
    began_at = time.monotonic()
    done = held(hold)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Timeout (0:00:01.8" in done.stderr
    assert 'File "<string>", line 12' in done.stderr  # the stacks
    assert time.monotonic() - began_at < 30


def test_f109_short_hold_of_the_lock_is_left_alone():
    stay = "for _ in range(15): ctypes.PyDLL(None).usleep(100_000); time.sleep(0.05)"
    done = held(stay + "\ndog.stop(); time.sleep(0.2)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "let go\n", "")


def test_every_check_is_reported_to_the_service_manager():
    heartbeat, looks = Heartbeat("engine"), threading.Semaphore(0)
    dog, _, _, gone = watched([heartbeat], on_look=looks.release)
    for _ in range(20):
        assert looks.acquire(timeout=60)
    dog.stop()
    assert ended("watchdog")
    assert not gone.is_set()
