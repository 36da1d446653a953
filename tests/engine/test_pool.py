"""The pool that always takes the most urgent work first."""

import threading

import pytest

from chatterbox.engine.threads import PriorityPool


def test_urgent_work_goes_first_and_equals_in_order():
    pool = PriorityPool(1, "test")
    gate, order = threading.Event(), []
    pool.submit(gate.wait)
    last = [pool.submit(order.append, name) for name in ("b", "c")]
    urgent = [pool.submit_urgent(order.append, name) for name in ("a", "a2")]
    for future in urgent:
        future.result(timeout=60)
    gate.set()
    for future in last:
        future.result(timeout=60)
    assert order == ["a", "a2", "b", "c"]
    pool.close()


def test_urgent_work_waits_for_no_other():
    pool = PriorityPool(2, "test")
    gate = threading.Event()
    slow = [pool.submit(gate.wait) for _ in range(5)]
    assert [pool.submit_urgent(int, "7").result(timeout=60) for _ in range(3)] == [7] * 3
    assert not any(future.done() for future in slow)
    gate.set()
    assert all(future.result(timeout=60) for future in slow)
    pool.close()


def test_results_and_faults_reach_the_future():
    pool = PriorityPool(2, "test")
    assert pool.submit(int, "7").result(timeout=60) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        pool.submit(int, "x").result(timeout=60)
    pool.close()


def test_once_closed_it_begins_nothing_and_finishes_what_it_has_begun():
    pool = PriorityPool(1, "test")
    begun, gate, done = threading.Event(), threading.Event(), []
    first = pool.submit(lambda: (begun.set(), gate.wait()))
    assert begun.wait(60)
    pool.submit(done.append, 1)
    pool.close()
    gate.set()
    pool.join(60)
    assert first.done()
    assert done == []
    with pytest.raises(RuntimeError):
        pool.submit(int)
