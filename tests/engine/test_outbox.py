"""The mailbox between the threads that make audio and the one that reads it."""

import numpy as np

from chatterbox.engine.sequence import CAPACITY_SAMPLES, Outbox, SegmentEnd
from chatterbox.errors import GenerationFailed

END = SegmentEnd((1, 2), "stop")


def test_pieces_in_order_then_the_end_for_ever():
    outbox = Outbox()
    assert outbox.take() is None
    outbox.put(np.zeros(2, np.float32))
    outbox.put(np.ones(3, np.float32))
    outbox.end(END)
    assert [len(outbox.take()), len(outbox.take())] == [2, 3]
    assert outbox.take() is END
    assert outbox.take() is END


def test_the_end_is_not_lost_when_full_and_the_first_one_stands():
    outbox = Outbox()
    outbox.put(np.zeros(CAPACITY_SAMPLES, np.float32))
    assert outbox.full
    outbox.end(END)
    outbox.end(GenerationFailed("late"))
    assert len(outbox.take()) == CAPACITY_SAMPLES
    assert not outbox.full
    assert outbox.take() is END


def test_a_closed_outbox_holds_nothing():
    outbox = Outbox()
    outbox.put(np.zeros(9, np.float32))
    outbox.close()
    outbox.put(np.zeros(9, np.float32))
    assert outbox.closed
    assert outbox.take() is None


def test_the_listener_hears_of_everything_new():
    heard = []
    outbox = Outbox(lambda: heard.append(1))
    outbox.put(np.zeros(1, np.float32))
    outbox.end(END)
    assert len(heard) == 2
