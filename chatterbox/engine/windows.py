"""Which codes of a stream are decoded next, and which samples of the result may leave?

Knows no decoder, no thread and no clock: code counts and seconds in, windows and samples out.

A stream is decoded in windows. Every window is fed some codes it has been fed before (left
context), its fresh codes, and codes whose sound is not final yet (look-ahead); the last one is fed
the silence codes instead. How many fresh codes a window takes follows from three times: how long
the listener's audio lasts (`slack_s`), how long a decode takes (`DecodeCost`), and how long the
decoded codes will play.
"""

import math
from dataclasses import dataclass

import numpy as np

from chatterbox.runtime.contract import (
    CODE_RATE_HZ,
    F32,
    SAMPLE_RATE_HZ,
    SAMPLES_PER_CODE,
    TAIL_SILENCE_CODES,
)
from chatterbox.runtime.streaming_decoder import Window

CODE_S = 1.0 / CODE_RATE_HZ
AHEAD = 3.0
"""The first window is so many times the size that just keeps up with a listener, within the bounds
of `WindowSettings`: every window costs something whatever its size, so large ones cost less."""
GROWTH = 1.25
"""A window waits for codes as long as it will still be in time, and at least until it is so many
times as large as the one before: one that is just in time and no larger leaves the next as little
time, and so on for ever. Short gaps are the price (docs/decoder.md): a larger factor makes them
fewer and longer."""
LATE_GROWTH = 1.7
"""The same factor where sound comes too late whatever is done: fewer, larger windows cost less."""
SURPLUS = 1.5
"""Windows stop growing at a listener's expense at so many times the size that just keeps up; from
there on each leaves more sound than it takes time."""
TABLE_GROWTH = 1.4
"""From one fixed size to the next."""
RESERVED = 1 / 2
"""Of the sound by which a window is longer than what keeps up."""
FADED_CODES = 1
"""The decoder mutes the first 20 ms of every call and fades in over the next 20 ms [card]."""


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """What a decoder needs around its windows, and how large they may be."""

    look_ahead_codes: int = 5  # the flow sees 3 ahead [source], the vocoder 2: docs/decoder.md
    left_context_codes: int = 8
    first_least_codes: int = 4  # 160 ms: less is gone before anything can follow it
    first_most_codes: int = 10  # 400 ms: more only delays the first sound
    most_codes: int = 75  # 3 s: a longer one keeps other streams' first windows waiting
    sizes: tuple[int, ...] = ()
    """Fresh codes of every window but the last, smallest first, so that few shapes come and rows of
    one shape meet; none: as many as suit."""
    cross_fade_ms: int = 15
    reserve_s: float = 0.15  # audio the listener should still have when a window arrives

    def __post_init__(self) -> None:
        assert self.look_ahead_codes >= 0
        assert 1 <= self.first_least_codes <= self.first_most_codes <= self.most_codes
        assert list(self.sizes) == sorted(self.sizes)
        assert not self.sizes or {self.first_most_codes, self.most_codes} <= {*self.sizes}
        assert self.cross_fade_samples <= SAMPLES_PER_CODE
        assert self.left_context_codes > FADED_CODES, "the faded part must never be heard again"

    @property
    def cross_fade_samples(self) -> int:
        """Samples over which two windows are blended."""
        return self.cross_fade_ms * SAMPLE_RATE_HZ // 1000


@dataclass(frozen=True, slots=True)
class DecodeCost:
    """Expected seconds from asking for a window to having it: `fixed_s + per_code_s × fed`.

    `token_s` is what a new code costs the same processor before that: a step of the language model
    where both share their cores, 0 where it runs beside the decoder."""

    fixed_s: float
    per_code_s: float
    token_s: float = 0.0

    def seconds(self, fed_codes: int) -> float:
        """For a window that is fed so many codes."""
        return self.fixed_s + self.per_code_s * fed_codes

    def scaled(self, load: float) -> "DecodeCost":
        """When `load` windows want the decoder at once."""
        return DecodeCost(self.fixed_s * load, self.per_code_s * load, self.token_s)


