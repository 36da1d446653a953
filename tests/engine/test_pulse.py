"""A thread that stands still is found, one that rests or works is not."""

from chatterbox.engine.pulse import Pulse, Watch


def looks(watch: Watch, pulse: Pulse, count: int) -> list[str | None]:
    return [watch.look([pulse]) for _ in range(count)]


def test_standing_still_is_found_after_so_many_looks():
    pulse, watch = Pulse("engine"), Watch(3)
    pulse.beat()
    assert looks(watch, pulse, 4) == [None, None, None, "engine"]


def test_resting_and_getting_on_are_not():
    pulse, watch = Pulse("engine"), Watch(3)
    assert looks(watch, pulse, 9) == [None] * 9
    for _ in range(9):
        pulse.beat()
        assert looks(watch, pulse, 2) == [None, None]
    pulse.rest()
    assert looks(watch, pulse, 9) == [None] * 9


def test_who_comes_later_is_watched_from_then_on():
    first, second, watch = Pulse("engine"), Pulse("speech encoder"), Watch(2)
    second.beat()
    assert [watch.look([first]) for _ in range(5)] == [None] * 5
    assert [watch.look([first, second]) for _ in range(3)] == [None, None, "speech encoder"]
