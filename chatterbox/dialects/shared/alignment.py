"""When each character is spoken: exact at the segments' bounds, evenly spread within a segment.

Until a segment's end is known, its length is estimated from its text, and the error is corrected at
its end.
"""

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

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
    """Characters and when they begin and end, in seconds of one clock: three lists of one length,
    each character beginning where the one before it ends."""

    characters: list[str] = field(default_factory=list)
    starts_s: list[float] = field(default_factory=list)
    ends_s: list[float] = field(default_factory=list)

    def extend(self, later: "Alignment") -> None:
        """Put `later` behind it."""
        self.characters += later.characters
        self.starts_s += later.starts_s
        self.ends_s += later.ends_s

    def scale(self, by: float) -> None:
        """Turn the clock: a change of tempo keeps lengths only nearly (to 50 ms)."""
        self.starts_s = [_floor_ms(time_s * by) for time_s in self.starts_s]
        self.ends_s = [_floor_ms(time_s * by) for time_s in self.ends_s]

    def end_at(self, end_s: float) -> None:
        """Let the last character last until then: silence after it is its own."""
        if self.ends_s:
            self.ends_s[-1] = max(self.ends_s[-1], _floor_ms(end_s))


def spread(text: str, before_s: float, start_s: float, end_s: float) -> Alignment:
    """`text`, spoken from `start_s` to `end_s` where the sound before it ended at `before_s`: the
    blanks that lead it are the pause between."""
    blanks = len(text) - len(text.lstrip())
    spoken = len(text) - blanks
    bounds = [before_s + (start_s - before_s) * nth / blanks for nth in range(blanks)]
    bounds += [start_s + (end_s - start_s) * nth / spoken for nth in range(spoken)]
    bounds = [_floor_ms(bound) for bound in (*bounds, end_s)]
    return Alignment(list(text), bounds[:-1], bounds[1:])


def _floor_ms(time_s: float) -> float:
    """To the millisecond, and never past the end of the sound."""
    return math.floor(time_s * 1000) / 1000


class Timing:
    """Times of one text's characters, counted from its audio's start (`lead_s` of silence)."""

    def __init__(self, text: str, report: SpeechReport, lead_s: float = 0.0) -> None:
        self._report = report
        self._lead_s = lead_s
        self._pieces = original_pieces(text, report.segment_texts)
        self._segment = 0
        self._emitted = 0  # characters of the segment
        self._emitted_until_s = 0.0

    def until(self, now_s: float) -> Alignment:
        """The characters from where the last call left off to the moment `now_s` of the sound;
        where there are any, they fill that time from end to end."""
        found = Alignment()
        ends_s = self._report.segment_ends_s
        begun = min(len(self._pieces), len(self._report.segment_starts_s))
        while (nth := self._segment) < begun:
            end_s = self._lead_s + ends_s[nth] if nth < len(ends_s) else None
            if end_s is None or end_s > now_s + _SAMPLE_S:
                self._emit(found, self._spoken_chars(nth, now_s, end_s), now_s)
                break
            self._emit_rest(found, end_s)
        return found

    def rest(self, now_s: float) -> Alignment:
        """The remaining characters, when the audio is complete and `now_s` long."""
        found = self.until(now_s)
        while self._segment < len(self._pieces):
            self._emit_rest(found, now_s)
        found.end_at(now_s)
        return found

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

    def _emit_rest(self, found: Alignment, end_s: float) -> None:
        self._emit(found, len(self._pieces[self._segment]), end_s)
        self._segment, self._emitted = self._segment + 1, 0

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


@dataclass(frozen=True, slots=True)
class Word:
    """A word and when it is spoken."""

    text: str
    start_s: float
    end_s: float


class Words:
    """Characters in pieces become whole words."""

    def __init__(self) -> None:
        self._text = ""
        self._start_s = 0.0
        self._end_s = 0.0

    def feed(self, alignment: Alignment, offset_s: float = 0.0) -> list[Word]:
        """The words that these characters complete."""
        words = []
        for character, start_s, end_s in zip(
            alignment.characters, alignment.starts_s, alignment.ends_s, strict=True
        ):
            if character.isspace():
                words += self.flush()
                continue
            if not self._text:
                self._start_s = offset_s + start_s
            self._text += character
            self._end_s = offset_s + end_s
        return words

    def flush(self) -> list[Word]:
        """The word that was begun, if one was."""
        if not self._text:
            return []
        word = Word(self._text, round(self._start_s, 3), round(self._end_s, 3))
        self._text = ""
        return [word]