class Windows:
    """The windows of one stream, in order. Mutable; owned by whoever drives the stream."""

    def __init__(
        self, settings: WindowSettings, *, fixed_schedule: bool = False, speed: float = 1.0
    ) -> None:
        """`fixed_schedule`: windows of fixed sizes, whatever the listener and the cost, so that
        the same codes are always decoded in the same windows. `speed`: how fast the listener plays
        them."""
        self._settings = settings
        self._code_s = CODE_S / speed
        self._by_table = fixed_schedule
        self._next = 0  # codes before this one are decoded
        self._last_fresh = 0
        self._done = False

    @property
    def decoded_codes(self) -> int:
        """Codes taken as fresh so far."""
        return self._next

    @property
    def done(self) -> bool:
        """The last window has been taken."""
        return self._done

    def plan(self, codes: int, ended: bool, slack_s: float, cost: DecodeCost) -> Window | None:
        """The window to decode now, or None while it is better to wait for more codes. Changes
        nothing: a window that is decoded is reported by `take`.

        `codes` is how many there are, `ended` whether no more will come (fewer than were decoded
        already: then the stream ends where it is). `slack_s` is how long the listener's audio
        lasts: 0 or less when they hear nothing yet, infinite when nobody listens while it is made.
        """
        if self._done:
            return None
        fresh = self._fresh_codes(codes, ended, slack_s, cost)
        if fresh is None:
            return None
        codes = max(codes, self._next)
        end = self._next + fresh
        last = ended and end == codes
        stop = codes if last else end + self._settings.look_ahead_codes
        begin = max(0, self._next - self._settings.left_context_codes)
        if last:
            begin = self._widened(begin, stop + TAIL_SILENCE_CODES)
        return Window(begin, self._next, end, stop, last)

    def next(self, codes: int, ended: bool, slack_s: float, cost: DecodeCost) -> Window | None:
        """`plan`, and `take` what it gives."""
        window = self.plan(codes, ended, slack_s, cost)
        if window is not None:
            self.take(window)
        return window

    def take(self, window: Window) -> None:
        """`window`, as planned, is being decoded."""
        assert window.fresh == self._next
        assert not self._done
        self._last_fresh = window.end - window.fresh
        self._next, self._done = window.end, window.last

    def _fresh_codes(self, codes: int, ended: bool, slack_s: float, cost: DecodeCost) -> int | None:
        s = self._settings
        if self._by_table:
            return self._from_table(codes - self._next, ended)
        ready = codes - (0 if ended else s.look_ahead_codes) - self._next
        least = self._size_from(self._least_codes(cost, late=slack_s <= 0))
        within = self._codes_within(slack_s, cost)
        most = self._size_within(min(max(least, within), s.most_codes))
        if ended:
            # What is left for the last window is a useful one, and enough to look ahead to.
            crumb = max(least, s.look_ahead_codes)
            return max(ready, 0) if ready <= most + crumb else most
        more = self._size_from(ready + 1)
        if ready < least or (ready < most and self._has_time(more, slack_s, cost)):
            return None
        return self._size_within(min(ready, most))

    def next_window_s(self, codes: int, ended: bool, cost: DecodeCost) -> float:
        """Seconds of work until the next window of the least useful size is there: `token_s` for
        each code that is missing, and the decode."""
        least = self._least_codes(cost, late=False)
        if ended:
            return cost.seconds(self._around + min(least, max(codes - self._next, 0)))
        missing = self._next + least + self._settings.look_ahead_codes - codes
        return cost.token_s * max(missing, 0) + cost.seconds(self._around + least)

    def _from_table(self, left: int, ended: bool) -> int | None:
        """The first window is of the usual most, each one after it larger up to the largest; what
        is left when no further one fits is the last. Whether the end was known when a window was
        due changes nothing."""
        s = self._settings
        grown = math.ceil(TABLE_GROWTH * self._last_fresh) or s.first_most_codes
        size = self._size_from(min(grown, s.most_codes))
        if left >= size + max(s.look_ahead_codes, 1):  # so that it cannot be the last
            return size
        return max(left, 0) if ended else None

    def _least_codes(self, cost: DecodeCost, *, late: bool) -> int:
        """A window should play at least as long as it takes until the one after it is there. A
        listener who has run out of sound is helped by larger ones: they take less in all."""
        s = self._settings
        lasting = self._lasting_codes(cost)
        if not self._next:
            return min(max(math.ceil(AHEAD * lasting), s.first_least_codes), s.first_most_codes)
        late_least = math.ceil(LATE_GROWTH * self._last_fresh)
        if late:
            least = max(lasting, late_least)
        elif lasting >= s.most_codes:  # no size keeps up
            least = late_least
        else:
            least = min(math.ceil(GROWTH * self._last_fresh), math.ceil(SURPLUS * lasting))
        return min(max(least, s.first_least_codes), s.most_codes)

    def _lasting_codes(self, cost: DecodeCost) -> int:
        """Windows of so many codes just keep up with a listener."""
        most = self._settings.most_codes
        gain_s = self._code_s - cost.per_code_s - cost.token_s
        fixed_s = cost.seconds(self._around)
        return math.ceil(fixed_s / gain_s) if fixed_s < gain_s * most else most

    @property
    def _around(self) -> int:
        """Codes that the next window is fed besides its fresh ones."""
        return min(self._next, self._settings.left_context_codes) + self._settings.look_ahead_codes

    def _spare_s(self, slack_s: float, cost: DecodeCost) -> float:
        """How long a decode may take: what the last window was longer than need be is kept in part
        for a next one that takes longer than expected."""
        reserve_s = self._settings.reserve_s
        if self._next:
            beyond_s = self._code_s * (self._last_fresh - self._lasting_codes(cost))
            reserve_s = min(reserve_s, max(RESERVED * beyond_s, 0.0))
        return slack_s - reserve_s

    def _has_time(self, fresh: int, slack_s: float, cost: DecodeCost) -> bool:
        """Whether a window of so many codes, some of which are still to be made, is in time."""
        needed_s = cost.token_s + cost.seconds(self._around + fresh)
        return needed_s <= self._spare_s(slack_s, cost)

    def _codes_within(self, slack_s: float, cost: DecodeCost) -> int:
        """How many fresh codes can be decoded while the listener's audio lasts."""
        spare_s = self._spare_s(slack_s, cost) - cost.seconds(self._around)
        if spare_s <= 0:
            return 0
        if spare_s >= cost.per_code_s * self._settings.most_codes:
            return self._settings.most_codes
        return int(spare_s / cost.per_code_s)

    def _widened(self, begin: int, end: int) -> int:
        """More left context where the last window then feeds as many codes as others do."""
        around = self._settings.left_context_codes + self._settings.look_ahead_codes
        usual = [end - around - size for size in self._settings.sizes]
        return max((b for b in usual if 0 <= b <= begin), default=begin)

    def _size_from(self, codes: int) -> int:
        """The smallest size of so many codes or more; the largest where none is."""
        sizes = self._settings.sizes or (codes,)
        return next((size for size in sizes if size >= codes), sizes[-1])

    def _size_within(self, codes: int) -> int:
        """The largest size of so many codes or fewer, of which there is one."""
        return max(size for size in self._settings.sizes or (codes,) if size <= codes)


