"""Windows cover every code once, and their joined samples equal the whole decode.

Knows no real decoder: a fake one whose samples depend on nearby codes alone.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from fakes import window_settings
from hypothesis import given
from hypothesis import strategies as st

from chatterbox.arrays import F32, I64
from chatterbox.engine.vocoder_stream import Crossfader
from chatterbox.engine.windows import DecodeCost, Windows, WindowSettings
from chatterbox.families.base import Window
from chatterbox.runtime.decoder.s3gen import SAMPLES_PER_CODE, SILENCE_CODE, TAIL_SILENCE_CODES

QUICK = DecodeCost(fixed_s=0.02, per_frame_s=0.001)
SLOW = DecodeCost(fixed_s=0.3, per_frame_s=0.01)
SETTINGS = window_settings(look_ahead_frames=3)
FOREVER = math.inf

any_size_st = st.builds(
    window_settings,
    look_ahead_frames=st.integers(0, 4),
    left_context_frames=st.integers(4, 40),  # a blended code, a muted one, two heard behind it
    first_least_frames=st.integers(1, 4),
    first_most_frames=st.integers(4, 10),
    most_frames=st.integers(10, 90),
    cross_fade_ms=st.integers(0, 20),
)


def in_sizes(settings: WindowSettings, between: list[int]) -> WindowSettings:
    """The same with few sizes of windows, some of them `between` the bounds."""
    bounds = settings.first_most_frames, settings.most_frames
    sizes = {*bounds, *(n for n in between if n < settings.most_frames)}
    return replace(settings, sizes=tuple(sorted(sizes)))


sized_st = st.builds(in_sizes, any_size_st, st.lists(st.integers(1, 60), max_size=4))
settings_st = any_size_st | sized_st
cost_st = st.builds(DecodeCost, fixed_s=st.floats(0.001, 2.0), per_frame_s=st.floats(0.0, 0.06))
moment_st = st.tuples(st.integers(0, 30), st.floats(-1.0, 5.0) | st.just(FOREVER), cost_st)


def drive(
    windows: Windows, total: int, moments: list[tuple[int, float, DecodeCost]]
) -> list[Window]:
    """Codes arrive in bursts; then the stream ends and the rest is asked for."""
    taken, codes = [], 0
    for burst, slack_s, cost in moments:
        codes = min(codes + burst, total)
        window = windows.next(codes, False, slack_s, cost)
        if window is not None:
            taken.append(window)
    for n in range(total + 2):
        slack_s, cost = moments[n % len(moments)][1:] if moments else (0.0, QUICK)
        window = windows.next(total, True, slack_s, cost)
        if window is None:
            return taken
        taken.append(window)
    raise AssertionError("a stream ends")


class LocalDecoder:
    """A code's sound depends on the look-ahead and on two codes before it; as the real one, it
    mutes the start of every call."""

    def __init__(self, look_ahead: int) -> None:
        self._look_ahead = look_ahead
        self._mix = np.linspace(1.0, 2.0, look_ahead + 3)

    def __call__(self, codes: I64) -> F32:
        padded = np.concatenate([np.zeros(2), codes, np.zeros(self._look_ahead)])
        mixed = np.convolve(padded, self._mix, mode="valid")
        samples = np.sin(
            np.repeat(mixed, SAMPLES_PER_CODE) + np.tile(np.arange(SAMPLES_PER_CODE), len(codes))
        )
        samples[:SAMPLES_PER_CODE] = 0
        return samples.astype(np.float32)

    def window(self, codes: I64, window: Window) -> F32:
        fed = codes[window.begin : window.stop]
        if window.last:
            fed = with_silence(fed)
        samples = self(fed)
        return samples[: window.end_sample - window.begin * SAMPLES_PER_CODE]


def with_silence(codes: I64) -> I64:
    return np.concatenate([codes, np.full(TAIL_SILENCE_CODES, SILENCE_CODE)])


@given(settings_st, st.integers(0, 300), st.lists(moment_st, max_size=20))
def test_every_code_is_fresh_exactly_once(settings, total, moments):
    windows = Windows(settings)
    taken = drive(windows, total, moments)
    assert windows.done
    assert [w.fresh for w in taken] == [0, *(w.end for w in taken[:-1])]
    assert [w.last for w in taken] == [False] * (len(taken) - 1) + [True]
    assert taken[-1].end == taken[-1].stop == total
    assert taken[-1].end_sample == (total + TAIL_SILENCE_CODES) * SAMPLES_PER_CODE
    for w in taken:
        assert 0 <= w.begin <= w.fresh <= w.end <= w.stop <= total
        assert w.last or w.end > w.fresh, "a window brings something"


@given(settings_st, st.integers(0, 300), st.lists(moment_st, max_size=20))
def test_context_and_look_ahead_are_always_there_and_bounded(settings, total, moments):
    for w in drive(Windows(settings), total, moments):
        context = w.fresh - w.begin
        usual = min(w.fresh, settings.codec.left_context_frames)
        assert context == usual or (w.last and usual < context < usual + settings.most_frames)
        assert w.end - w.fresh <= 2 * settings.most_frames
        assert w.last or w.stop == w.end + settings.codec.look_ahead_frames


@given(settings_st, st.integers(0, 200), st.lists(moment_st, max_size=20))
def test_streamed_equals_whole(settings, total, moments):
    codes = np.random.default_rng(total).integers(0, 6561, total)
    decoder = LocalDecoder(settings.codec.look_ahead_frames)
    seams = Crossfader(settings.cross_fade_samples)
    pieces = []
    for w in drive(Windows(settings), total, moments):
        at = w.begin * SAMPLES_PER_CODE
        assert at <= seams.next_sample
        pieces.append(seams.join(decoder.window(codes, w), at, w.last))
    streamed = np.concatenate(pieces)
    whole = decoder(with_silence(codes))
    assert streamed.size == seams.next_sample == whole.size
    np.testing.assert_allclose(streamed, whole, atol=1e-6)


@given(sized_st, st.integers(0, 300), st.lists(moment_st, max_size=20), st.booleans())
def test_few_sizes_leave_few_shapes(settings, total, moments, fixed_schedule):
    taken = drive(Windows(settings, fixed_schedule=fixed_schedule), total, moments)
    assert {w.end - w.fresh for w in taken[:-1]} <= {*settings.sizes}
    around = settings.codec.left_context_frames + settings.codec.look_ahead_frames
    usual = {around + size for size in settings.sizes}
    for w in taken:
        if w.fresh > settings.codec.left_context_frames and w.fed_frames not in usual:
            assert w.last
            # It brings more than any other, or there is not enough before it to feed with it.
            longer = [n for n in usual if n >= w.fed_frames]
            assert not longer or w.begin < min(longer) - w.fed_frames


@given(st.integers(0, 300), st.lists(moment_st, max_size=20), st.booleans())
def test_a_last_window_is_fed_no_more_than_others(total, moments, fixed_schedule):
    settings = window_settings(sizes=(5, 10, 20, 40, 75))
    taken = drive(Windows(settings, fixed_schedule=fixed_schedule), total, moments)
    assert max(w.stop - w.fresh + w.tail_frames for w in taken) <= 75 + 5
    assert all(w.fed_frames >= w.tail_frames for w in taken)


# --- by table


@given(settings_st, st.integers(0, 300), st.lists(moment_st, max_size=20))
def test_windows_by_table_do_not_depend_on_when_codes_come(settings, total, moments):
    known_at_once = drive(Windows(settings, fixed_schedule=True), total, [])
    taken = drive(Windows(settings, fixed_schedule=True), total, moments)
    assert taken == known_at_once
    assert [w.fresh for w in taken] == [0, *(w.end for w in taken[:-1])]
    assert taken[-1].end == total
    assert taken[-1].last
    assert all(w.stop == w.end + settings.codec.look_ahead_frames for w in taken[:-1])


def test_windows_by_table_grow_from_a_quick_first_one():
    windows = Windows(window_settings(), fixed_schedule=True)
    sizes = [w.end - w.fresh for w in drive(windows, 250, [])]
    assert sizes == [10, 14, 20, 28, 40, 56, 75, 7]


# --- how large, and when


def test_the_first_window_does_not_wait_for_more_than_it_needs():
    windows = Windows(SETTINGS)
    assert windows.next(6, False, 0.0, QUICK) is None, "4 codes and 3 of look-ahead"
    window = windows.next(7, False, 0.0, QUICK)
    assert window == Window(begin=0, fresh=0, end=4, stop=7, last=False, codec=SETTINGS.codec)


def test_a_slow_or_loaded_decoder_gets_a_larger_first_window_but_never_over_ten_codes():
    quick = Windows(SETTINGS).next(200, False, 0.0, QUICK)
    loaded = Windows(SETTINGS).next(200, False, 0.0, QUICK.scaled(8))
    slow = Windows(SETTINGS).next(200, False, 0.0, SLOW)
    assert quick is not None
    assert loaded is not None
    assert slow is not None
    assert quick.end == 4
    assert 4 < loaded.end <= 10
    assert slow.end == 10


def test_later_windows_wait_while_the_listener_has_audio():
    windows = Windows(SETTINGS)
    windows.next(7, False, 0.0, QUICK)
    assert windows.next(40, False, 3.0, QUICK) is None
    window = windows.next(40, False, 0.1, QUICK)
    assert window is not None
    assert window.fresh == 4
    assert window.end <= 37


def test_a_window_takes_what_can_be_decoded_in_time():
    windows = Windows(SETTINGS)
    windows.next(13, False, 0.0, SLOW)
    window = windows.next(200, False, 1.0, SLOW)
    assert window is not None
    affordable_s = 1.0  # nothing stays in reserve while windows are no longer than what keeps up
    assert SLOW.seconds(window.fed_frames) == pytest.approx(affordable_s, abs=SLOW.per_frame_s)


def test_a_window_waits_for_another_code_while_that_is_in_time():
    cost = DecodeCost(0.1, 0.005, token_s=0.015)
    windows = Windows(SETTINGS)
    windows.next(13, False, 0.0, cost)
    # 30 codes and 11 around them take 0.305 s, one more and its making 0.325 s. 8 codes keep up
    # with a listener; half of what 10 are more stays in reserve.
    assert windows.plan(43, False, 0.326 + 0.04, cost) is None
    window = windows.plan(43, False, 0.324 + 0.04, cost)
    assert window is not None
    assert window.end - window.fresh == 30


def test_a_window_is_never_just_in_time_and_hardly_larger():
    """So that the next has more time."""
    cost = DecodeCost(0.1, 0.005, token_s=0.015)
    windows = Windows(SETTINGS)
    windows.next(13, False, 0.0, cost)
    assert windows.plan(10 + 11 + 3, False, 0.2, cost) is None, "11 codes, no time for more"
    window = windows.plan(10 + 12 + 3, False, 0.15, cost)
    assert window is not None
    assert window.end - window.fresh == 12, "1.5 times the 8 that keep up"


def test_windows_grow_while_the_listener_gets_further_ahead():
    windows, codes, played_s, ready_s, sizes = Windows(SETTINGS), 0, 0.0, 0.0, []
    now_s = 0.0
    while len(sizes) < 6:  # a model of 100 codes a second and a quick decoder
        now_s += 0.01
        codes += 1
        slack_s = ready_s - (now_s - played_s) if sizes else 0.0
        window = windows.next(codes, False, slack_s, QUICK)
        if window is not None:
            if not sizes:
                played_s = now_s + QUICK.seconds(window.fed_frames)
            now_s += QUICK.seconds(window.fed_frames)
            ready_s += (window.end - window.fresh) * 0.04
            sizes.append(window.end - window.fresh)
    assert sizes[0] == 4
    assert sizes[1:4] == sorted(sizes[1:4])
    assert max(sizes) > 3 * sizes[0]


def test_a_decoder_that_cannot_keep_up_gets_the_largest_windows():
    windows = Windows(SETTINGS)
    hopeless = DecodeCost(fixed_s=1.0, per_frame_s=0.05)
    windows.next(13, False, 0.0, hopeless)
    assert windows.next(60, False, -1.0, hopeless) is None
    window = windows.next(200, False, -1.0, hopeless)
    assert window is not None
    assert window.end - window.fresh == SETTINGS.most_frames


def test_a_stream_behind_its_listener_gets_larger_windows_each_time():
    windows, sizes = Windows(SETTINGS), []
    for _ in range(6):
        window = windows.next(1000, False, -0.5, SLOW)
        assert window is not None
        sizes.append(window.end - window.fresh)
    assert sizes == sorted(sizes)
    assert sizes[-1] == SETTINGS.most_frames


def test_windows_without_time_to_spare_grow_step_by_step():
    cost = DecodeCost(0.1, 0.005, token_s=0.03)
    windows = Windows(window_settings())
    sizes = []
    for _ in range(5):
        window = windows.next(500, False, 0.01, cost)
        sizes.append(window.end - window.fresh)
    assert sizes == [10, 13, 17, 22, 28], "each 1.25 times the one before"
    late = windows.next(500, False, 0.0, cost)
    assert late.end - late.fresh == 48, "1.7 times"


def test_windows_stop_growing_once_each_leaves_more_sound_than_it_takes():
    cost = DecodeCost(0.1, 0.005, token_s=0.012)  # 8 codes keep up
    windows = Windows(window_settings())
    sizes = []
    for _ in range(4):
        window = windows.next(500, False, 0.01, cost)
        sizes.append(window.end - window.fresh)
    assert sizes == [10, 12, 12, 12]
    assert Windows(window_settings(), speed=2.0).next_window_s(
        0, False, cost
    ) > windows.next_window_s(500, False, cost)


def test_who_plays_faster_needs_larger_windows():
    cost, sizes = DecodeCost(0.1, 0.005, token_s=0.01), []
    for speed in (1.0, 1.5):
        windows = Windows(window_settings(), speed=speed)
        for _ in range(6):
            window = windows.next(500, False, 0.01, cost)
        sizes.append(window.end - window.fresh)
    assert sizes == [11, 23]


def test_codes_that_cost_the_same_cores_make_windows_larger():
    beside, shared = DecodeCost(0.03, 0.005), DecodeCost(0.03, 0.005, token_s=0.015)
    sizes = []
    for cost in (beside, shared, shared.scaled(1.5)):
        window = Windows(SETTINGS).next(100, False, 0.0, cost)
        assert window is not None
        sizes.append(window.end - window.fresh)
    assert sizes[0] < sizes[1] < sizes[2]


def test_without_a_listener_only_whole_windows_are_taken():
    windows = Windows(SETTINGS)
    assert windows.next(70, False, FOREVER, QUICK) is None
    window = windows.next(SETTINGS.most_frames + 3, False, FOREVER, QUICK)
    assert window is not None
    assert window.end == SETTINGS.most_frames


def test_no_crumb_is_left_for_the_last_window():
    windows = Windows(SETTINGS)
    first = windows.next(7, False, 0.0, QUICK)
    last = windows.next(SETTINGS.most_frames + 6, True, FOREVER, QUICK)
    assert first is not None
    assert last is not None
    assert last.last
    assert last.end - last.fresh == SETTINGS.most_frames + 2


def test_a_stream_without_codes_is_one_window_of_silence():
    windows = Windows(SETTINGS)
    assert windows.next(0, True, 0.0, QUICK) == Window(0, 0, 0, 0, True, SETTINGS.codec)
    assert windows.next(0, True, 0.0, QUICK) is None


def test_a_stream_cut_behind_what_is_decoded_ends_where_it_is():
    windows = Windows(SETTINGS)
    windows.next(60, False, 1.0, QUICK)
    decoded = windows.next_frame
    window = windows.next(decoded - 2, True, 0.0, QUICK)
    assert window == Window(max(0, decoded - 25), decoded, decoded, decoded, True, SETTINGS.codec)


def test_planning_changes_nothing():
    windows = Windows(SETTINGS)
    assert windows.plan(30, False, 0.0, QUICK) == windows.plan(30, False, 0.0, QUICK)
    assert windows.next_frame == 0


def test_settings_that_would_let_the_muted_start_be_heard_are_a_bug():
    with pytest.raises(AssertionError):
        window_settings(left_context_frames=1)


# --- seams


def test_a_seam_is_blended_and_nothing_else_is_touched():
    seams = Crossfader(100)
    first = seams.join(np.zeros(1000, np.float32), 0, last=False)
    second = seams.join(np.ones(600, np.float32), 700, last=True)
    assert first.size == 900
    assert second.size == 400
    assert seams.next_sample == 1300
    assert np.all(np.diff(second[:100]) > 0)
    np.testing.assert_array_equal(second[100:], 1.0)


def test_equal_samples_pass_a_seam_bit_for_bit():
    sound = np.random.default_rng(1).normal(size=4000).astype(np.float32)
    seams = Crossfader(360)
    pieces = [seams.join(sound[:2000], 0, last=False), seams.join(sound[1200:], 1200, last=True)]
    np.testing.assert_array_equal(np.concatenate(pieces), sound)


def test_the_callers_samples_are_not_changed():
    mine = np.ones(2000, np.float32)
    seams = Crossfader(100)
    seams.join(np.zeros(1000, np.float32), 0, last=False)
    seams.join(mine, 500, last=False)
    np.testing.assert_array_equal(mine, 1.0)
