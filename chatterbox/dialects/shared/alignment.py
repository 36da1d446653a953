"""When each character is spoken: exact at the segments' bounds, evenly spread within a segment.

Until a segment's end is known, its length is estimated from its text, and the error is corrected at
its end.
"""

import math
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from chatterbox.arrays import SAMPLE_RATE_HZ
from chatterbox.engine.speech_stream import SpeechReport

CHARS_PER_S = 15.0
"""English speech: the estimate for a segment that is still being generated."""
MOST_SHARE = 0.8
"""While a segment's end is unknown, at most this share of its characters counts as spoken."""
_SAMPLE_S = 1 / SAMPLE_RATE_HZ  # two sums of the same pieces may differ by less
SKIPPED_WORDS = 8
"""So many written words in a row may be spoken as others (figures, addresses)."""
ADDED_WORDS = 120
"""And so many spoken ones may come of them: a long number, digit by digit."""
NEAR_WORDS = 12
"""A word alone is taken for the same one only so near; two in a row may be further off."""
_WORD = re.compile(r"\S+")


@dataclass(slots=True)
class Alignment:
    """Characters, and when each begins and the last one ends, in seconds of one clock: each ends
    where the next begins."""

    characters: list[str] = field(default_factory=list)
    bounds_s: list[float] = field(default_factory=list)

    def extend(self, later: "Alignment") -> None:
        """Put `later` behind it."""
        if later.characters:
            self.characters += later.characters
            self.bounds_s[-1:] = later.bounds_s

    def later(self, by_s: float) -> "Alignment":
        """The same by a clock that began so much earlier."""
        return Alignment(self.characters, [by_s + bound_s for bound_s in self.bounds_s])

    def scale(self, by: float) -> None:
        """Turn the clock: a change of tempo keeps lengths only nearly (to 50 ms)."""
        self.bounds_s = [_floor_ms(bound_s * by) for bound_s in self.bounds_s]

    def end_at(self, end_s: float) -> None:
        """Let the last character last until then: silence after it is its own."""
        if self.characters:
            self.bounds_s[-1] = max(self.bounds_s[-1], _floor_ms(end_s))


def spread(text: str, before_s: float, start_s: float, end_s: float) -> Alignment:
    """`text`, spoken from `start_s` to `end_s` where the sound before it ended at `before_s`: the
    blanks that lead it are the pause between."""
    blanks = len(text) - len(text.lstrip())
    spoken = len(text) - blanks
    bounds = [before_s + (start_s - before_s) * nth / blanks for nth in range(blanks)]
    bounds += [start_s + (end_s - start_s) * nth / spoken for nth in range(spoken)]
    return Alignment(list(text), [_floor_ms(bound) for bound in (*bounds, end_s)])


def _floor_ms(time_s: float) -> float:
    """To the millisecond, and never past the end of the sound."""
    return math.floor(time_s * 1000) / 1000


class Word(NamedTuple):
    """A word and when it is spoken."""

    text: str
    start_s: float
    end_s: float


