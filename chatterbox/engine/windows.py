"""Plans which frames of a stream are decoded next.

A stream is decoded in windows. The decoder gets some frames again (left context), the fresh frames,
and frames whose sound is not final yet (look-ahead); with the last window it gets the codec's tail
instead. The number of fresh frames depends on how long the listener's sound lasts (`slack_s`), how
long a decode takes (`DecodeCost`), and how long the decoded frames will play.
"""

import math
from dataclasses import dataclass

from chatterbox.families.base import CodecSpec, Window

FIRST_LEAST_S = 0.16
"""Shortest first window. A shorter one has been played before a second can follow."""
FIRST_MOST_S = 0.4
"""Longest first window. A longer one only delays the first sound."""
MOST_S = 3.0
"""Longest window. A longer one would delay other streams' first windows."""
AHEAD = 3.0
"""The first window is this many times the size that just keeps up with the listener, within the
bounds of `WindowSettings`. Larger windows cost less in total, since each has a fixed cost."""
GROWTH = 1.25
"""A window waits for frames while it can still be in time, and until it is at least this many times
as large as the one before: a window that is no larger leaves the next one as little time. A larger
factor makes gaps fewer and longer (docs/inside/decoder.md)."""
LATE_GROWTH = 1.7
"""The same factor while sound comes too late anyway: fewer, larger windows cost less."""
SURPLUS = 1.5
"""Windows grow no further by delaying sound at this many times the size that just keeps up. From
there on each window gives more sound than it takes time."""
TABLE_GROWTH = 1.4
"""Growth from one window to the next in the fixed schedule."""
RESERVED = 1 / 2
"""Share kept in reserve of the sound by which a window exceeds the size that just keeps up."""
DECAY = 0.9
"""Weight of earlier measurements at each new one: about the last ten count."""


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """Bounds of window sizes, and what a decoder needs around a window."""

    codec: CodecSpec
    first_least_frames: int
    first_most_frames: int
    most_frames: int
    sizes: tuple[int, ...] = ()
    """Allowed numbers of fresh frames of every window but the last, ascending, so that windows have
    few shapes and can share calls. Empty: any number."""
    cross_fade_ms: int = 15
    reserve_s: float = 0.15  # sound that the listener should still have when a window arrives

    @classmethod
    def of(cls, codec: CodecSpec, sizes: tuple[int, ...] = ()) -> "WindowSettings":
        """Return the settings for a codec's frame length."""
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
            "the faded part must be inside the left context"
        )
        context = self.codec.left_context_frames * self.codec.samples_per_frame
        assert self.codec.delay_samples + self.cross_fade_samples <= context, (
            "a window must begin where the one before ended, or earlier"
        )

    @property
    def cross_fade_samples(self) -> int:
        """Samples over which two windows are blended."""
        return self.cross_fade_ms * self.codec.sample_rate_hz // 1000


@dataclass(frozen=True, slots=True)
class DecodeCost:
    """Expected seconds of decoding a window: `fixed_s + per_frame_s × fed frames`.

    `token_s` is the time that the language model takes from the decoder's cores for each new frame;
    0 if they do not share cores."""

    fixed_s: float
    per_frame_s: float
    token_s: float = 0.0

    def seconds(self, fed_frames: int) -> float:
        """Seconds for a window with `fed_frames`."""
        return self.fixed_s + self.per_frame_s * fed_frames

    def scaled(self, load: float) -> "DecodeCost":
        """The cost when `load` calls are needed at once."""
        return DecodeCost(self.fixed_s * load, self.per_frame_s * load, self.token_s)


class LatencyModel:
    """Estimates the seconds of a call from its size, by least squares over recent calls."""

    def __init__(self) -> None:
        self._sums = (0.0,) * 5  # of 1, x, y, xx and xy; replaced whole, since two threads read it

    def add(self, size: int, seconds: float) -> None:
        """Add a call's duration. `size`: its frames or rows."""
        one, x, y, xx, xy = self._sums
        self._sums = (
            one * DECAY + 1.0,
            x * DECAY + size,
            y * DECAY + seconds,
            xx * DECAY + size * size,
            xy * DECAY + size * seconds,
        )

    def estimate(self) -> DecodeCost:
        """Fit a line with non-negative parts."""
        weight, x, y, xx, xy = self._sums
        if not weight:
            return START
        mean_x, mean_y = x / weight, y / weight
        spread = xx / weight - mean_x * mean_x
        slope = 0.0
        if spread > 1.0:  # the slope needs calls of different sizes
            slope = (xy / weight - mean_x * mean_y) / spread
        slope = min(max(slope, 0.0), mean_y / mean_x if mean_x else 0.0)
        return DecodeCost(fixed_s=mean_y - slope * mean_x, per_frame_s=slope)


START = DecodeCost(fixed_s=0.05, per_frame_s=0.005)
"""The estimate before the first measurement."""


