"""Plans which frames of a stream are decoded next.

A stream is decoded in windows. Every window is fed some frames it has been fed before (left
context), its fresh frames, and frames whose sound is not final yet (look-ahead); the last one is
fed the codec's tail instead. How many fresh frames a window takes follows from three times: how
long the listener's audio lasts (`slack_s`), how long a decode takes (`DecodeCost`), and how long
the decoded frames will play.
"""

import math
from dataclasses import dataclass

from chatterbox.families.base import CodecSpec, Window

FIRST_LEAST_S = 0.16
"""Less is gone before anything can follow it."""
FIRST_MOST_S = 0.4
"""More only delays the first sound."""
MOST_S = 3.0
"""A longer window keeps other streams' first windows waiting."""
AHEAD = 3.0
"""The first window is so many times the size that just keeps up with a listener, within the bounds
of `WindowSettings`: every window costs something whatever its size, so large ones cost less."""
GROWTH = 1.25
"""A window waits for frames as long as it will still be in time, and at least until it is so many
times as large as the one before: one that is just in time and no larger leaves the next as little
time, and so on for ever. Short gaps are the price (docs/inside/decoder.md): a larger factor makes
them fewer and longer."""
LATE_GROWTH = 1.7
"""The same factor where sound comes too late whatever is done: fewer, larger windows cost less."""
SURPLUS = 1.5
"""Windows stop growing at a listener's expense at so many times the size that just keeps up; from
there on each leaves more sound than it takes time."""
TABLE_GROWTH = 1.4
"""From one fixed size to the next."""
RESERVED = 1 / 2
"""Of the sound by which a window is longer than what keeps up."""
DECAY = 0.9
"""Weight of the past at every new measurement of a cost: about the last ten count."""


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """What a decoder needs around its windows, and how large they may be."""

    codec: CodecSpec
    first_least_frames: int
    first_most_frames: int
    most_frames: int
    sizes: tuple[int, ...] = ()
    """Fresh frames of every window but the last, smallest first, so that few shapes come and rows
    of one shape meet; none: as many as suit."""
    cross_fade_ms: int = 15
    reserve_s: float = 0.15  # audio the listener should still have when a window arrives

    @classmethod
    def of(cls, codec: CodecSpec, sizes: tuple[int, ...] = ()) -> "WindowSettings":
        """As a codec's frames are long."""
        least, first, most = (
            max(round(seconds * codec.frame_rate_hz), 1)
            for seconds in (FIRST_LEAST_S, FIRST_MOST_S, MOST_S)
        )
        return cls(codec, least, first, most, sizes, codec.cross_fade_ms)

    def __post_init__(self) -> None:
        assert self.codec.look_ahead_frames >= 0
        assert 1 <= self.first_least_frames <= self.first_most_frames <= self.most_frames
        assert list(self.sizes) == sorted(self.sizes)
        assert not self.sizes or {self.first_most_frames, self.most_frames} <= {*self.sizes}
        assert self.cross_fade_samples <= self.codec.samples_per_frame
        assert self.codec.left_context_frames > self.codec.fade_in_frames, (
            "the faded part must never be heard again"
        )
        context = self.codec.left_context_frames * self.codec.samples_per_frame
        assert self.codec.delay_samples + self.cross_fade_samples <= context, (
            "a window begins where the one before it ended, or earlier"
        )

    @property
    def cross_fade_samples(self) -> int:
        """Samples over which two windows are blended."""
        return self.cross_fade_ms * self.codec.sample_rate_hz // 1000


@dataclass(frozen=True, slots=True)
class DecodeCost:
    """Expected seconds from asking for a window to having it: `fixed_s + per_frame_s × fed`.

    `token_s` is what a new frame costs the same processor before that: a step of the language model
    where both share their cores, 0 where it runs beside the decoder."""

    fixed_s: float
    per_frame_s: float
    token_s: float = 0.0

    def seconds(self, fed_frames: int) -> float:
        """For a window that is fed so many frames."""
        return self.fixed_s + self.per_frame_s * fed_frames

    def scaled(self, load: float) -> "DecodeCost":
        """When `load` windows want the decoder at once."""
        return DecodeCost(self.fixed_s * load, self.per_frame_s * load, self.token_s)


