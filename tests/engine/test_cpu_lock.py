"""Language model and decoder compute one at a time, the decoder first."""

import threading
from contextlib import suppress

from chatterbox.engine.threads import CpuLock

PATIENCE_S = 60


class Worker(threading.Thread):
    """Takes one turn, and ends it when told to."""

    def __init__(self, turn, log: list[str], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._turn, self._log = turn, log
        self.inside, self.leave = threading.Event(), threading.Event()

    def run(self) -> None:
        with self._turn:
            self._log.append(self.name)
            self.inside.set()
            assert self.leave.wait(PATIENCE_S)


def wait_until_the_decoder_asks(cpu: CpuLock) -> None:
    for _ in range(1000):
        if "decoder" in cpu.waiting:
            return
        threading.Event().wait(0.001)
    raise AssertionError("the decoder never asked")


def test_a_decode_waits_for_the_step_and_goes_before_the_next():
    cpu, log = CpuLock(shared=True), []
    step = Worker(cpu.for_model, log, "step")
    step.start()
    assert step.inside.wait(PATIENCE_S)
    decode, another = Worker(cpu.for_decoder, log, "decode"), Worker(cpu.for_model, log, "another")
    decode.start()
    wait_until_the_decoder_asks(cpu)
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
    cpu, log = CpuLock(shared=False), []
    both = [Worker(cpu.for_model, log, "step"), Worker(cpu.for_decoder, log, "decode")]
    for worker in both:
        worker.start()
    for worker in both:
        assert worker.inside.wait(PATIENCE_S), "both are inside"
        worker.leave.set()
        worker.join(PATIENCE_S)


def test_a_fault_ends_the_turn():
    cpu = CpuLock(shared=True)
    for turn in (cpu.for_model, cpu.for_decoder):
        with suppress(RuntimeError), turn:
            raise RuntimeError
    with cpu.for_model:
        pass
