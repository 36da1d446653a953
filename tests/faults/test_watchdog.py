"""The watchdog by itself: F46 where not even the event loop can end the process, F40."""

import threading

from chatterbox.engine.pulse import Pulse
from chatterbox.errors import EXIT_STALLED
from chatterbox.server.watchdog import Watchdog

SOON_S = 0.06


def watched(pulses: list[Pulse], **more) -> tuple[Watchdog, list[str], list[int], threading.Event]:
    told: list[str] = []
    left: list[int] = []
    gone = threading.Event()

    def leave(code: int) -> None:
        left.append(code)
        gone.set()

    dog = Watchdog(lambda: pulses, SOON_S, told.append, leave=leave, **more)
    dog.start()
    return dog, told, left, gone


def test_f46_an_event_loop_that_hangs(capfd):
    pulse = Pulse("event loop")
    pulse.beat()
    _, told, left, gone = watched([pulse], last_resort_s=SOON_S)
    assert gone.wait(10)
    assert (told, left) == (["event loop"], [EXIT_STALLED])
    assert "most recent call first" in capfd.readouterr().err


def test_f46_whoever_was_told_ends_the_process_in_time():
    pulse, dogs = Pulse("engine"), []
    pulse.beat()
    told = threading.Event()
    left: list[int] = []

    def stalled(_name: str) -> None:
        dogs[0].stop()
        told.set()

    dogs.append(Watchdog(lambda: [pulse], SOON_S, stalled, last_resort_s=60, leave=left.append))
    dogs[0].start()
    assert told.wait(10)
    dogs[0]._thread.join(10)
    assert left == []


def test_f47_what_rests_or_gets_on_is_left_alone():
    resting, busy = Pulse("decoder"), Pulse("engine")
    dog, told, left, gone = watched([resting, busy])
    for _ in range(60):
        busy.beat()
        assert not gone.wait(SOON_S / 30)
    dog.stop()
    dog._thread.join(10)
    assert (told, left) == ([], [])