class Crossfader:
    """Joins the windows' samples into one continuous stream; owned as `Windows` is.

    The last samples of every window are held back and blended into the next one's.
    """

    def __init__(self, cross_fade_samples: int) -> None:
        # Raised cosine: the two weights sum to 1, since both windows render the same sound.
        phase = (np.arange(cross_fade_samples, dtype=np.float32) + 0.5) / max(cross_fade_samples, 1)
        self._ramp: F32 = (0.5 - 0.5 * np.cos(np.pi * phase)).astype(np.float32)
        self._held: F32 = np.zeros(0, np.float32)
        self._sent = 0

    @property
    def sent_samples(self) -> int:
        """Samples let go so far."""
        return self._sent

    @property
    def next_sample(self) -> int:
        """The next window's samples must begin here or before."""
        return self._sent

    def join(self, samples: F32, at: int, last: bool) -> F32:
        """`samples` [n] are final from `at` on, counted from the segment's first sample; returns
        those that may leave."""
        assert at <= self._sent, "a window begins where the one before it ended, or earlier"
        body = samples[self._sent - at :].astype(np.float32)  # a copy
        held = self._held.size
        assert body.size >= held, "a window covers what was held back"
        body[:held] = self._held + (body[:held] - self._held) * self._ramp[:held]
        keep = 0 if last else min(self._ramp.size, body.size)
        out, self._held = body[: body.size - keep], body[body.size - keep :]
        self._sent += out.size
        return out
