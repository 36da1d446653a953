"""The pool that always takes the most urgent work first."""

import threading

import pytest

from chatterbox.engine.pool import LAST, NORMAL, URGENT, PriorityPool


def test_urgent_work_goes_first_and_equals_in_order():
    pool = PriorityPool(1, "test")
    gate, order = threading.Event(), []
    pool.submit(gate.wait)
    for name, priority in [("c", LAST), ("b", NORMAL), ("a", URGENT), ("a2", URGENT)]:
        pool.submit_at(priority, order.append, name)
    gate.set()
    pool.shutdown(wait=True)
    assert order == ["a", "a2", "b", "c"]


def test_results_and_faults_reach_the_future():
    pool = PriorityPool(2, "test")
    assert pool.submit(int, "7").result(timeout=5) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        pool.submit(int, "x").result(timeout=5)
    pool.shutdown()


def test_shutdown_drops_what_is_queued_when_asked():
    pool = PriorityPool(1, "test")
    gate, done = threading.Event(), []
    pool.submit(gate.wait)
    pool.submit(done.append, 1)
    pool.shutdown(wait=False, cancel_futures=True)
    gate.set()
    pool.shutdown(wait=True)
    assert done == []
    with pytest.raises(RuntimeError):
        pool.submit(int)
