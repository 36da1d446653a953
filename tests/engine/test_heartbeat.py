"""A thread that stands still is found, one that rests or works is not."""

from chatterbox.engine.heartbeat import Heartbeat, Watch


def looks(watch: Watch, heartbeat: Heartbeat, count: int) -> list[str | None]:
    return [watch.look([heartbeat]) for _ in range(count)]


def test_standing_still_is_found_after_so_many_looks():
    heartbeat, watch = Heartbeat("engine"), Watch(3)
    heartbeat.beat()
    assert looks(watch, heartbeat, 4) == [None, None, None, "engine"]


def test_resting_and_getting_on_are_not():
    heartbeat, watch = Heartbeat("engine"), Watch(3)
    assert looks(watch, heartbeat, 9) == [None] * 9
    for _ in range(9):
        heartbeat.beat()
        assert looks(watch, heartbeat, 2) == [None, None]
    heartbeat.idle()
    assert looks(watch, heartbeat, 9) == [None] * 9


def test_who_comes_later_is_watched_from_then_on():
    first, second, watch = Heartbeat("engine"), Heartbeat("speech encoder"), Watch(2)
    second.beat()
    assert [watch.look([first]) for _ in range(5)] == [None] * 5
    assert [watch.look([first, second]) for _ in range(3)] == [None, None, "speech encoder"]
