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


def test_urgent_work_waits_for_no_other():
    pool = PriorityPool(2, "test")
    gate = threading.Event()
    slow = [pool.submit(gate.wait) for _ in range(5)]
    assert [pool.submit_at(URGENT, int, "7").result(timeout=5) for _ in range(3)] == [7] * 3
    assert not any(future.done() for future in slow)
    gate.set()
    pool.shutdown(wait=True)
    assert all(future.done() for future in slow)


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