class Timing:
    """Times of one text's characters, counted from its audio's start (`lead_s` of silence).
    `pieces`: what of the text each segment speaks."""

    def __init__(self, pieces: Sequence[str], report: SpeechReport, lead_s: float = 0.0) -> None:
        self._report = report
        self._lead_s = lead_s
        self._pieces = pieces
        self._segment = 0
        self._emitted = 0  # characters of the segment
        self._emitted_until_s = 0.0
        self._word = Alignment()  # that has begun

    def until(self, now_s: float, *, last: bool = False) -> Alignment:
        """The characters from where the last call left off to the moment `now_s` of the sound;
        where there are any, they fill that time from end to end. `last`: the sound is complete
        and so long, and all characters that are left come."""
        found = Alignment()
        ends_s = self._report.segment_ends_s
        begun = len(self._pieces if last else self._report.segment_starts_s)
        while (nth := self._segment) < min(begun, len(self._pieces)):
            end_s = self._lead_s + ends_s[nth] if nth < len(ends_s) else None
            if end_s is None or end_s > now_s + _SAMPLE_S:
                if not last:
                    self._emit(found, self._spoken_chars(nth, now_s, end_s), now_s)
                    break
                end_s = now_s
            self._emit(found, len(self._pieces[nth]), end_s)
            self._segment, self._emitted = nth + 1, 0
        if last:
            found.end_at(now_s)
        return found

    def words(self, now_s: float, *, last: bool = False, since_s: float = 0.0) -> list[Word]:
        """The same in whole words, in seconds since `since_s` before the sound."""
        found = self._word
        found.extend(self.until(now_s, last=last))
        text = "".join(found.characters)
        spans = [match.span() for match in _WORD.finditer(text)]
        self._word = Alignment()
        if spans and spans[-1][1] == len(text) and not last:
            start, _ = spans.pop()
            self._word = Alignment(found.characters[start:], found.bounds_s[start:])
        times_s = [round(since_s + bound_s, 3) for bound_s in found.bounds_s]
        return [Word(text[start:end], times_s[start], times_s[end]) for start, end in spans]

    def _start_s(self, nth: int) -> float:
        starts_s = self._report.segment_starts_s
        return self._lead_s + starts_s[nth] if nth < len(starts_s) else self._emitted_until_s

    def _spoken_chars(self, nth: int, now_s: float, end_s: float | None) -> int:
        """How many characters of the segment have been spoken by now; never all of them."""
        chars, spoken_s = len(self._pieces[nth]), now_s - self._start_s(nth)
        if spoken_s <= 0:
            return self._emitted
        if end_s is None:
            whole_s = max(chars / CHARS_PER_S, spoken_s / MOST_SHARE)
        else:
            whole_s = end_s - self._start_s(nth)
        return max(self._emitted, min(chars - 1, int(chars * spoken_s / whole_s)))

    def _emit(self, found: Alignment, until: int, now_s: float) -> None:
        piece = self._pieces[self._segment][self._emitted : until]
        if not piece:
            return
        since_s = self._emitted_until_s
        start_s = min(max(since_s, self._start_s(self._segment)), now_s)
        if not piece.strip():
            start_s = now_s
        elif self._emitted or not piece[0].isspace():
            start_s = since_s  # no blank leads it: the pause before it is its own
        found.extend(spread(piece, since_s, start_s, now_s))
        self._emitted, self._emitted_until_s = until, now_s


def original_pieces(text: str, segments: Sequence[str]) -> list[str]:
    """`text` as it was written, cut where its spoken form was cut into `segments`. Joined, the
    pieces are `text`; the blank between two segments leads the later one. About linear time.

    A cut is exact where the words beside it stand in both forms, else placed by proportion.
    """
    written = _words(text)
    spoken = [_words(segment) for segment in segments]
    keys = [key for words in spoken for _, key in words]
    heard = np.cumsum([0, *map(len, keys)])  # characters before the n-th word
    seen = np.cumsum([0, *(len(key) for _, key in written)])
    here, there = [0], [0]  # what is as far in both
    for nth, at in _anchors([key for _, key in written], keys):
        here += [heard[nth], heard[nth + 1]]
        there += [seen[at], seen[at + 1]]
    firsts = np.cumsum([len(words) for words in spoken[:-1]], dtype=int)
    wanted = np.interp(heard[firsts], [*here, heard[-1]], [*there, seen[-1]])
    behind = np.searchsorted(seen, wanted)
    before = np.maximum(behind - 1, 0)
    nearest = np.where(wanted - seen[before] <= seen[behind] - wanted, before, behind)
    starts = [*(start for start, _ in written), len(text)]
    cuts = [0]
    for cut in map(starts.__getitem__, nearest):
        while cut > 0 and text[cut - 1].isspace():
            cut -= 1
        cuts.append(max(cut, cuts[-1]))
    return [text[left:right] for left, right in pairwise([*cuts, len(text)])]


def _words(text: str) -> list[tuple[int, str]]:
    """Where each word begins, and what of it is heard."""
    found = (
        (match.start(), "".join(filter(str.isalnum, match[0].casefold())))
        for match in _WORD.finditer(text)
    )
    return [(start, key) for start, key in found if key]


def _anchors(written: Sequence[str], spoken: Sequence[str]) -> list[tuple[int, int]]:
    """(spoken, written) indices of words that are the same, rising in both. Where the two differ,
    they meet again at the least cost in words passed over."""
    places: dict[str, list[int]] = defaultdict(list)
    for index, key in enumerate(spoken):
        places[key].append(index)
    found: list[tuple[int, int]] = []
    at, heard = 0, 0
    while at < len(written) and heard < len(spoken):
        meetings = [(0, at, heard)] if written[at] == spoken[heard] else []
        for there in range(at, min(at + SKIPPED_WORDS + 1, len(written))) if not meetings else ():
            same = places.get(written[there], [])
            if (index := bisect_left(same, heard)) < len(same):
                then = same[index]
                cost = (there - at) + (then - heard)
                followed = written[there + 1 : there + 2] == spoken[then + 1 : then + 2]
                if cost <= (ADDED_WORDS if followed else NEAR_WORDS):
                    meetings.append((cost, there, then))
        if meetings:
            _, at, heard = min(meetings)
            found.append((heard, at))
            heard += 1
        at += 1
    return found
