"""Fixed shapes for captured steps: the right bucket, and never one bucket with two shapes."""

import pytest

from chatterbox.runtime.cuda_graphs import GRAPH_ID_KEY, NO_CAPTURE, Buckets, bucket_sizes, round_up


@pytest.mark.parametrize(
    ("slots", "sizes"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))]
)
def test_sizes_double_up_to_the_slots(slots, sizes):
    assert bucket_sizes(slots) == sizes


def test_the_smallest_bucket_that_holds_the_rows_is_taken():
    buckets = Buckets(6, capture=False)
    assert [round_up(buckets.sizes, n) for n in range(1, 7)] == [1, 2, 4, 4, 6, 6]


def test_a_bucket_that_comes_back_with_another_address_is_a_bug():
    buckets = Buckets(4, capture=True)
    first = ((1000, (2, 1, 8)),)
    buckets.options(2, first)
    buckets.options(2, first)
    with pytest.raises(AssertionError, match="bucket 2"):
        buckets.options(2, ((2000, (2, 1, 8)),))
    with pytest.raises(AssertionError, match="bucket 2"):
        buckets.options(2, ((1000, (4, 1, 8)),))


def test_each_bucket_has_its_own_graph_and_a_prefill_none():
    buckets = Buckets(4, capture=True)
    ids = [buckets.options(n, (n,)).get_run_config_entry(GRAPH_ID_KEY) for n in buckets.sizes]
    assert len(set(ids)) == len(buckets.sizes)
    assert buckets.uncaptured.get_run_config_entry(GRAPH_ID_KEY) == NO_CAPTURE


def test_without_capture_nothing_is_asked_of_the_runtime():
    buckets = Buckets(4, capture=False)
    assert buckets.options(4, ()) is None
    assert buckets.uncaptured is None