class LatencyModel:
    """Seconds of a call by its size, learnt from the calls so far: least squares, the past
    decaying."""

    def __init__(self) -> None:
        self._sums = (0.0,) * 5  # of 1, x, y, xx and xy; replaced whole, since two threads read it

    def add(self, size: int, seconds: float) -> None:
        """A call of so many frames, or rows, took so long."""
        one, x, y, xx, xy = self._sums
        self._sums = (
            one * DECAY + 1.0,
            x * DECAY + size,
            y * DECAY + seconds,
            xx * DECAY + size * size,
            xy * DECAY + size * seconds,
        )

    def estimate(self) -> DecodeCost:
        """The line through the measurements; neither part is ever negative."""
        weight, x, y, xx, xy = self._sums
        if not weight:
            return START
        mean_x, mean_y = x / weight, y / weight
        spread = xx / weight - mean_x * mean_x
        slope = 0.0
        if spread > 1.0:  # calls of about one size tell nothing of the slope
            slope = (xy / weight - mean_x * mean_y) / spread
        slope = min(max(slope, 0.0), mean_y / mean_x if mean_x else 0.0)
        return DecodeCost(fixed_s=mean_y - slope * mean_x, per_frame_s=slope)


START = DecodeCost(fixed_s=0.05, per_frame_s=0.005)
"""Before anything was measured."""