def original_pieces(text: str, segments: Sequence[str]) -> list[str]:
    """`text` as it was written, cut where its spoken form was cut into `segments`. Joined, the
    pieces are `text`; the blank between two segments leads the later one. About linear time.

    A cut is exact where the words beside it stand in both forms, else placed by proportion.
    """
    written = _words(text)
    spoken = [word for segment in segments for word in _words(segment)]
    match = _Match(written, spoken)
    cuts, first = [0], 0
    for segment in segments[:-1]:
        first += len(_words(segment))
        nth = match.written_at(first)
        cut = len(text) if nth == len(written) else written[nth].start
        while cut > 0 and text[cut - 1].isspace():
            cut -= 1
        cuts.append(max(cut, cuts[-1]))
    return [text[left:right] for left, right in zip(cuts, [*cuts[1:], len(text)], strict=True)]


@dataclass(frozen=True, slots=True)
class _Word:
    start: int  # in its text
    key: str  # what of it is heard


def _words(text: str) -> list[_Word]:
    found = []
    for match in _WORD.finditer(text):
        key = "".join(c for c in match[0].casefold() if c.isalnum())
        if key:
            found.append(_Word(match.start(), key))
    return found


class _Match:
    """Which written word is the n-th spoken one?"""

    def __init__(self, written: Sequence[_Word], spoken: Sequence[_Word]) -> None:
        self._written = written
        pairs = _anchors([word.key for word in written], [word.key for word in spoken])
        # One before the first and one behind the last word match each other always.
        self._spoken_at = [-1, *(pair[0] for pair in pairs), len(spoken)]
        self._written_at = [-1, *(pair[1] for pair in pairs), len(written)]
        self._heard = [0, *accumulate(len(word.key) for word in spoken)]  # before the n-th word
        self._seen = [0, *accumulate(len(word.key) for word in written)]

    def written_at(self, nth: int) -> int:
        """The written word that the `nth` spoken one begins; their number where none is left."""
        after = bisect_left(self._spoken_at, nth)
        if self._spoken_at[after] == nth:
            return self._written_at[after]
        first, last = self._written_at[after - 1] + 1, self._written_at[after]
        left, right = self._spoken_at[after - 1] + 1, self._spoken_at[after]
        share = (self._heard[nth] - self._heard[left]) / (self._heard[right] - self._heard[left])
        target = self._seen[first] + share * (self._seen[last] - self._seen[first])
        behind = min(last, bisect_left(self._seen, target, first))
        nearest = (max(first, behind - 1), behind)
        return min(nearest, key=lambda word: abs(self._seen[word] - target))


def _anchors(written: Sequence[str], spoken: Sequence[str]) -> list[tuple[int, int]]:
    """(spoken, written) indices of words that are the same, rising in both."""
    places: dict[str, list[int]] = {}
    for index, key in enumerate(spoken):
        places.setdefault(key, []).append(index)
    found: list[tuple[int, int]] = []
    at, heard = 0, 0
    while at < len(written) and heard < len(spoken):
        if written[at] != spoken[heard]:
            ahead = _next_same(written, at, spoken, heard, places)
            if ahead is None:
                at += 1
                continue
            at, heard = ahead
        found.append((heard, at))
        at, heard = at + 1, heard + 1
    return found


def _next_same(
    written: Sequence[str],
    at: int,
    spoken: Sequence[str],
    heard: int,
    places: dict[str, list[int]],
) -> tuple[int, int] | None:
    """Where the two meet again, at the least cost in words passed over."""
    best: tuple[int, int, int] | None = None
    for there in range(at, min(at + SKIPPED_WORDS + 1, len(written))):
        same = places.get(written[there], [])
        index = bisect_right(same, heard - 1)
        if index == len(same):
            continue
        cost = (there - at) + (same[index] - heard)
        followed = written[there + 1 : there + 2] == spoken[same[index] + 1 : same[index] + 2]
        if cost <= (ADDED_WORDS if followed else NEAR_WORDS) and (best is None or cost < best[0]):
            best = (cost, there, same[index])
    return None if best is None else (best[1], best[2])
