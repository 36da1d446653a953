"""Do language model and decoder compute one at a time, the decoder first?"""

import threading
from contextlib import suppress

from chatterbox.engine.turns import Turns

PATIENCE_S = 10


class Worker(threading.Thread):
    """Takes one turn, and ends it when told to."""

    def __init__(self, turn, log: list[str], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._turn, self._log = turn, log
        self.inside, self.leave = threading.Event(), threading.Event()

    def run(self) -> None:
        with self._turn():
            self._log.append(self.name)
            self.inside.set()
            assert self.leave.wait(PATIENCE_S)


def wait_until_the_decoder_asks(turns: Turns) -> None:
    for _ in range(1000):
        if turns._decoder_waits:
            return
        threading.Event().wait(0.001)
    raise AssertionError("the decoder never asked")


def test_a_decode_waits_for_the_step_and_goes_before_the_next():
    turns, log = Turns(shared=True), []
    step = Worker(turns.model, log, "step")
    step.start()
    assert step.inside.wait(PATIENCE_S)
    decode, another = Worker(turns.decoder, log, "decode"), Worker(turns.model, log, "another")
    decode.start()
    wait_until_the_decoder_asks(turns)
    another.start()
    assert not decode.inside.is_set()
    step.leave.set()
    assert decode.inside.wait(PATIENCE_S)
    assert not another.inside.is_set()
    for worker in (decode, another):
        worker.leave.set()
        worker.join(PATIENCE_S)
    assert log == ["step", "decode", "another"]


def test_on_a_gpu_nobody_waits():
    turns, log = Turns(shared=False), []
    both = [Worker(turns.model, log, "step"), Worker(turns.decoder, log, "decode")]
    for worker in both:
        worker.start()
    for worker in both:
        assert worker.inside.wait(PATIENCE_S), "both are inside"
        worker.leave.set()
        worker.join(PATIENCE_S)


def test_a_fault_ends_the_turn():
    turns = Turns(shared=True)
    for turn in (turns.model, turns.decoder):
        with suppress(RuntimeError), turn():
            raise RuntimeError
    with turns.model():
        pass


def test_how_long_a_step_took_is_known_where_cores_are_shared():
    shared, alone = Turns(shared=True), Turns(shared=False)
    for turns in (shared, alone):
        assert turns.step_s == 0.0
        turns.stepped(0.01)
    assert shared.step_s == 0.01
    assert alone.step_s == 0.0