class Windows:
    """The windows of one stream, in order. Mutable; owned by whoever drives the stream."""

    def __init__(
        self, settings: WindowSettings, *, fixed_schedule: bool = False, speed: float = 1.0
    ) -> None:
        """`fixed_schedule`: windows of fixed sizes, whatever the listener and the cost, so that
        the same frames are always decoded in the same windows. `speed`: how fast the listener plays
        them."""
        self._settings = settings
        self._ahead = settings.codec.look_ahead_frames
        self._context = settings.codec.left_context_frames
        self._frame_s = 1.0 / settings.codec.frame_rate_hz / speed
        self._by_table = fixed_schedule
        self.next_frame = 0  # frames before this one are decoded
        self._last_fresh = 0
        self.done = False  # the last window has been taken
        self.wait_for = 0, -math.inf
        """After a plan for none: nothing is due before there are so many frames, or the listener's
        audio lasts no longer than so many seconds."""

    def plan(self, frames: int, ended: bool, slack_s: float, cost: DecodeCost) -> Window | None:
        """The window to decode now, or None while it is better to wait for more frames; then
        `wait_for` says until when. Nothing else changes: a window that is decoded is reported by
        `take`.

        `frames` is how many there are, `ended` whether no more will come (fewer than were decoded
        already: then the stream ends where it is). `slack_s` is how long the listener's audio
        lasts: 0 or less when they hear nothing yet, infinite when nobody listens while it is made.
        """
        if self.done:
            return None
        if self._by_table:
            fresh = self._from_table(frames - self.next_frame, ended)
        else:
            fresh = self._fresh_frames(frames, ended, slack_s, cost)
        if fresh is None:
            return None
        s, frames = self._settings, max(frames, self.next_frame)
        end = self.next_frame + fresh
        last = ended and end == frames
        stop = frames if last else end + self._ahead
        begin = max(0, self.next_frame - self._context)
        if last:
            begin = self._widened(begin, stop + s.codec.tail_frames)
        return Window(begin, self.next_frame, end, stop, last, s.codec)

    def next(self, frames: int, ended: bool, slack_s: float, cost: DecodeCost) -> Window | None:
        """`plan`, and `take` what it gives."""
        window = self.plan(frames, ended, slack_s, cost)
        if window is not None:
            self.take(window)
        return window

    def take(self, window: Window) -> None:
        """`window`, as planned, is being decoded."""
        assert window.fresh == self.next_frame
        assert not self.done
        self._last_fresh = window.end - window.fresh
        self.next_frame, self.done = window.end, window.last

    def _fresh_frames(
        self, frames: int, ended: bool, slack_s: float, cost: DecodeCost
    ) -> int | None:
        s = self._settings
        around = self._around
        lasting = self._lasting_frames(cost, around)
        least = self._size_from(self._least_frames(lasting, late=slack_s <= 0))
        reserve_s, around_s = self._reserve_s(lasting), cost.seconds(around)
        spare_s = slack_s - reserve_s - around_s  # for the fresh ones
        within = 0 if spare_s <= 0 else s.most_frames
        if 0 < spare_s < cost.per_frame_s * s.most_frames:
            within = int(spare_s / cost.per_frame_s)
        most = self._size_within(min(max(least, within), s.most_frames))
        ready = frames - self.next_frame - (0 if ended else self._ahead)
        if ended:
            # What is left for the last window is a useful one, and enough to look ahead to.
            crumb = max(least, self._ahead)
            return self._last_or_before(ready, most) if ready <= most + crumb else most
        if ready < least:
            self._wait(least)
            return None
        if ready < most:
            soon_s, full_s = (  # until a window with one more frame is there, and a full one
                cost.token_s + cost.per_frame_s * size
                for size in (self._size_from(ready + 1), most)
            )
            if soon_s <= spare_s:
                wanted, in_s = (most, full_s) if full_s < spare_s else (ready + 1, soon_s)
                self._wait(wanted, reserve_s + around_s + in_s)
                return None
        return self._size_within(min(ready, most))

    def _wait(self, fresh: int, slack_s: float = -math.inf) -> None:
        self.wait_for = self.next_frame + fresh + self._ahead, slack_s

    def next_window_s(self, frames: int, ended: bool, cost: DecodeCost) -> float:
        """Seconds of work until the next window of the least useful size is there: `token_s` for
        each frame that is missing, and the decode."""
        around = self._around
        least = self._least_frames(self._lasting_frames(cost, around), late=False)
        if ended:
            return cost.seconds(around + min(least, max(frames - self.next_frame, 0)))
        missing = self.next_frame + least + self._ahead - frames
        return cost.token_s * max(missing, 0) + cost.seconds(around + least)

    def _from_table(self, left: int, ended: bool) -> int | None:
        """The first window is of the usual most, each one after it larger up to the largest; what
        is left when no further one fits is the last. Whether the end was known when a window was
        due changes nothing."""
        s = self._settings
        grown = math.ceil(TABLE_GROWTH * self._last_fresh) or s.first_most_frames
        size = self._size_from(min(grown, s.most_frames))
        ahead = max(self._ahead, 1)  # so that it cannot be the last
        if left >= size + ahead:
            return size
        self.wait_for = self.next_frame + size + ahead, -math.inf
        return self._last_or_before(left, size) if ended else None

    def _last_or_before(self, left: int, most: int) -> int:
        """All that is left as the last window; a usual size before it, where that would be fed more
        than any other is."""
        s = self._settings
        usual = [size for size in s.sizes if size <= min(most, left - self._ahead)]
        if usual and left + s.codec.tail_frames > s.sizes[-1] + self._ahead:
            return usual[-1]
        return max(left, 0)

    def _least_frames(self, lasting: int, *, late: bool) -> int:
        """A window should play at least as long as it takes until the one after it is there, which
        those of `lasting` frames just do. A listener who has run out of sound is helped by larger
        ones: they take less in all."""
        s = self._settings
        if not self.next_frame:
            return min(max(math.ceil(AHEAD * lasting), s.first_least_frames), s.first_most_frames)
        late_least = math.ceil(LATE_GROWTH * self._last_fresh)
        if late:
            least = max(lasting, late_least)
        elif lasting >= s.most_frames:  # no size keeps up
            least = late_least
        else:
            least = min(math.ceil(GROWTH * self._last_fresh), math.ceil(SURPLUS * lasting))
        return min(max(least, s.first_least_frames), s.most_frames)

    def _lasting_frames(self, cost: DecodeCost, around: int) -> int:
        """Windows of so many frames just keep up with a listener."""
        most = self._settings.most_frames
        gain_s = self._frame_s - cost.per_frame_s - cost.token_s
        fixed_s = cost.seconds(around)
        return math.ceil(fixed_s / gain_s) if fixed_s < gain_s * most else most

    @property
    def _around(self) -> int:
        """Frames that the next window is fed besides its fresh ones."""
        return min(self.next_frame, self._context) + self._ahead

    def _reserve_s(self, lasting: int) -> float:
        """Sound that should be left when a window arrives: what the last one was longer than need
        be is kept in part for a next one that takes longer than expected."""
        if not self.next_frame:
            return self._settings.reserve_s
        beyond_s = self._frame_s * (self._last_fresh - lasting)
        return min(self._settings.reserve_s, max(RESERVED * beyond_s, 0.0))

    def _widened(self, begin: int, end: int) -> int:
        """More left context where the last window then feeds as many frames as others do."""
        around = self._context + self._ahead
        usual = [end - around - size for size in self._settings.sizes]
        return max((b for b in usual if 0 <= b <= begin), default=begin)

    def _size_from(self, frames: int) -> int:
        """The smallest size of so many frames or more; the largest where none is."""
        sizes = self._settings.sizes or (frames,)
        return next((size for size in sizes if size >= frames), sizes[-1])

    def _size_within(self, frames: int) -> int:
        """The largest size of so many frames or fewer, of which there is one."""
        return max(size for size in self._settings.sizes or (frames,) if size <= frames)