class Windows:
    """Plans the windows of one stream, in order."""

    def __init__(
        self, settings: WindowSettings, *, fixed_schedule: bool = False, speed: float = 1.0
    ) -> None:
        """`fixed_schedule`: sizes do not depend on time, so that the same frames are always decoded
        in the same windows. `speed`: the listener's playback speed."""
        self._settings = settings
        self._ahead = settings.codec.look_ahead_frames
        self._context = settings.codec.left_context_frames
        self._frame_s = 1.0 / settings.codec.frame_rate_hz / speed
        self._by_table = fixed_schedule
        self.next_frame = 0  # frames before this one are decoded
        self._last_fresh = 0
        self.done = False  # the last window has been taken
        self.wait_for = 0, -math.inf
        """After `plan` returned None: a window is due with this many frames, or once the listener's
        sound lasts no longer than this many seconds."""

    def plan(self, frames: int, ended: bool, slack_s: float, cost: DecodeCost) -> Window | None:
        """Return the window to decode now, or None while it is better to wait for more frames;
        then `wait_for` is set. Call `take` when the window is decoded.

        `frames`: how many there are. `ended`: no more will come (if fewer than were decoded, the
        stream ends where it is). `slack_s`: how long the listener's sound lasts; 0 or less before
        the first sound, infinite without a listener.
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
        """Plan a window and take it."""
        window = self.plan(frames, ended, slack_s, cost)
        if window is not None:
            self.take(window)
        return window

    def take(self, window: Window) -> None:
        """Move on behind `window`, which is being decoded."""
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
        spare_s = slack_s - reserve_s - around_s  # for decoding fresh frames
        within = 0 if spare_s <= 0 else s.most_frames
        if 0 < spare_s < cost.per_frame_s * s.most_frames:
            within = int(spare_s / cost.per_frame_s)
        most = self._size_within(min(max(least, within), s.most_frames))
        ready = frames - self.next_frame - (0 if ended else self._ahead)
        if ended:
            # Leave the last window a useful size, and enough frames for look-ahead.
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
        """Seconds of work until the next window of the least useful size is decoded: `token_s` for
        each missing frame, and the decode."""
        around = self._around
        least = self._least_frames(self._lasting_frames(cost, around), late=False)
        if ended:
            return cost.seconds(around + min(least, max(frames - self.next_frame, 0)))
        missing = self.next_frame + least + self._ahead - frames
        return cost.token_s * max(missing, 0) + cost.seconds(around + least)

    def _from_table(self, left: int, ended: bool) -> int | None:
        """Fresh frames in the fixed schedule: the first window has `first_most_frames`, each later
        one is larger, up to `most_frames`. The result does not depend on when the end became
        known."""
        s = self._settings
        grown = math.ceil(TABLE_GROWTH * self._last_fresh) or s.first_most_frames
        size = self._size_from(min(grown, s.most_frames))
        ahead = max(self._ahead, 1)  # so that it cannot be the last
        if left >= size + ahead:
            return size
        self.wait_for = self.next_frame + size + ahead, -math.inf
        return self._last_or_before(left, size) if ended else None

    def _last_or_before(self, left: int, most: int) -> int:
        """Fresh frames near the end: all `left` frames, or an allowed size first if the last window
        would otherwise be larger than any other."""
        s = self._settings
        usual = [size for size in s.sizes if size <= min(most, left - self._ahead)]
        if usual and left + s.codec.tail_frames > s.sizes[-1] + self._ahead:
            return usual[-1]
        return max(left, 0)

    def _least_frames(self, lasting: int, *, late: bool) -> int:
        """Smallest useful number of fresh frames. A window should play at least until the next one
        arrives, as one of `lasting` frames just does. `late`: the listener has no sound; larger
        windows then catch up faster."""
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
        """Number of fresh frames with which windows just keep up with the listener."""
        most = self._settings.most_frames
        gain_s = self._frame_s - cost.per_frame_s - cost.token_s
        fixed_s = cost.seconds(around)
        return math.ceil(fixed_s / gain_s) if fixed_s < gain_s * most else most

    @property
    def _around(self) -> int:
        """Frames of the next window besides its fresh ones."""
        return min(self.next_frame, self._context) + self._ahead

    def _reserve_s(self, lasting: int) -> float:
        """Sound that the listener should have left when a window arrives: a share of what the last
        window exceeded the size that just keeps up."""
        if not self.next_frame:
            return self._settings.reserve_s
        beyond_s = self._frame_s * (self._last_fresh - lasting)
        return min(self._settings.reserve_s, max(RESERVED * beyond_s, 0.0))

    def _widened(self, begin: int, end: int) -> int:
        """Extend the last window's left context if that gives it the shape of other windows."""
        around = self._context + self._ahead
        usual = [end - around - size for size in self._settings.sizes]
        return max((b for b in usual if 0 <= b <= begin), default=begin)

    def _size_from(self, frames: int) -> int:
        """The smallest allowed size of at least `frames`; the largest if there is none."""
        sizes = self._settings.sizes or (frames,)
        return next((size for size in sizes if size >= frames), sizes[-1])

    def _size_within(self, frames: int) -> int:
        """The largest allowed size of at most `frames`; there must be one."""
        return max(size for size in self._settings.sizes or (frames,) if size <= frames)
